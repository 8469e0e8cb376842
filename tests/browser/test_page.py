# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""report.html in a real browser: what a phone, a wide screen, the dark and a printer make of it."""

from __future__ import annotations

import pytest

PAGES = ("blocked", "partly", "lab")
WIDTHS = (360, 1200)
SCHEMES = ("light", "dark")

#: Every piece of text that is to be seen: [text, its colour, what is behind it, its box].
TEXTS = """
const seen = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim();
  const element = walker.currentNode.parentElement;
  if (!text || element.closest('style, title, desc') || !element.checkVisibility()) continue;
  const range = document.createRange();
  range.selectNodeContents(walker.currentNode);
  const box = range.getBoundingClientRect();
  if (!box.width || element.closest('.stack thead')?.offsetWidth === 1) continue;
  const svg = element.closest('svg');
  let colour = getComputedStyle(element).color, behind = null;
  if (svg) {
    colour = getComputedStyle(element).fill;
    const x = box.x + box.width / 2, y = box.y + box.height / 2;
    for (const rect of svg.querySelectorAll('rect')) {
      const area = rect.getBoundingClientRect(), fill = getComputedStyle(rect).fill;
      if (fill !== 'none' && area.left <= x && x <= area.right && area.top <= y && y <= area.bottom)
        behind = fill;
    }
  }
  for (let up = element; up && !behind; up = up.parentElement) {
    const fill = getComputedStyle(up).backgroundColor;
    if (fill !== 'rgba(0, 0, 0, 0)') behind = fill;
  }
  seen.push([text, colour, behind, [box.left, box.top, box.right, box.bottom]]);
}
return seen;
"""

#: Boxes of a drawing's texts, and of the drawing: [[text, left, top, right, bottom], …].
DRAWN = """
return [...document.querySelectorAll('svg')].map(svg => {
  const box = element => { const b = element.getBoundingClientRect();
                           return [b.left, b.top, b.right, b.bottom]; };
  return {frame: box(svg), texts: [...svg.querySelectorAll('text')].map(
    text => [text.textContent].concat(box(text)))};
});
"""


def luminance(colour: str) -> float:
    """Relative luminance of an rgb(…) as WCAG 2.2 defines it."""
    channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.fixture(
    params=[(name, width, scheme) for name in PAGES for width in WIDTHS for scheme in SCHEMES]
)
def shown(request, browser, pages):
    """(browser, name, width, scheme) with that page open."""
    name, width, scheme = request.param
    browser.show(pages[name], width, scheme)
    return browser, name, width, scheme


def test_it_asks_nobody_and_complains_of_nothing(shown, pages):
    browser, name, _width, _scheme = shown
    outside = [url for url in browser.requests() if not url.startswith("data:")]
    assert outside == [pages[name].as_uri()]
    assert browser.complaints() == []


def test_nothing_is_wider_than_the_screen(shown):
    browser, _name, width, _scheme = shown
    assert browser.ask("return document.documentElement.scrollWidth") <= width
    assert browser.ask("document.querySelectorAll('details').forEach(d => d.open = true)") is None
    assert browser.ask("return document.documentElement.scrollWidth") <= width
    wide = [text for text, _colour, _behind, box in browser.ask(TEXTS) if box[2] > width]
    assert wide == []


def test_dark_is_dark_and_all_text_stands_out(shown):
    browser, _name, _width, scheme = shown
    page = browser.ask("return getComputedStyle(document.body).backgroundColor")
    assert (luminance(page) < 0.05) == (scheme == "dark")
    browser.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
    texts = browser.ask(TEXTS)
    assert len(texts) > 50
    faint = [
        (text, round(contrast(colour, behind), 2))
        for text, colour, behind, _box in texts
        if contrast(colour, behind) < 4.5
    ]
    assert faint == []


def test_drawings_are_there_and_their_texts_in_their_place(shown):
    browser, _name, _width, _scheme = shown
    drawings = browser.ask(DRAWN)
    assert len(drawings) == 2
    for drawing in drawings:
        left, top, right, bottom = drawing["frame"]
        assert right - left > 280 and bottom - top > 80
        boxes = drawing["texts"]
        for text, x1, y1, x2, y2 in boxes:
            assert left <= x1 and x2 <= right and top <= y1 and y2 <= bottom, text
        for index, (one, x1, _y1, x2, y2) in enumerate(boxes):
            for other, x3, y3, x4, _y4 in boxes[index + 1 :]:
                apart = x2 <= x3 or x4 <= x1 or y2 <= y3 + 3
                assert apart, "%r lies over %r" % (other, one)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_blocker_is_in_plain_sight(browser, pages, reports, width):
    browser.show(pages["blocked"], width)
    seen = browser.ask("return document.body.innerText")
    blockers = [
        finding
        for node in reports["blocked"]["nodes"]
        for finding in node["findings"]
        if finding["severity"] == "blocker"
    ]
    assert blockers
    for finding in blockers:
        for part in ("code", "text", "remedy"):
            assert finding[part] in seen
        assert finding["evidence"]["file"] in seen
    # They come before everything else but the head.
    first = browser.ask("return document.querySelector('main h2').innerText")
    assert first == "What needs your attention"
    top = browser.ask(
        "return document.querySelector('.finding.blocker').getBoundingClientRect().top"
    )
    assert top < 800


def test_a_code_leads_to_what_it_means(browser, pages):
    browser.show(pages["blocked"], 360)
    browser.ask("document.querySelector('a[href=\"#HC104\"]').click()")
    top = browser.ask("return document.getElementById('HC104').getBoundingClientRect().top")
    assert -1 <= top < 800
    assert "Two cgroup managers" in browser.ask("return document.getElementById('HC104').innerText")


@pytest.mark.parametrize("name", ["blocked", "partly"])
def test_hostile_names_are_text(browser, pages, name):
    browser.show(pages[name], 1200)
    assert browser.ask("return document.title") != "owned"
    assert browser.ask("return document.querySelectorAll('script').length") == 0
    text = browser.ask("return document.body.textContent")
    assert "<script>document.title='owned'</script>" in text
    assert "\\x1b[31mred" in text and "\\u202egpj.exe" in text
    assert not set(text) & set("\x1b\x07\u202e")


def test_paper_has_what_is_folded_on_a_screen(browser, pages):
    browser.show(pages["blocked"], 1200, media="print")
    assert browser.ask("return document.querySelector('details').open") is False
    folded = "return document.querySelector('details table').checkVisibility()"
    assert browser.ask(folded) is True
    browser.show(pages["blocked"], 1200)
    assert browser.ask(folded) is False


def test_pictures_for_a_person(browser, pages):
    """Screenshots are kept in pytest's directory: the last line of `make browser -s` says where."""
    for name in PAGES:
        for width in WIDTHS:
            for scheme in SCHEMES:
                browser.show(pages[name], width, scheme)
                made = browser.picture("%s-%d-%s" % (name, width, scheme))
                assert made.stat().st_size > 20_000

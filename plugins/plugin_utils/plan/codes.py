# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the codes of findings mean, as data: codes.yml, and docs/codes.md that is written from it.

Run it (`make codes`) to write docs/codes.md after a change of codes.yml or purposes.py.
"""

from __future__ import annotations

import pathlib
import re
import typing as t

import yaml
from ansible_collections.homelab.containerd.plugins.plugin_utils.purposes import PURPOSES


class _Code(t.TypedDict):
    title: str
    meaning: str
    evidence: str
    remedy: str


class Code(_Code, total=False):
    """An entry of codes.yml, which says what each key is for."""

    table: list[list[str]]
    override: str
    source: str
    see: list[str]


CODES: dict[str, Code] = yaml.safe_load(
    pathlib.Path(__file__).with_name("codes.yml").read_text(encoding="utf-8")
)
# Both say the same of a purpose, so it is written once.
CODES["HC203"]["table"] = [["it", "after the switch it", "remedy"]] + [
    [use.title, use.outcome, use.remedy] for use in PURPOSES.values()
]

#: In docs/codes.md, what is between these is written; the rest is edited by hand.
BEGIN = "<!-- Written by make codes from plugins/plugin_utils/plan/codes.yml: edit that. -->\n"
END = "<!-- The end of what make codes writes. -->\n"


def remedy(code: str) -> str:
    """As a finding has it: without the marks of `code`."""
    return CODES[code]["remedy"].replace("`", "")


def link(code: str) -> str:
    """Where docs/codes.md has the code; the anchor is made as GitHub makes it of a heading."""
    if code not in CODES:
        return "docs/codes.md"
    heading = "%s: %s" % (code, CODES[code]["title"])
    return "docs/codes.md#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def markdown() -> str:
    """The sections of all codes."""
    return "\n".join(_section(code, entry) for code, entry in CODES.items())


def _section(code: str, entry: Code) -> str:
    parts = ["## %s: %s" % (code, entry["title"])]
    parts += entry["meaning"].splitlines()
    if "table" in entry:
        head, *rows = ["| %s |" % " | ".join(row) for row in entry["table"]]
        parts.append("\n".join([head, "|---" * len(entry["table"][0]) + "|", *rows]))
    points = ["Evidence: " + entry["evidence"], "Remedy: " + entry["remedy"]]
    if "override" in entry:
        points.append("Overridden: " + entry["override"])
    if "source" in entry:
        points.append("Source: " + entry["source"])
    if "see" in entry:
        points.append("See: " + ", ".join("[%s](%s)" % (page, page) for page in entry["see"]))
    parts.append("\n".join("- " + point for point in points))
    return "\n\n".join(parts) + "\n"


def written(page: str) -> str:
    """docs/codes.md with its sections as they have to be."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return before + BEGIN + "\n" + markdown() + "\n" + END + after


if __name__ == "__main__":
    path = pathlib.Path(__file__).resolve().parents[3] / "docs/codes.md"
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")

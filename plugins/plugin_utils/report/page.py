# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A report (model.py) as one page of HTML that needs nothing else: no script, no network.

page.html.j2 has the page; here are the pictures and the timeline.
"""

from __future__ import annotations

import functools
import pathlib
import typing as t
from collections.abc import Sequence

import jinja2
from ansible_collections.homelab.containerd.plugins.plugin_utils import purposes
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
    Report,
    ReportNode,
    ReportUser,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.codes import CODES
from ansible_collections.homelab.containerd.plugins.plugin_utils.report import text as report_text
from ansible_collections.homelab.containerd.plugins.plugin_utils.report.model import (
    all_findings,
    grouped,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.report.shape import Object
from ansible_collections.homelab.containerd.plugins.plugin_utils.wording import (
    about,
    duration,
    plural,
    size,
)

TEMPLATE = pathlib.Path(__file__).with_name("page.html.j2")
#: A picture's measures, in its own units; a phone shows them one to one.
WIDTH = 328
PAD = 10
LINE = 17
DOT = 9
#: So many nodes, pods of a node and lines of a kind are drawn; the rest is a number.
NODES, PODS, LINES = 24, 60, 4
#: What a picture's line can hold.
LETTERS = 44
#: A time axis has about so many marks.
MARKS = 5
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


def page(report: Report) -> str:
    groups = grouped(all_findings(report))
    found = dict.fromkeys(group["code"] for group in groups)
    return _template().render(
        report=report,
        headline=report_text.headline(report),
        outcomes=report_text.outcomes(report),
        groups=groups,
        phases=report_text.phases(report),
        before=picture(report, "before"),
        after=picture(report, "after"),
        chart=chart(report),
        codes={code: CODES[code] for code in found if code in CODES},
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(
        about=about,
        duration=duration,
        size=size,
        plural=plural,
        shorten=report_text.shorten,
        place=report_text.place,
        clock=report_text.clock,
        away=report_text.away,
        moved=report_text.moved,
        went=report_text.went,
        status=report_text.status,
        outcome=report_text.outcome,
        purpose=purposes.purpose,
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


class _Drawing:
    """Shapes from top to bottom: {"kind": "rect", "text" or "line", its measures, "css"}."""

    def __init__(self) -> None:
        self.shapes: list[Object] = []
        self.y = 0.0

    def rect(self, x: float, y: float, width: float, height: float, css: str) -> Object:
        shape = {"kind": "rect", "x": x, "y": y, "width": width, "height": height, "css": css}
        self.shapes.append(shape)
        return shape

    def text(self, x: float, text: str, css: str = "", end: bool = False) -> None:
        limit = LETTERS - round(x / 7) if not end else 22
        self.shapes.append(
            {
                "kind": "text",
                "x": x,
                "y": self.y + LINE - 5,
                "text": report_text.shorten(text, limit),
                "css": css,
                "end": end,
            }
        )

    def dots(self, x: float, count: int, css: str) -> None:
        """A square for each, in rows, and a line's height for each row."""
        room = WIDTH - x - 2 * PAD
        each = int(room // (DOT + 3))
        drawn = min(count, PODS)
        for index in range(drawn):
            row, column = divmod(index, each)
            self.rect(x + column * (DOT + 3), self.y + row * (DOT + 3) + 2, DOT, DOT, css)
        self.y += (-(-drawn // each)) * (DOT + 3) + 3

    def end(self, title: str, description: str) -> Object:
        return {
            "width": WIDTH,
            "height": self.y,
            "shapes": self.shapes,
            "title": title,
            "description": description,
        }


def picture(report: Report, when: str) -> Object:
    """The cluster "before" or "after", as shapes of an SVG WIDTH wide."""
    drawing = _Drawing()
    described = []
    users = report["docker_sock_users"]
    for node in report["nodes"][:NODES]:
        mine = [user for user in users if node["name"] in user["nodes"]]
        described.append(_draw_node(drawing, node, when, mine))
    left = len(report["nodes"]) - NODES
    if left > 0:
        drawing.text(PAD, "and %d more nodes" % left, "muted")
        drawing.y += LINE + PAD
    places = {node["name"] for node in report["nodes"]}
    homeless = [user for user in users if not places & set(user["nodes"])]
    if homeless:
        box = drawing.rect(0.5, drawing.y + 0.5, WIDTH - 1, 0, "outside")
        drawing.y += 4
        drawing.text(PAD, "docker.sock is used by, without a pod now", "small muted")
        drawing.y += LINE
        _draw_users(drawing, homeless, when, PAD)
        drawing.y += 4
        box["height"] = drawing.y - box["y"]
    drawing.y += 1  # half of the last frame's line
    after = "After" if report["mode"] == "migrate" else "After, as planned"
    title = "Before" if when == "before" else after
    return drawing.end(title, ". ".join(described))


def _draw_users(drawing: _Drawing, users: Sequence[ReportUser], when: str, x: float) -> None:
    for user in users[:LINES]:
        drawing.rect(x, drawing.y + 5, 7, 7, "user " + user["purpose"])
        name = "/".join(part for part in (user["namespace"], user["name"]) if part)
        use = purposes.purpose(user["purpose"])
        says = use.after if when == "after" else use.title
        drawing.text(x + 12, report_text.shorten(name, LETTERS - 4 - len(says)), "small")
        drawing.text(WIDTH - x, says, "small muted", end=True)
        drawing.y += LINE - 2
    if users[LINES:]:
        drawing.text(x + 12, "and %d more" % len(users[LINES:]), "small muted")
        drawing.y += LINE - 2


def _engine(
    drawing: _Drawing, css: str, name: str, note: str, rows: Sequence[tuple[str, t.Any]]
) -> None:
    box = drawing.rect(PAD, drawing.y, WIDTH - 2 * PAD, 0, "engine " + css)
    drawing.y += 3
    drawing.text(2 * PAD, name, "strong on-" + css)
    if note:
        drawing.text(WIDTH - 2 * PAD, note, "small on-" + css, end=True)
    drawing.y += LINE
    for kind, value in rows:
        if kind == "text":
            drawing.text(2 * PAD, value, "small on-" + css)
            drawing.y += LINE - 2
        elif value:
            noun = "pod" if kind == "pod" else "user-managed container"
            drawing.text(2 * PAD, plural(value, noun), "small on-" + css)
            drawing.y += LINE
            drawing.dots(2 * PAD, value, kind)
    drawing.y += 4
    box["height"] = drawing.y - box["y"]
    drawing.y += 6


def _draw_node(drawing: _Drawing, node: ReportNode, when: str, users: Sequence[ReportUser]) -> str:
    """Draws a node as it is or will be, and returns the same in words."""
    before, after = node["before"], node["after"]
    state = before if when == "before" else after
    runtime = report_text.brief(state["runtime"]) or "unknown runtime"
    name = node["host"] or node["name"]
    box = drawing.rect(0.5, drawing.y + 0.5, WIDTH - 1, 0, "node")
    drawing.y += 6
    drawing.text(PAD, report_text.shorten(name, 24), "strong")
    roles = ["control plane" if role == "control-plane" else role for role in node["roles"]]
    if node["host"]:
        drawing.text(WIDTH - PAD, ", ".join(roles), "small muted", end=True)
    else:
        drawing.text(WIDTH - PAD, "not in the inventory", "small muted", end=True)
    drawing.y += LINE + 4
    docker = runtime.startswith("docker")
    pods = state["pods"] or 0
    images = before["images"] and "%s, %s" % (
        plural(before["images"], "image"),
        size(before["image_bytes"]),
    )
    own = before["containers_own"]
    rows: list[tuple[str, t.Any]] = [("text", images)] if images else []
    rows.append(("pod", pods))
    _engine(
        drawing, "docker" if docker else "containerd", runtime, "", rows + [("own", own)] * docker
    )
    words = "%s: %s on %s" % (name, plural(pods, "pod"), runtime)
    if own:
        words += ", " + plural(own, "user-managed container")
    if when == "after" and after["buildkit"]:
        _engine(drawing, "buildkit", "BuildKit", "replaces docker build", [])
        words += ", BuildKit"
    moved = when == "after" and not docker and before["runtime"].startswith("docker")
    if moved:
        left = report_text.brief(before["runtime"])
        _engine(drawing, "docker", left, "stays, without pods", [("own", own)])
    elif own and not docker:
        _engine(drawing, "docker", "docker", "", [("own", own)])
    if users:
        drawing.text(2 * PAD, "docker.sock is used by", "small muted")
        drawing.y += LINE - 1
        _draw_users(drawing, users, when if moved or when == "before" else "before", 2 * PAD)
        words += ", %s of docker.sock" % plural(len(users), "user")
    drawing.y += 4
    box["height"] = drawing.y - box["y"]
    drawing.y += 10
    return words


def chart(report: Report) -> Object | None:
    """The timeline: marks of the axis and, for each node, its bars in per cent of the whole.

    Planned bars and, after a migration, actual ones start at the same second.
    """
    planned, actual = report["timeline"]["planned"], report["timeline"]["actual"]
    whole = max((span["end"] for span in planned + actual), default=0.0)
    if not whole:
        return None
    step = next((step for step in STEPS if whole / step <= MARKS), STEPS[-1])
    marks: list[Object] = []
    while step * len(marks) <= whole * 0.87:
        seconds = step * len(marks)
        marks.append({"at": 100 * seconds / whole, "text": about(seconds) if seconds else "0"})
    rows = []
    for host in report["order"]:
        tracks = []
        for name, bars in (("planned", planned), ("actual", actual)):
            mine = [
                dict(
                    span,
                    left=round(100 * span["start"] / whole, 3),
                    width=round(100 * (span["end"] - span["start"]) / whole, 3),
                )
                for span in bars
                if span["host"] == host and span["end"] > span["start"]
            ]
            if mine:
                tracks.append({"name": name, "bars": mine})
        if tracks:
            rows.append({"host": host, "tracks": tracks})
    return {"marks": marks, "rows": rows, "whole": whole, "both": bool(actual)}

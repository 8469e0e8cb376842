# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When each part of a migration ran on each node, planned and actual."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
    Phase,
    PhaseSeconds,
    ReportNode,
    Span,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.report.shape import Map
from ansible_collections.homelab.containerd.plugins.plugin_utils.wording import plural, size


def _span(host: str, phase: Phase, start: float, seconds: float, text: str, outage: bool) -> Span:
    return {
        "host": host,
        "phase": phase,
        "start": round(start, 2),
        "end": round(start + seconds, 2),
        "outage": outage,
        "text": text,
    }


def _at_once(serial: int | str, workers: int) -> int:
    """How many of the workers: a number, or a percentage as in serial: "30%"."""
    number, percent, _rest = str(serial).strip().partition("%")
    if not number.isdecimal():
        return 1
    return max(1, workers * int(number) // 100 if percent else int(number))


def planned_spans(nodes: list[ReportNode], serial: int | str) -> list[Span]:
    """When each step will run: seconds from the start of the first."""
    spans: list[Span] = []
    clock = 0.0

    def run(batch: list[ReportNode], phase: Phase) -> None:
        nonlocal clock
        ends = [clock]
        for node in batch:
            at = clock
            for step in node["steps"]:
                if step["phase"] == phase:
                    spans.append(
                        _span(
                            node["host"], phase, at, step["seconds"], step["text"], step["outage"]
                        )
                    )
                    at += step["seconds"]
            ends.append(at)
        clock = max(ends)

    ours = [node for node in nodes if node["host"]]
    control = [node for node in ours if node["summary"]["control_plane"]]
    workers = [node for node in ours if not node["summary"]["control_plane"]]
    at_once = _at_once(serial, len(workers))
    run(ours, "prepare")
    for node in control:
        run([node], "switch")
    for first in range(0, len(workers), at_once):
        run(workers[first : first + at_once], "switch")
    run(ours, "buildkit")
    for node in ours:
        run([node], "verify")
    return spans


def actual_spans(nodes: list[ReportNode], results: Mapping[str, Map]) -> list[Span]:
    """When what happened: seconds from the first time of the run, by the controller's clock.

    Without these times (the playbook report alone, later) they come from the nodes' journals.
    """
    made: list[Span] = []
    for node in nodes:
        outcome = results.get(node["host"])
        if outcome is None or node["actual"] is None:
            continue
        marks, carry = outcome.get("marks") or {}, outcome.get("carry") or {}
        switch, journal = outcome.get("switch") or {}, outcome.get("journal") or {}
        spans: list[tuple[Phase, t.Any, t.Any, str, bool]] = []
        carried = carry.get("start") or 0
        if marks.get("prepare") and marks.get("prepared"):
            spans.append(
                ("prepare", marks["prepare"], carried or marks["prepared"], "prepared", False)
            )
        if carried:
            text = "%s, %s carried" % (
                plural(node["actual"]["images_carried"], "image"),
                size(node["actual"]["bytes_carried"]),
            )
            spans.append(("prepare", carried, carry.get("end"), text, False))
        began = switch.get("start")
        if switch.get("changed") and began and switch.get("outage_seconds") is not None:
            ready = began + switch["outage_seconds"]
            last = began + (switch.get("pods_ready_seconds") or switch["outage_seconds"])
            spans.append(("switch", marks.get("switch"), began, "drained", False))
            spans.append(("switch", began, ready, "away until Ready", True))
            spans.append(("switch", ready, last, "pods start until all are ready", True))
        elif journal.get("end") and journal["start"] >= marks.get("prepare", 0):
            text = "went back to docker" if journal.get("state") == "rolled_back" else "switched"
            spans.append(("switch", journal["start"], journal["end"], text, True))
        if outcome.get("buildkit"):
            spans.append(
                ("buildkit", marks.get("buildkit"), marks.get("verify"), "BuildKit", False)
            )
        if outcome.get("verify"):
            spans.append(("verify", marks.get("verify"), marks.get("end"), "tests", False))
        made += [
            _span(node["host"], phase, start, end - start, text, outage)
            for phase, start, end, text, outage in spans
            if start and end and end > start
        ]
    first = min((span["start"] for span in made), default=0.0)
    for span in made:
        span["start"], span["end"] = round(span["start"] - first, 2), round(span["end"] - first, 2)
    return sorted(made, key=lambda span: span["start"])


def phase_seconds(node: ReportNode | None, spans: list[Span]) -> PhaseSeconds:
    """How long each phase of a node takes."""
    found: PhaseSeconds = {"prepare": 0.0, "switch": 0.0, "buildkit": 0.0, "verify": 0.0}
    for span in spans:
        if node and node["host"] and span["host"] == node["host"]:
            phase = span["phase"]
            found[phase] = round(found[phase] + span["end"] - span["start"], 2)
    return found

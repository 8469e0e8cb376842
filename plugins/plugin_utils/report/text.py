# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A report (model.py) for a terminal: one screen for a cluster, or all of it. Pure functions."""

from __future__ import annotations

import json
import textwrap
import typing as t
from collections.abc import Iterator, Sequence

from ansible_collections.homelab.containerd.plugins.plugin_utils import purposes
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
    Actual,
    Evidence,
    PlanStep,
    Report,
    ReportNode,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.report.model import (
    all_findings,
    grouped,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.report.shape import PHASES
from ansible_collections.homelab.containerd.plugins.plugin_utils.wording import (
    about,
    duration,
    join_limited,
    plural,
    size,
)

#: A line and its colour, by the names that Ansible has for them (None: as it is).
Line = tuple[str, str | None]
HEADING = "bright blue"
COLOURS = {"blocker": "red", "warning": "yellow", "overridden": "yellow"}

STATUS = {
    "blocked": ("blocked", "red"),
    "ready": ("ready", None),
    "unfinished": ("switch interrupted", "yellow"),
    "done": ("on containerd", "green"),
    "outside": ("not in inventory", "yellow"),
    "migrated": ("migrated", "green"),
    "rolled_back": ("back on docker", "red"),
    "on_docker": ("on docker", "yellow"),
    "not_ready": ("not Ready", "red"),
}

OUTCOMES = {
    "translated": "translated",
    "not_needed": "not needed",
    "no_equivalent": "no equivalent",
    "unknown": "invalid",
}

#: The short form has so many different sentences of a code, and places of each.
SHOWN = 3
#: The short form has the switches of more nodes than that in one line.
SWITCHES = 6


def lines(report: Report, verbose: bool = False, width: int = 96) -> list[Line]:
    """The report for a terminal of that many columns."""
    parts = [
        _head(report, width),
        _nodes(report, width),
        _needs(report, verbose, width),
        _plan(report, verbose, width),
    ]
    if report["mode"] == "migrate":
        parts.insert(2, _happened(report, verbose, width))
    if verbose:
        parts += [_sock_users(report, width), _details(report, width)]
    shown: list[Line] = []
    for part in parts:
        found = list(part)
        if found and shown:
            shown.append(("", None))
        shown += found
    return [(line.rstrip(), colour) for line, colour in shown]


def text(report: Report, verbose: bool = True, width: int = 96) -> str:
    """The same without colours, as report.txt has it."""
    return "".join(line + "\n" for line, _colour in lines(report, verbose, width))


def headline(report: Report) -> str:
    """The one sentence that counts."""
    nodes = [node for node in report["nodes"] if node["host"]]
    totals = report["totals"]
    verdict = report["verdict"]
    if verdict == "blocked":
        count = totals["blockers"]
        return "The migration is blocked by %s: nothing will be changed" % plural(count, "finding")
    if verdict == "done":
        return "Nothing to do: every node is on containerd"
    if verdict == "ready":
        left = [node for node in nodes if node["state"] == "migrate"]
        return "Ready to migrate: %s%s" % (
            plural(len(left), "node"),
            ", about %s" % about(totals["seconds"]) if totals["seconds"] else "",
        )
    good = sum(node["status"] in ("migrated", "done") for node in nodes)
    if verdict == "migrated":
        return "Migrated: %s on containerd" % plural(good, "node")
    return "Incomplete: %d of %s on containerd" % (good, plural(len(nodes), "node"))


def shorten(value: t.Any, limit: int) -> str:
    """A value on one line, cut with an ellipsis; anything but text as JSON."""
    found = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return found if len(found) <= limit else found[: limit - 1] + "…"


def place(evidence: Evidence, limit: int = 60) -> str:
    """Where a finding was seen: file and key = value."""
    key, value = evidence["key"], evidence["value"]
    parts = [str(evidence["file"])] if evidence["file"] else []
    if key and value not in (None, ""):
        parts.append("%s = %s" % (key, shorten(value, limit)))
    elif key:
        parts.append(str(key))
    elif value not in (None, ""):
        parts.append(shorten(value, limit))
    return ", ".join(parts)


def brief(runtime: str) -> str:
    """docker 20.10.24+dfsg1 without what a distribution adds."""
    return runtime.partition("+")[0]


def moved(node: ReportNode) -> str:
    """From which runtime to which."""
    before, after = (brief(node[when]["runtime"]) or "?" for when in ("before", "after"))
    ready = {True: ", Ready", False: ", not Ready", None: ""}[node["after"]["ready"]]
    if node["status"] == "rolled_back":
        return "back on %s%s" % (after, ready)
    return (
        ("%s as before%s" % (after, ready))
        if before == after
        else ("from %s to %s%s" % (before, after, ready))
    )


def away(actual: Actual, steps: Sequence[PlanStep]) -> str:
    """How long the switch took the pods away, against what was planned."""
    ready = actual["outage_seconds"] or 0.0
    whole = actual["pods_ready_seconds"] or ready
    planned = sum(step["seconds"] for step in steps if step["outage"])
    text = "away %s" % duration(whole)
    text += " (planned %s)" % about(planned) if planned else ""
    text += ": Ready after %s" % duration(ready)
    if actual["running_seconds"] is not None:
        text += ", all pods running after %s" % duration(actual["running_seconds"])
    if actual["pods_ready_seconds"] is not None:
        text += ", all ready after %s" % duration(actual["pods_ready_seconds"])
    return text


def outcomes(report: Report) -> str:
    """How many tests ended how."""
    found = [test["outcome"] for test in report["verification"]]
    return ", ".join("%d %s" % (found.count(kind), kind) for kind in dict.fromkeys(found))


def went(actual: Actual) -> str:
    """What the node's journal says of its last switch."""
    return {
        "rolled_back": "went back to docker by itself",
        "on_docker": "went back to docker",
        "unfinished": "the switch was interrupted",
    }.get(actual["state"], "switched")


def clock(stamp: str) -> str:
    """2026-11-25T04:06:04Z as 2026-11-25 04:06:04 UTC."""
    return stamp.replace("T", " ").replace("Z", " UTC")


def status(name: str) -> str:
    return STATUS[name][0]


def outcome(name: str) -> str:
    return OUTCOMES.get(name, name)


def _wrap(value: str, width: int, indent: str, first: str | None = None) -> Iterator[str]:
    yield from textwrap.wrap(
        value,
        width,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def _ends(left: str, right: str, width: int) -> str:
    return "%s%s" % (left.ljust(width - len(right)), right) if right else left


def _head(report: Report, width: int) -> Iterator[Line]:
    cluster = report["cluster"]
    colour = {"blocked": "red", "incomplete": "red"}.get(report["verdict"], "green")
    yield headline(report), colour
    left = "Kubernetes %s, %s, %s" % (
        shorten(cluster["kubernetes_version"] or "?", 20),
        plural(cluster["nodes"], "node"),
        plural(cluster["pods"], "pod"),
    )
    yield _ends(left, clock(report["time"]), width), None


def _nodes(report: Report, width: int) -> Iterator[Line]:
    wide = width >= 96
    host_width = min(24, max([4] + [len(node["host"] or node["name"]) for node in report["nodes"]]))
    row = "  %%-%ds  %%-%ds  %%-18s %%4s  %%-%ds %%4s  %%s" % (
        host_width,
        *((13, 12) if wide else (7, 6)),
    )
    yield row % ("node", "role", "runtime", "pods", "images", "user", ""), HEADING
    for node in report["nodes"]:
        state = node["before"]
        shown, colour = STATUS[node["status"]]
        found = [finding["severity"] for finding in node["findings"]]
        kinds = ("blocker", "warning") if report["mode"] == "assess" else ()
        notes = [plural(found.count(kind), kind) for kind in kinds if kind in found]
        if node["status"] == "blocked" or (notes and not wide):
            shown = ""
        runtime = node["after"]["runtime"] if report["mode"] == "migrate" else state["runtime"]
        images = str(state["images"] or "-")
        if wide and state["images"]:
            images += ", " + size(state["image_bytes"])
        roles = [role.replace("-", " ") if wide else role.split("-")[0] for role in node["roles"]]
        line = row % (
            shorten(node["host"] or node["name"], host_width),
            shorten(", ".join(roles) or "-", 13 if wide else 7),
            shorten(brief(runtime) or "-", 18),
            state["pods"] if node["host"] else "-",
            images,
            state["containers_own"] if node["host"] else "-",
            ", ".join([shown] * bool(shown) + notes),
        )
        yield shorten(line, width), colour


def _needs(report: Report, verbose: bool, width: int) -> Iterator[Line]:
    groups = grouped(all_findings(report))
    if not groups:
        return
    yield "What needs your attention", HEADING
    for group in groups:
        label = {"blocker": "blocks", "warning": "warning,", "overridden": "overridden,"}
        where = join_limited(group["nodes"], 99 if verbose else 4)
        colour = COLOURS[group["severity"]]
        full = verbose or group["severity"] == "blocker"
        if not full:
            cases = group["cases"]
            sentence = cases[0]["text"] + (" (and %d more)" % (len(cases) - 1) if cases[1:] else "")
            head = "  %-6s " % group["code"]
            found = list(_wrap(sentence, width, " " * 9, head)) or [head]
            if found[2:]:
                found = [found[0], shorten(found[1] + " …", width)]
            place_of = "" if len(report["order"]) < 2 else " [%s]" % where
            if len(found[-1]) + len(place_of) <= width:
                found[-1] += place_of
            else:
                found += list(_wrap(place_of.strip(), width, " " * 9))
            yield from ((line, colour) for line in found)
            continue
        yield "  %s %s %s" % (group["code"], label[group["severity"]], where), colour
        cases = group["cases"] if verbose else group["cases"][:SHOWN]
        for index, case in enumerate(cases):
            yield from ((line, None) for line in _wrap(case["text"] + ".", width, " " * 4))
            places = [
                ("%s: " % evidence["node"] if len(report["order"]) > 1 else "") + seen
                for evidence in case["evidence"]
                if (seen := place(evidence, 400 if verbose else 60))
            ]
            cut = places if verbose else places[:SHOWN]
            for seen in cut:
                yield from ((line, None) for line in _wrap(seen, width, " " * 8, " " * 6))
            if places[len(cut) :]:
                yield "      and %d more" % len(places[len(cut) :]), None
            again = [later["remedy"] for later in cases[index + 1 :]]
            if case["remedy"] and case["remedy"] not in again:
                yield from (
                    (line, None) for line in _wrap(case["remedy"], width, " " * 6, "    > ")
                )
        if group["cases"][len(cases) :]:
            yield "    and %d more" % len(group["cases"][len(cases) :]), None
    if not verbose and any(group["severity"] != "blocker" for group in groups):
        yield (
            "  -v shows every finding in full, with its remedy; docs/codes.md explains them.",
            None,
        )


PHASE_TEXTS = {
    "prepare": "Prepare all nodes, docker still serves",
    "switch": "Switch",
    "buildkit": "Install BuildKit on all nodes",
    "verify": "Verify",
}


def phases(report: Report) -> list[dict[str, t.Any]]:
    """The plan in order: {"text", "phase", "hosts", "start", "end", "bytes", "away", "steps"}.

    Prepare, buildkit and verify are one entry each, the switch is one a node.
    """
    nodes = {node["host"]: node for node in report["nodes"]}
    found: list[dict[str, t.Any]] = []
    for phase in PHASES:
        bars = [span for span in report["timeline"]["planned"] if span["phase"] == phase]
        hosts = [host for host in report["order"] if any(span["host"] == host for span in bars)]
        for group in [[host] for host in hosts] if phase == "switch" else [hosts][: len(hosts)]:
            mine = [span for span in bars if span["host"] in group]
            steps = [
                (host, step)
                for host in group
                for step in nodes[host]["steps"]
                if step["phase"] == phase
            ]
            text = PHASE_TEXTS[phase]
            if phase == "switch":
                text += " " + group[0]
            found.append(
                {
                    "text": text
                    if len(report["order"]) > 1
                    else text.replace("all nodes", "the node"),
                    "phase": phase,
                    "hosts": group,
                    "start": min(span["start"] for span in mine),
                    "end": max(span["end"] for span in mine),
                    "bytes": sum(step["bytes"] for _host, step in steps),
                    "away": sum(step["seconds"] for _host, step in steps if step["outage"]),
                    "steps": _merged(steps, group),
                }
            )
    return found


def _merged(steps: list[tuple[str, PlanStep]], group: list[str]) -> list[str]:
    """The sentences of these steps, each once, with the hosts before it unless it holds for all."""
    hosts: dict[str, list[str]] = {}
    for host, step in steps:
        hosts.setdefault(step["text"], []).append(host)
    return [
        text if len(whose) == len(group) else "%s: %s" % (", ".join(whose), text)
        for text, whose in hosts.items()
    ]


def _plan(report: Report, verbose: bool, width: int) -> Iterator[Line]:
    todo = phases(report)
    if not todo or (report["mode"] == "migrate" and not verbose):
        return
    totals = report["totals"]
    title = "What was planned" if report["mode"] == "migrate" else "What will happen"
    title += ", in order"
    if report["verdict"] == "blocked":
        title += ", once nothing blocks it"
    whole = [about(totals["seconds"])] if totals["seconds"] else []
    whole += [size(totals["bytes"])] if totals["bytes"] else []
    yield _ends(title, "about " + ", ".join(whole) if whole else "", width), HEADING
    for number, entry in enumerate(todo if verbose else _shortened(todo), 1):
        took = entry["end"] - entry["start"]
        right = "%8s  %16s  %8s" % (
            size(entry["bytes"]) if entry["bytes"] else "",
            "pods away %s" % about(entry["away"]) if entry["away"] else "",
            about(took) if took else "",
        )
        left = "  %2d. %s" % (number, shorten(entry["text"], width - 44))
        yield _ends(left, right, width), None
        if not verbose and len(report["order"]) > 1:
            continue
        for text in entry["steps"]:
            yield from ((line, None) for line in _wrap(text, width - 10, " " * 8, " " * 6 + "- "))


def _shortened(todo: list[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    """The same with the switches of many nodes as one entry."""
    switches = [entry for entry in todo if entry["phase"] == "switch"]
    if len(switches) <= SWITCHES:
        return todo
    at = todo.index(switches[0])
    whole = dict(
        switches[0],
        text="Switch %d nodes, in the order above" % len(switches),
        start=min(entry["start"] for entry in switches),
        end=max(entry["end"] for entry in switches),
        bytes=sum(entry["bytes"] for entry in switches),
        away=max(entry["away"] for entry in switches),
    )
    return todo[:at] + [whole] + todo[at + len(switches) :]


def _happened(report: Report, verbose: bool, width: int) -> Iterator[Line]:
    """What a migration did."""
    nodes = [(node, node["actual"]) for node in report["nodes"] if node["actual"]]
    if not nodes:
        return
    took = report["totals"]["actual_seconds"]
    yield _ends("What happened", "in %s" % duration(took) if took else "", width), HEADING
    for node, actual in nodes:
        yield "  %s: %s" % (node["host"], moved(node)), STATUS[node["status"]][1]
        facts = []
        if actual["outage_seconds"] is not None:
            facts.append(away(actual, node["steps"]))
        if actual["api_away_seconds"]:
            facts.append("the API was away for %s" % duration(actual["api_away_seconds"]))
        if actual["images_carried"]:
            facts.append(
                "%s carried, %s in %s"
                % (
                    plural(actual["images_carried"], "image"),
                    size(actual["bytes_carried"]),
                    duration(actual["carry_seconds"] or 0),
                )
            )
        if node["before"]["containers_own"]:
            facts.append(
                "%s left alone" % plural(node["before"]["containers_own"], "user-managed container")
            )
        if actual["outage_seconds"] is None and actual["end"]:
            facts.append(
                "%s, from %s to %s"
                % (went(actual), clock(actual["start"] or ""), clock(actual["end"]))
            )
        for fact in facts:
            yield from ((line, None) for line in _wrap(fact, width, " " * 4))
        if verbose:
            for pod in actual["pods"]:
                name = shorten(pod["name"], width - 50)
                line = "    %-*s %-17s %s" % (width - 50, name, pod["before"], pod["after"])
                yield shorten(line, width), None
    if report["verification"]:
        bad = {test["outcome"] for test in report["verification"]} & {"failed", "error"}
        yield "  tests: %s" % outcomes(report), "red" if bad else "green"
        for test in report["verification"]:
            if verbose or test["outcome"] in ("failed", "error"):
                line = "    %-8s %s %s" % (test["outcome"], test["host"], test["name"])
                yield shorten(line, width), None


def _sock_users(report: Report, width: int) -> Iterator[Line]:
    users = report["docker_sock_users"]
    if not users:
        return
    yield "What uses docker.sock", HEADING
    for user in users:
        yield (
            shorten(
                "  %s, %s: %s"
                % (
                    " ".join(filter(None, (user["kind"], user["namespace"], user["name"]))),
                    "on " + join_limited(user["nodes"], 4) if user["nodes"] else "no pod now",
                    purposes.purpose(user["purpose"]).title,
                ),
                width,
            ),
            None,
        )
        why = ", ".join(filter(None, (user["path"], user["via"], user["why"])))
        yield from ((line, None) for line in _wrap(why, width, " " * 6))


def _details(report: Report, width: int) -> Iterator[Line]:
    for node in report["nodes"]:
        summary = node["summary"]
        facts = [
            summary["os"],
            summary["kernel"] and "kernel " + summary["kernel"],
            summary["cgroup_version"] and "cgroup v%d" % summary["cgroup_version"],
            summary["cgroup_driver"] and "cgroup driver " + summary["cgroup_driver"],
            summary["kubelet_version"] and "kubelet " + summary["kubelet_version"],
            summary["docker_version"] and "docker " + summary["docker_version"],
            summary["containerd_version"] and "containerd " + summary["containerd_version"],
            summary["storage_driver"],
        ]
        if not any(facts) and not node["settings"]:
            continue
        yield node["host"] or node["name"], HEADING
        yield from (
            (line, None)
            for line in _wrap(", ".join(str(fact) for fact in facts if fact), width, " " * 2)
        )
        for own in summary["containers_own"]:
            project = " of project %s" % own["project"] if own["project"] else ""
            yield from (
                (line, None)
                for line in _wrap(
                    "user-managed container %s%s: %s, %s%s"
                    % (
                        own["name"],
                        project,
                        own["image"],
                        own["state"],
                        ", swarm" if own["swarm"] else "",
                    ),
                    width,
                    " " * 6,
                    " " * 2,
                )
            )
        if node["settings"]:
            yield "  docker's settings", None
        for setting in node["settings"]:
            yield from (
                (line, None)
                for line in _wrap(
                    "%s = %s" % (setting["key"], shorten(setting["value"], 400)),
                    width,
                    " " * 8,
                    " " * 4,
                )
            )
            where = " (%s)" % setting["origin"] if setting["origin"] else ""
            note = ". ".join(
                part.rstrip(".")
                for part in (setting["to"], setting["text"], setting["remedy"])
                if part
            )
            yield from (
                (line, None)
                for line in _wrap(
                    "%s%s: %s" % (outcome(setting["outcome"]), where, note), width, " " * 8, " " * 6
                )
            )

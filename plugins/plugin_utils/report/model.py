# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What report.json holds: the plans of all nodes, and after a migration the results.

Pure functions; contracts.Report is what they make, docs/report.md explains it. Times are RFC 3339
in UTC, durations seconds, sizes bytes. text.py shows it in a terminal, page.py as a page.
"""

from __future__ import annotations

import time as _time
import typing as t
from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.homelab.containerd.plugins.module_utils._host.sanitize import (
    clean,
    shown,
)
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import pod_status
from ansible_collections.homelab.containerd.plugins.module_utils._switch import (
    journal as switch_journal,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
    ActualState,
    Evidence,
    JournalData,
    NodeBefore,
    PlanStep,
    PodChange,
    Report,
    ReportContainer,
    ReportFinding,
    ReportNode,
    ReportSetting,
    ReportSummary,
    ReportUser,
    Span,
    Totals,
    Verdict,
    Verification,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan import codes
from ansible_collections.homelab.containerd.plugins.plugin_utils.report.shape import (
    PHASES,
    SEVERITIES,
    Map,
    Object,
    read_count,
    read_list,
    read_number,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.report.timeline import (
    actual_spans,
    phase_seconds,
    planned_spans,
)

#: What a journal's state says of a switch that this run did not do.
JOURNAL_STATES: dict[str, ActualState] = {
    "running": "unfinished",
    "rolled_back": "rolled_back",
    "done": "switched",
}


def build(
    plans: Sequence[Map],
    cluster: Map | None = None,
    *,
    now: float,
    mode: str = "assess",
    serial: int | str = 1,
    outcomes: Sequence[Map] = (),
    api: Map | None = None,
) -> Report:
    """The content of report.json.

    plans: assess_plan of each node. cluster: assess_cluster. now: seconds since 1970. mode:
    "assess" before, "migrate" after. serial: how many workers switch at once, as Ansible has it.
    outcomes, one a node after a migration: {"node": inventory name, "before": before.json,
    "journal": switch.json, "marks": {phase, "prepared" or "end": its start, seconds since 1970},
    "carry": carry_images_result, "switch": switch_runtime_result, "verify": verify_results,
    "buildkit": whether buildkitd's socket exists}; any part but the first may be missing.
    api: kubectl get nodes,pods -o json after it.
    """
    plans = [shown(plan) for plan in plans]
    cluster = shown(cluster or {})
    results = {outcome["node"]: outcome for outcome in shown(list(outcomes))}
    known = {entry.get("host") or "": entry for entry in read_list(cluster, "nodes")}
    objects = read_list(clean(api or {}), "items")
    nodes = [
        _node(plan, known.get(plan["node"], {}), results.get(plan["node"]), objects)
        for plan in plans
    ]
    nodes += [_outsider(entry) for entry in read_list(cluster, "nodes") if not entry.get("host")]
    order = _order(nodes, read_list(cluster, "order"))
    nodes.sort(key=lambda node: order.index(node["host"]) if node["host"] in order else len(order))
    hosts = {entry.get("name"): entry["host"] for entry in known.values() if entry.get("host")}
    findings = _findings(cluster, hosts)
    planned = planned_spans(nodes, serial)
    actual = actual_spans(nodes, results) if mode == "migrate" else []
    for node in nodes:
        node["seconds"] = {
            "planned": phase_seconds(node, planned),
            "actual": phase_seconds(node, actual),
        }
    report: Report = {
        "schema": "homelab.containerd/report/1",
        "mode": "migrate" if mode == "migrate" else "assess",
        "time": _stamp(now),
        "verdict": _verdict(mode, nodes, findings),
        "cluster": {
            "kubernetes_version": cluster.get("kubernetes_version")
            or next((plan.get("kubelet_version") for plan in plans), None)
            or "",
            "nodes": len(nodes),
            "pods": read_count(cluster.get("pods"), sum(node["before"]["pods"] for node in nodes)),
            "findings": findings,
        },
        "docker_sock_users": [_sock_user(user) for user in read_list(cluster, "docker_sock_users")],
        "order": order,
        "nodes": nodes,
        "timeline": {"planned": planned, "actual": actual},
        "verification": _verification(results),
        "totals": _totals(nodes, findings, order, planned, actual),
    }
    return report


def all_findings(report: Report) -> list[ReportFinding]:
    """The cluster's findings and those of its nodes, blockers first."""
    found = list(report["cluster"]["findings"])
    found += [finding for node in report["nodes"] for finding in node["findings"]]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding["severity"]))


class Case(t.TypedDict):
    """A sentence with its remedy, and all evidence for it."""

    text: str
    remedy: str
    evidence: list[Evidence]


class Group(t.TypedDict):
    """The findings of one code and severity: what ten nodes share is one thing to do."""

    code: str
    severity: str
    nodes: list[str]
    cases: list[Case]


def grouped(findings: Iterable[ReportFinding]) -> list[Group]:
    groups: dict[tuple[str, str], Group] = {}
    for finding in findings:
        severity, code = finding["severity"], finding["code"]
        new: Group = {"code": code, "severity": severity, "nodes": [], "cases": []}
        group = groups.setdefault((severity, code), new)
        evidence = finding["evidence"]
        for node in (evidence["node"] or "").split(", "):
            if node and node not in group["nodes"]:
                group["nodes"].append(node)
        text, remedy = finding["text"], finding["remedy"]
        same = [case for case in group["cases"] if (case["text"], case["remedy"]) == (text, remedy)]
        if same:
            same[0]["evidence"].append(evidence)
        else:
            group["cases"].append({"text": text, "remedy": remedy, "evidence": [evidence]})
    return list(groups.values())


def _stamp(seconds: float) -> str:
    return _time.strftime("%Y-%m-%dT%H:%M:%SZ", _time.gmtime(seconds))


def _runtime(version: t.Any) -> str:
    """The API's docker://20.10.24 in words."""
    return str(version or "").replace("://", " ")


def _findings(source: Map, hosts: Map | None = None) -> list[ReportFinding]:
    """hosts: the inventory's names for the API's, where findings come from the API."""
    found: list[ReportFinding] = []
    for severity, key in zip(SEVERITIES, ("blockers", "warnings", "overridden"), strict=True):
        for entry in read_list(source, key):
            evidence = entry.get("evidence") or {}
            names = str(evidence.get("node") or "").split(", ")
            found.append(
                {
                    "severity": severity,
                    "code": entry["code"],
                    "text": entry["text"],
                    "evidence": {
                        "node": ", ".join((hosts or {}).get(name, name) for name in names) or None,
                        "file": evidence.get("file"),
                        "key": evidence.get("key"),
                        "value": evidence.get("value"),
                    },
                    "remedy": entry.get("remedy") or "",
                    "doc": codes.link(entry["code"]),
                }
            )
    return found


def _step(step: Map) -> PlanStep:
    return {
        "phase": step["phase"] if step.get("phase") in PHASES else "prepare",
        "text": step.get("text") or "",
        "seconds": read_number(step.get("seconds")),
        "bytes": read_count(step.get("bytes")),
        "outage": bool(step.get("outage")),
    }


def _text(source: Map, key: str) -> str:
    return str(source.get(key) or "")


def _setting(setting: Map) -> ReportSetting:
    return {
        "key": _text(setting, "key"),
        "value": setting.get("value"),
        "origin": _text(setting, "origin"),
        "outcome": _text(setting, "outcome"),
        "to": _text(setting, "to"),
        "text": _text(setting, "text"),
        "remedy": _text(setting, "remedy"),
    }


def _sock_user(user: Map) -> ReportUser:
    return {
        "namespace": _text(user, "namespace"),
        "kind": _text(user, "kind"),
        "name": _text(user, "name"),
        "nodes": [str(name) for name in read_list(user, "nodes")],
        "path": _text(user, "path"),
        "via": _text(user, "via"),
        "purpose": _text(user, "purpose"),
        "why": _text(user, "why"),
        "active": bool(user.get("active", True)),
    }


def _own(container: Map) -> ReportContainer:
    return {
        "name": _text(container, "name"),
        "image": _text(container, "image"),
        "state": _text(container, "state"),
        "project": _text(container, "project"),
        "swarm": bool(container.get("swarm")),
    }


def _summary(plan: Map) -> ReportSummary:
    summary = plan.get("summary") or {}
    return {
        "os": _text(summary, "os"),
        "kernel": _text(summary, "kernel"),
        "docker_version": _text(summary, "docker_version"),
        "containerd_version": _text(summary, "containerd_version"),
        "storage_driver": _text(summary, "storage_driver"),
        "pods": read_count(summary.get("pods")),
        "containers_kubernetes": read_count(summary.get("containers_kubernetes")),
        "images": read_count(summary.get("images")),
        "image_bytes": read_count(summary.get("image_bytes")),
        "cgroup_version": read_count(summary.get("cgroup_version")),
        "control_plane": bool(summary.get("control_plane")),
        "containers_own": [_own(entry) for entry in read_list(summary, "containers_own")],
        "kubelet_version": _text(plan, "kubelet_version"),
        "cgroup_driver": _text(plan, "cgroup_driver"),
    }


def _now(summary: ReportSummary, plan: Map, api_node: Map) -> NodeBefore:
    """What a node runs while the plan is made."""
    runtime = _runtime(api_node.get("runtime"))
    if not runtime and plan.get("runtime") == "dockershim":
        runtime = ("docker " + summary["docker_version"]).strip()
    elif not runtime and plan.get("runtime") == "containerd":
        runtime = ("containerd " + summary["containerd_version"]).strip()
    return {
        "time": None,
        "runtime": runtime or str(plan.get("runtime") or ""),
        "ready": api_node.get("ready"),
        "pods": summary["pods"],
        "images": summary["images"],
        "image_bytes": summary["image_bytes"],
        "containers_own": len(summary["containers_own"]),
    }


def _recorded(before: Map) -> NodeBefore:
    """The same from before.json, which stays on the node from the switch on."""
    images = read_list(before, "docker_images")
    return {
        "time": before.get("time"),
        "runtime": _runtime(before.get("runtime")),
        "ready": None,
        "pods": len(read_list(before, "pods")),
        "images": len(images),
        "image_bytes": sum(read_count(image.get("size")) for image in images),
        "containers_own": len(read_list(before, "owner_containers")),
    }


def _node(
    plan: Map,
    api_node: Map,
    outcome: Map | None,
    objects: list[Object],
) -> ReportNode:
    summary = _summary(plan)
    steps = [_step(step) for step in read_list(plan, "steps")]
    before = (outcome or {}).get("before") or {}
    current = _now(summary, plan, api_node)
    name = plan.get("node_name") or api_node.get("name") or plan["node"]
    roles = read_list(api_node, "roles") or (
        ["control-plane"] if summary["control_plane"] else ["worker"]
    )
    # kubeadm up to 1.23 gives a control plane both, and the older one says no more.
    roles = [role for role in roles if role != "master" or len(roles) == 1]
    findings = _findings(plan)
    version = (plan.get("containerd") or {}).get("version") or ""
    target = ("containerd %s" % version).strip()
    node: ReportNode = {
        "host": plan["node"],
        "name": name,
        "roles": [str(role) for role in roles],
        "state": plan.get("state") or "migrate",
        "status": "ready",
        "summary": summary,
        "before": _recorded(before) if before else current,
        "after": {
            "runtime": target if plan.get("state") != "done" else current["runtime"],
            "ready": None,
            "pods": len(read_list(before, "pods")) if before else current["pods"],
            "pods_ready": None,
            "buildkit": any(step["phase"] == "buildkit" for step in steps),
        },
        "steps": steps,
        "settings": [_setting(entry) for entry in read_list(plan, "settings")],
        "findings": findings,
        "actual": None,
        "seconds": {"planned": phase_seconds(None, []), "actual": phase_seconds(None, [])},
    }
    if any(finding["severity"] == "blocker" for finding in findings):
        node["status"] = "blocked"
    elif plan.get("unfinished"):
        node["status"] = "unfinished"
    elif node["state"] == "done":
        node["status"] = "done"
    if outcome is not None:
        _add_outcome(node, outcome, objects)
    return node


def _outsider(entry: Map) -> ReportNode:
    """A node of the API that the inventory does not have: nothing is done to it."""
    summary = _summary({})
    summary["kubelet_version"] = _text(entry, "kubelet")
    runtime = _runtime(entry.get("runtime"))
    return {
        "host": "",
        "name": _text(entry, "name"),
        "roles": [str(role) for role in read_list(entry, "roles")],
        "state": "outside",
        "status": "outside",
        "summary": summary,
        "before": {
            "time": None,
            "runtime": runtime,
            "ready": entry.get("ready"),
            "pods": 0,
            "images": 0,
            "image_bytes": 0,
            "containers_own": 0,
        },
        "after": {
            "runtime": runtime,
            "ready": entry.get("ready"),
            "pods": 0,
            "pods_ready": None,
            "buildkit": False,
        },
        "steps": [],
        "settings": [],
        "findings": [],
        "actual": None,
        "seconds": {"planned": phase_seconds(None, []), "actual": phase_seconds(None, [])},
    }


def _add_outcome(node: ReportNode, outcome: Map, objects: list[Object]) -> None:
    """The result for a node: after, actual and status, from the records of the run and the API."""
    carry, switch = outcome.get("carry") or {}, outcome.get("switch") or {}
    journal = outcome.get("journal") or {}
    now = [item for item in objects if item["metadata"]["name"] == node["name"]]
    now = [item for item in now if item.get("kind") == "Node"]
    pods = {
        "%s/%s" % (item["metadata"]["namespace"], item["metadata"]["name"]): item
        for item in objects
        if item.get("kind") == "Pod" and (item.get("spec") or {}).get("nodeName") == node["name"]
    }
    if now:
        info = (now[0].get("status") or {}).get("nodeInfo") or {}
        lasting = [
            pod for pod in pods.values() if (pod["status"] or {}).get("phase") != "Succeeded"
        ]
        node["after"] |= {
            "runtime": _runtime(info.get("containerRuntimeVersion")),
            "ready": pod_status.is_ready(now[0]),
            "pods": len(lasting),
            "pods_ready": sum(pod_status.is_ready(pod) for pod in lasting),
        }
    if switch.get("changed") and switch.get("outage_seconds") is not None:
        timings = switch.get("steps") or []
        state: ActualState = "switched"
    else:
        timings = switch_journal.timings(t.cast(JournalData, journal)) if journal else []
        state = JOURNAL_STATES.get(str(journal.get("state")), "unchanged")
        if journal.get("direction") == "docker" and state == "switched":
            state = "on_docker"
    start = switch.get("start") or journal.get("start")
    end = switch.get("end") or journal.get("end")
    carried = read_list(carry, "carried")
    node["actual"] = {
        "state": state,
        "start": _stamp(start) if start else None,
        "end": _stamp(end) if end else None,
        "outage_seconds": switch.get("outage_seconds"),
        "running_seconds": switch.get("running_seconds"),
        "pods_ready_seconds": switch.get("pods_ready_seconds"),
        "api_away_seconds": switch.get("api_away_seconds"),
        "images_carried": len(carried),
        "bytes_carried": read_count(carry.get("bytes")),
        "carry_seconds": carry.get("delta") if carried else None,
        "steps": [
            {"name": str(step.get("name") or ""), "delta": read_number(step.get("delta"))}
            for step in timings
        ],
        "pods": [
            _pod(pod, pods.get("%s/%s" % (pod["namespace"], pod["name"])))
            for pod in sorted(
                read_list(outcome.get("before") or {}, "pods"),
                key=lambda pod: (pod["namespace"], pod["name"]),
            )
        ],
    }
    runs_on = node["after"]["runtime"]
    if state in ("rolled_back", "on_docker") or (now and not runs_on.startswith("containerd")):
        node["status"] = "rolled_back" if state == "rolled_back" else "on_docker"
    elif state == "unfinished":
        node["status"] = "unfinished"
    elif now and not node["after"]["ready"]:
        node["status"] = "not_ready"
    else:
        node["status"] = "done" if state == "unchanged" else "migrated"
    node["after"]["buildkit"] = bool(outcome.get("buildkit"))


def _pod(pod: Map, now: Object | None) -> PodChange:
    after = "replaced by its controller"
    if now is not None:
        status = now.get("status") or {}
        after = str(status.get("phase") or "") + (", ready" if pod_status.is_ready(now) else "")
    before = str(pod.get("phase") or "") + (", ready" if pod.get("ready") else "")
    return {"name": "%s/%s" % (pod["namespace"], pod["name"]), "before": before, "after": after}


def _order(nodes: list[ReportNode], wanted: list[str]) -> list[str]:
    """The hosts in the order of their switch: the cluster plan's, and what it does not name."""
    hosts = [node["host"] for node in nodes if node["host"]]
    control = [node["host"] for node in nodes if node["summary"]["control_plane"]]
    order: list[str] = []
    for host in [host for host in wanted if host in hosts] + control + hosts:
        if host and host not in order:
            order.append(host)
    return order


def _verification(results: Mapping[str, Map]) -> list[Verification]:
    """verify_results, which the role gives to all nodes alike: tests are named NAME[ansible://HOST]."""
    found: list[Verification] = []
    hosts = sorted(results, key=len, reverse=True)
    for outcome in results.values():
        for test in read_list(outcome, "verify"):
            name, _mark, place = str(test.get("name") or "").partition("[ansible://")
            host = next((host for host in hosts if place.startswith(host)), "")
            # What a test was parametrised with stays in its name.
            rest = place.removeprefix(host).strip("-]")
            entry: Verification = {
                "name": name + ("[%s]" % rest if rest else ""),
                "host": host,
                "outcome": str(test.get("outcome") or ""),
                "seconds": read_number(test.get("seconds")),
            }
            if entry not in found:
                found.append(entry)
    return found


def _verdict(mode: str, nodes: list[ReportNode], findings: list[ReportFinding]) -> Verdict:
    ours = [node for node in nodes if node["host"]]
    statuses = {node["status"] for node in ours}
    if mode == "migrate":
        return "migrated" if statuses <= {"migrated", "done"} else "incomplete"
    if "blocked" in statuses or any(finding["severity"] == "blocker" for finding in findings):
        return "blocked"
    return "done" if statuses == {"done"} else "ready"


def _totals(
    nodes: list[ReportNode],
    cluster_findings: list[ReportFinding],
    order: list[str],
    planned: list[Span],
    actual: list[Span],
) -> Totals:
    found = cluster_findings + [finding for node in nodes for finding in node["findings"]]
    severities = [finding["severity"] for finding in found]
    outages = [
        sum(
            span["end"] - span["start"]
            for span in planned
            if span["outage"] and span["host"] == host
        )
        for host in order
    ]
    return {
        "seconds": max((span["end"] for span in planned), default=0.0),
        "actual_seconds": max((span["end"] for span in actual), default=None),
        "outage_seconds": round(max(outages, default=0.0), 2),
        "bytes": sum(step["bytes"] for node in nodes for step in node["steps"]),
        "images": sum(node["before"]["images"] for node in nodes),
        "image_bytes": sum(node["before"]["image_bytes"] for node in nodes),
        "containers_own": sum(node["before"]["containers_own"] for node in nodes),
        "blockers": severities.count("blocker"),
        "warnings": severities.count("warning"),
        "overridden": severities.count("overridden"),
    }

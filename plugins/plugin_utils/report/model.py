# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What report.json holds: the plans of all nodes as one, and after a migration what came of them.

Pure functions; docs/report.schema.json describes the result, docs/report.md explains it. Times are
RFC 3339 in UTC, durations seconds, sizes bytes. report_text.py shows it in a terminal,
report_page.py as a page.
"""

from __future__ import annotations

import re
import time as _time
import typing as t
from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes.pod_status import (
    is_ready,
)
from ansible_collections.homelab.containerd.plugins.module_utils._switch.journal import (
    timings as journal_steps,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import JournalData
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.sanitize import clean
from ansible_collections.homelab.containerd.plugins.plugin_utils.report.shape import (
    PHASES,
    SEVERITIES,
    Map,
    Object,
    _count,
    _list,
    _number,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.report.timeline import (
    _actual,
    _add_seconds,
    _planned,
)

SCHEMA = "homelab.containerd/report/1"


def build(
    plans: Sequence[Map],
    cluster: Map | None = None,
    *,
    now: float,
    mode: str = "assess",
    serial: int | str = 1,
    outcomes: Sequence[Map] = (),
    api: Map | None = None,
    codes: Mapping[str, Mapping[str, str]] | None = None,
) -> Object:
    """The content of report.json.

    plans: assess_plan of each node. cluster: assess_cluster. now: seconds since 1970. mode:
    "assess" before, "migrate" after. serial: how many workers switch at once, as Ansible has it.
    outcomes, one a node after a migration: {"node": inventory name, "before": before.json,
    "journal": switch.json, "marks": {phase, "prepared" or "end": when it began, seconds since
    1970}, "carry": carry_images_result, "switch": switch_runtime_result, "verify": verify_results,
    "buildkit": whether buildkitd's socket is there}; any part but the first may be missing.
    api: kubectl get nodes,pods -o json after it. codes: sections() of docs/codes.md.
    """
    plans = [clean(plan) for plan in plans]
    cluster = clean(cluster or {})
    results = {outcome["node"]: outcome for outcome in clean(list(outcomes))}
    codes = codes or {}
    known = {entry.get("host") or "": entry for entry in _list(cluster, "nodes")}
    objects = _list(clean(api or {}), "items")
    nodes = [
        _node(plan, known.get(plan["node"], {}), results.get(plan["node"]), objects, codes)
        for plan in plans
    ]
    nodes += [_outsider(entry) for entry in _list(cluster, "nodes") if not entry.get("host")]
    order = _order(nodes, _list(cluster, "order"))
    nodes.sort(key=lambda node: order.index(node["host"]) if node["host"] in order else len(order))
    hosts = {entry.get("name"): entry["host"] for entry in known.values() if entry.get("host")}
    findings = _findings(cluster, codes, hosts)
    planned = _planned(nodes, serial)
    actual = _actual(nodes, results) if mode == "migrate" else []
    for node in nodes:
        _add_seconds(node, planned, actual)
    report: Object = {
        "schema": SCHEMA,
        "mode": mode,
        "time": _stamp(now),
        "verdict": _verdict(mode, nodes, findings),
        "cluster": {
            "kubernetes_version": cluster.get("kubernetes_version")
            or next((plan.get("kubelet_version") for plan in plans), None)
            or "",
            "nodes": len(nodes),
            "pods": _count(cluster.get("pods"), sum(node["before"]["pods"] for node in nodes)),
            "findings": findings,
        },
        "docker_sock_users": [_sock_user(user) for user in _list(cluster, "docker_sock_users")],
        "order": order,
        "nodes": nodes,
        "timeline": {"planned": planned, "actual": actual},
        "verification": _verification(results),
    }
    report["totals"] = _totals(report)
    return report


def all_findings(report: Map) -> list[Object]:
    """The cluster's findings and those of its nodes, blockers first."""
    found = list(report["cluster"]["findings"])
    for node in report["nodes"]:
        found += node["findings"]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding["severity"]))


def grouped(findings: Iterable[Object]) -> list[Object]:
    """One entry for each code and severity: {"code", "severity", "doc", "nodes", "cases"}.

    Of its cases, each is a sentence with its remedy and every piece of evidence for it: what ten
    nodes share is one thing for a person to do.
    """
    groups: dict[tuple[str, str], Object] = {}
    for finding in findings:
        group = groups.setdefault(
            (finding["severity"], finding["code"]),
            {key: finding[key] for key in ("code", "severity", "doc")} | {"nodes": [], "cases": []},
        )
        evidence = finding["evidence"]
        if evidence["node"] and evidence["node"] not in group["nodes"]:
            group["nodes"].append(evidence["node"])
        same = [
            case
            for case in group["cases"]
            if (case["text"], case["remedy"]) == (finding["text"], finding["remedy"])
        ]
        if not same:
            same = [{"text": finding["text"], "remedy": finding["remedy"], "evidence": []}]
            group["cases"] += same
        same[0]["evidence"].append(evidence)
    return list(groups.values())


def sections(markdown: str) -> dict[str, dict[str, str]]:
    """The sections of docs/codes.md by code: {"title", "anchor", "text" (Markdown)}.

    The anchor is what GitHub makes of a heading: small letters, punctuation dropped, hyphens for
    spaces.
    """
    found = {}
    for heading, text in re.findall(r"(?ms)^##[ ]+([^\n]+)\n(.*?)(?=^##[ ]|\Z)", markdown):
        code = re.match(r"HC\d+", heading)
        if code:
            anchor = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
            title = heading.partition(":")[2].strip()
            found[code[0]] = {"title": title, "anchor": anchor, "text": text.strip()}
    return found


def _stamp(seconds: float) -> str:
    return _time.strftime("%Y-%m-%dT%H:%M:%SZ", _time.gmtime(seconds))


def _runtime(version: t.Any) -> str:
    """The API's docker://20.10.24 in words."""
    return str(version or "").replace("://", " ")


def _findings(
    source: Map, codes: Mapping[str, Mapping[str, str]], hosts: Map | None = None
) -> list[Object]:
    """hosts: the inventory's names for the API's, where findings come from the API."""
    found = []
    for severity, key in zip(SEVERITIES, ("blockers", "warnings", "overridden"), strict=True):
        for entry in _list(source, key):
            evidence = dict(entry.get("evidence") or {})
            evidence["node"] = (hosts or {}).get(str(evidence.get("node")), evidence.get("node"))
            section = codes.get(entry["code"])
            found.append(
                {
                    "severity": severity,
                    "code": entry["code"],
                    "text": entry["text"],
                    "evidence": {
                        name: evidence.get(name) for name in ("node", "file", "key", "value")
                    },
                    "remedy": entry.get("remedy") or "",
                    "doc": "docs/codes.md" + ("#" + section["anchor"] if section else ""),
                }
            )
    return found


def _step(step: Map) -> Object:
    return {
        "phase": step.get("phase") if step.get("phase") in PHASES else "prepare",
        "text": step.get("text") or "",
        "seconds": _number(step.get("seconds")),
        "bytes": _count(step.get("bytes")),
        "outage": bool(step.get("outage")),
    }


def _setting(setting: Map) -> Object:
    return {"value": setting.get("value")} | {
        key: str(setting.get(key) or "")
        for key in ("key", "origin", "fate", "to", "text", "remedy")
    }


def _sock_user(user: Map) -> Object:
    keys = ("namespace", "kind", "name", "node", "path", "via", "purpose", "why")
    return {key: str(user.get(key) or "") for key in keys} | {
        "active": bool(user.get("active", True))
    }


def _own(container: Map) -> Object:
    return {key: str(container.get(key) or "") for key in ("name", "image", "state", "project")} | {
        "swarm": bool(container.get("swarm"))
    }


def _summary(plan: Map) -> Object:
    summary = plan.get("summary") or {}
    texts = ("os", "kernel", "docker_version", "containerd_version", "storage_driver")
    counts = ("pods", "containers_kubernetes", "images", "image_bytes")
    return (
        {key: str(summary.get(key) or "") for key in texts}
        | {key: _count(summary.get(key)) for key in counts}
        | {
            "cgroup_version": _count(summary.get("cgroup_version")),
            "control_plane": bool(summary.get("control_plane")),
            "containers_own": [_own(entry) for entry in _list(summary, "containers_own")],
            "kubelet_version": str(plan.get("kubelet_version") or ""),
            "cgroup_driver": str(plan.get("cgroup_driver") or ""),
        }
    )


def _now(summary: Map, plan: Map, api_node: Map) -> Object:
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


def _recorded(before: Map) -> Object:
    """The same from before.json, which stays on the node from the switch on."""
    images = _list(before, "docker_images")
    return {
        "time": before.get("time"),
        "runtime": _runtime(before.get("runtime")),
        "ready": None,
        "pods": len(_list(before, "pods")),
        "images": len(images),
        "image_bytes": sum(_count(image.get("size")) for image in images),
        "containers_own": len(_list(before, "owner_containers")),
    }


def _node(
    plan: Map,
    api_node: Map,
    outcome: Map | None,
    objects: list[Object],
    codes: Mapping[str, Mapping[str, str]],
) -> Object:
    summary = _summary(plan)
    steps = [_step(step) for step in _list(plan, "steps")]
    before = (outcome or {}).get("before") or {}
    current = _now(summary, plan, api_node)
    name = plan.get("node_name") or api_node.get("name") or plan["node"]
    roles = _list(api_node, "roles") or (
        ["control-plane"] if summary["control_plane"] else ["worker"]
    )
    # kubeadm up to 1.23 gives a control plane both, and the older one says no more.
    roles = [role for role in roles if role != "master" or len(roles) == 1]
    findings = _findings(plan, codes)
    node: Object = {
        "host": plan["node"],
        "name": name,
        "roles": [str(role) for role in roles],
        "state": plan.get("state") or "migrate",
        "status": "ready",
        "summary": summary,
        "before": _recorded(before) if before else current,
        "after": None,
        "steps": steps,
        "settings": [_setting(entry) for entry in _list(plan, "settings")],
        "findings": findings,
        "actual": None,
    }
    if any(finding["severity"] == "blocker" for finding in findings):
        node["status"] = "blocked"
    elif plan.get("unfinished"):
        node["status"] = "unfinished"
    elif node["state"] == "done":
        node["status"] = "done"
    version = (plan.get("containerd") or {}).get("version") or ""
    planned = "containerd %s" % version if version else "containerd"
    node["after"] = {
        "runtime": planned if node["state"] == "migrate" else current["runtime"],
        "ready": None,
        "pods": node["before"]["pods"],
        "pods_ready": None,
        "buildkit": any(step["phase"] == "buildkit" for step in steps),
    }
    if outcome is not None:
        _add_outcome(node, outcome, objects)
    return node


def _outsider(entry: Map) -> Object:
    """A node of the API that the inventory does not have: nothing is done to it."""
    summary = _summary({})
    state = {
        "time": None,
        "runtime": _runtime(entry.get("runtime")),
        "ready": entry.get("ready"),
        "pods": 0,
        "images": 0,
        "image_bytes": 0,
        "containers_own": 0,
    }
    after = {key: state[key] for key in ("runtime", "ready", "pods")}
    return {
        "host": "",
        "name": str(entry.get("name") or ""),
        "roles": [str(role) for role in _list(entry, "roles")],
        "state": "outside",
        "status": "outside",
        "summary": summary | {"kubelet_version": str(entry.get("kubelet") or "")},
        "before": state,
        "after": after | {"pods_ready": None, "buildkit": False},
        "steps": [],
        "settings": [],
        "findings": [],
        "actual": None,
    }


def _add_outcome(node: Object, outcome: Map, objects: list[Object]) -> None:
    """What came of a node: after, actual and status, from the records of the run and the API."""
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
        node["after"].update(
            runtime=_runtime(info.get("containerRuntimeVersion")),
            ready=is_ready(now[0]),
            pods=len(lasting),
            pods_ready=sum(is_ready(pod) for pod in lasting),
        )
    if switch.get("changed") and switch.get("outage_seconds") is not None:
        timings = switch.get("steps") or []
        state = "switched"
    else:
        timings = journal_steps(t.cast("JournalData", journal)) if journal else []
        state = {"running": "unfinished", "rolled_back": "rolled_back", "done": "switched"}.get(
            str(journal.get("state")), "unchanged"
        )
        if journal.get("direction") == "docker" and state == "switched":
            state = "on_docker"
    began = switch.get("start") or journal.get("start")
    ended = switch.get("end") or journal.get("end")
    carried = _list(carry, "carried")
    node["actual"] = {
        "state": state,
        "began": _stamp(began) if began else None,
        "ended": _stamp(ended) if ended else None,
        "outage_seconds": switch.get("outage_seconds"),
        "running_seconds": switch.get("running_seconds"),
        "pods_ready_seconds": switch.get("pods_ready_seconds"),
        "api_away_seconds": switch.get("api_away_seconds"),
        "images_carried": len(carried),
        "bytes_carried": _count(carry.get("bytes")),
        "carry_seconds": carry.get("delta") if carried else None,
        "steps": [
            {"name": str(step.get("name") or ""), "seconds": _number(step.get("delta"))}
            for step in timings
        ],
        "pods": [
            _pod(pod, pods.get("%s/%s" % (pod["namespace"], pod["name"])))
            for pod in sorted(
                _list(outcome.get("before") or {}, "pods"),
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


def _pod(pod: Map, now: Map | None) -> Object:
    after = "replaced by its controller"
    if now is not None:
        status = now.get("status") or {}
        after = str(status.get("phase") or "") + (", ready" if is_ready(dict(now)) else "")
    before = str(pod.get("phase") or "") + (", ready" if pod.get("ready") else "")
    return {"name": "%s/%s" % (pod["namespace"], pod["name"]), "before": before, "after": after}


def _order(nodes: list[Object], wanted: list[str]) -> list[str]:
    """The hosts in the order of their switch: the cluster plan's, and what it does not name."""
    hosts = [node["host"] for node in nodes if node["host"]]
    control = [node["host"] for node in nodes if node["summary"]["control_plane"]]
    order: list[str] = []
    for host in [host for host in wanted if host in hosts] + control + hosts:
        if host and host not in order:
            order.append(host)
    return order


def _verification(results: Mapping[str, Map]) -> list[Object]:
    """verify_results, which the role gives to all nodes alike: tests are named NAME[ansible://HOST]."""
    found: list[Object] = []
    hosts = sorted(results, key=len, reverse=True)
    for outcome in results.values():
        for test in _list(outcome, "verify"):
            name, _mark, place = str(test.get("name") or "").partition("[ansible://")
            host = next((host for host in hosts if place.startswith(host)), "")
            # What a test was parametrised with stays in its name.
            rest = place.removeprefix(host).strip("-]")
            entry = {
                "name": name + ("[%s]" % rest if rest else ""),
                "host": host,
                "outcome": str(test.get("outcome") or ""),
                "seconds": _number(test.get("seconds")),
            }
            if entry not in found:
                found.append(entry)
    return found


def _verdict(mode: str, nodes: list[Object], findings: list[Object]) -> str:
    ours = [node for node in nodes if node["host"]]
    statuses = {node["status"] for node in ours}
    if mode == "migrate":
        return "migrated" if statuses <= {"migrated", "done"} else "incomplete"
    if "blocked" in statuses or any(finding["severity"] == "blocker" for finding in findings):
        return "blocked"
    return "done" if statuses == {"done"} else "ready"


def _totals(report: Map) -> Object:
    nodes, timeline = report["nodes"], report["timeline"]
    found = all_findings(report)
    outages = [
        sum(
            span["end"] - span["start"]
            for span in timeline["planned"]
            if span["outage"] and span["host"] == host
        )
        for host in report["order"]
    ]
    return {
        "seconds": max((span["end"] for span in timeline["planned"]), default=0.0),
        "actual_seconds": max((span["end"] for span in timeline["actual"]), default=None),
        "outage_seconds": round(max(outages, default=0.0), 2),
        "bytes": sum(step["bytes"] for node in nodes for step in node["steps"]),
        "images": sum(node["before"]["images"] for node in nodes),
        "image_bytes": sum(node["before"]["image_bytes"] for node in nodes),
        "containers_own": sum(node["before"]["containers_own"] for node in nodes),
        "blockers": sum(finding["severity"] == "blocker" for finding in found),
        "warnings": sum(finding["severity"] == "warning" for finding in found),
        "overridden": sum(finding["severity"] == "overridden" for finding in found),
    }

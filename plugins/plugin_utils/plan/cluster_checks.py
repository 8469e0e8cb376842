# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What in the cluster as a whole blocks a switch, or has to be known. Pure functions.

Each takes Findings to add to, and facts as cluster_runtime_info returns them.
"""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.plugin_utils import purposes
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
    ClusterFacts,
    DisruptionBudget,
    PodPlace,
    SocketUser,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.findings import Findings
from ansible_collections.homelab.containerd.plugins.plugin_utils.wording import join_limited


def _name(entry: DisruptionBudget | PodPlace | SocketUser) -> str:
    return "%s/%s" % (entry["namespace"], entry["name"])


def check_api(found: Findings, cluster: ClusterFacts) -> None:
    if cluster["error"]:
        found.add(
            "HC120",
            "The API does not answer: %s" % " ".join(cluster["error"].split()),
            key="kubectl",
        )


def check_nodes(
    found: Findings, cluster: ClusterFacts, plans: t.Container[str], moving: t.Container[str]
) -> None:
    """plans: names of the nodes that were looked at. moving: those that will be switched."""
    for entry in cluster["nodes"]:
        if entry["name"] in moving and not entry["ready"]:
            found.add(
                "HC121",
                "The node is not Ready, so nothing would show whether the switch worked",
                node=entry["name"],
                key="Ready",
                value="not True",
            )
        if entry["name"] not in plans and entry["runtime"].startswith("docker://"):
            found.add(
                "HC224",
                "A node of the cluster is on docker and was not looked at: it stays on docker",
                node=entry["name"],
                key="containerRuntimeVersion",
                value=entry["runtime"],
            )
        if entry["name"] in moving and entry["unschedulable"]:
            found.add(
                "HC225",
                "The node is cordoned, and stays so after the switch",
                node=entry["name"],
                key="unschedulable",
                value=True,
            )


def check_drain(found: Findings, cluster: ClusterFacts, drained: set[str]) -> None:
    """drained: names of the nodes whose pods will be evicted."""
    for budget in cluster["budgets"]:
        nodes = sorted(drained & set(budget["nodes"]))
        if not nodes or budget["allowed"] > 0:
            continue
        never = budget["healthy"] >= budget["expected"]
        found.add(
            "HC122",
            "A disruption budget %s, so the node cannot be drained: %d of %d pods are healthy and "
            "%d have to be"
            % (
                "never allows an eviction" if never else "allows no eviction now",
                budget["healthy"],
                budget["expected"],
                budget["desired"],
            ),
            node=", ".join(nodes),
            key="PodDisruptionBudget",
            value=_name(budget),
        )
    bare = [pod for pod in cluster["bare_pods"] if pod["node"] in drained]
    for pod in bare:
        found.add(
            "HC123",
            "A pod without a controller: a drain refuses it, and nothing would create it again",
            node=pod["node"],
            key="Pod",
            value=_name(pod),
        )
    by_node: dict[str, list[str]] = {}
    for pod in cluster["local_storage"]:
        if pod["node"] in drained:
            by_node.setdefault(pod["node"], []).append(_name(pod))
    for node, names in sorted(by_node.items()):
        found.add(
            "HC216",
            "Pods with an emptyDir will be evicted, and start with an empty one on another node",
            node=node,
            key="emptyDir",
            value=join_limited(sorted(names)),
        )


def check_control_plane(found: Findings, cluster: ClusterFacts, moving: t.Container[str]) -> None:
    control_plane = [
        entry
        for entry in cluster["nodes"]
        if {"control-plane", "master"} & set(entry["roles"]) and entry["name"] in moving
    ]
    if not control_plane:
        return
    members, ready = cluster["etcd"]["members"], cluster["etcd"]["ready"]
    quorum = members // 2 + 1
    if members <= 1:
        found.add(
            "HC215",
            "A single control plane: the API is away for seconds while its etcd and API server "
            "switch. Pods keep running",
            node=control_plane[0]["name"],
            key="etcd members",
            value=members,
        )
    elif ready - 1 < quorum:
        found.add(
            "HC124",
            "etcd would lose its quorum with one member away: %d of %d members are ready, and %d "
            "are needed" % (ready, members, quorum),
            node=control_plane[0]["name"],
            key="etcd members",
            value="%d of %d ready" % (ready, members),
        )


def warn_workloads(found: Findings, cluster: ClusterFacts) -> None:
    for user in cluster["users"]:
        use = purposes.purpose(user["purpose"])
        logs = user["purpose"] == "logs"
        how = {
            "direct": "mounts docker's socket",
            "parent": "can reach docker's socket through a directory above it",
            "data": "mounts docker's data",
        }[user["via"]]
        found.add(
            "HC212" if logs else "HC203",
            "A %s %s (%s)%s: it %s"
            % (
                user["kind"],
                how,
                user["why"],
                "" if user["active"] else " and has no pod just now",
                use.outcome,
            ),
            remedy=use.remedy,
            node=", ".join(user["nodes"]) or "cluster",
            key="hostPath %s" % user["path"],
            value=_name(user),
        )

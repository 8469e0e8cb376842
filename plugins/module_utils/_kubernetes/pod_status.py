# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the API says about pods and nodes, reduced to what a migration needs. Pure functions."""

from __future__ import annotations

import typing as t

Object = t.Dict[str, t.Any]


def ready_condition(entry: Object) -> t.Optional[Object]:
    """The condition Ready of a pod or a node, None where its status has none."""
    for condition in (entry.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "Ready":
            return t.cast(Object, condition)
    return None


def is_ready(entry: Object) -> bool:
    """Whether a pod or a node is Ready, as the API has it."""
    return (ready_condition(entry) or {}).get("status") == "True"


def pod_name(pod: Object) -> str:
    return "%s/%s" % (pod["metadata"]["namespace"], pod["metadata"]["name"])


def container_ids(pods: Object) -> t.Set[str]:
    """The IDs of all containers of these pods, as the API last heard of them."""
    return {
        entry["containerID"]
        for pod in pods["items"]
        for entry in pod.get("status", {}).get("containerStatuses") or []
        if entry.get("containerID")
    }


def pods_not_ready(
    pods: Object, runtime: str = "", stopped: t.Container[str] = frozenset()
) -> t.List[t.Dict[str, str]]:
    """{"name": namespace/name, "phase", "reason"} of each pod that should be ready and is not.

    pods: kubectl get pods -o json. A pod that has ended (Succeeded, Failed) or is being deleted
    does not count. runtime: what the IDs of its containers have to begin with ("containerd://");
    stopped: IDs that were stopped (on the way back to docker the new ones begin like them). The
    API shows a pod as it was until the kubelet says otherwise, so without these a pod that was
    stopped a moment ago still counts as ready.
    """
    waiting = []
    for pod in pods["items"]:
        status = pod.get("status", {})
        ended = status.get("phase") in ("Succeeded", "Failed")
        containers = status.get("containerStatuses") or []
        ids = [entry.get("containerID") or "" for entry in containers]
        fresh = all(found.startswith(runtime) and found not in stopped for found in ids)
        if ended or pod["metadata"].get("deletionTimestamp") or (is_ready(pod) and fresh):
            continue
        states = [container.get("state") or {} for container in containers]
        reasons = [
            kind["reason"] for state in states for kind in state.values() if kind.get("reason")
        ]
        # The phase is the last one reported: after a restart of the node it says Running while
        # the containers are still to come.
        running = fresh and bool(states) and all("running" in state for state in states)
        phase = status.get("phase", "Unknown")
        waiting.append(
            {
                "name": pod_name(pod),
                "phase": "Pending" if phase == "Running" and not running else phase,
                "reason": ", ".join(reasons) or "not ready yet",
            }
        )
    return waiting

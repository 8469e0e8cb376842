# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the API says about pods and nodes, reduced to what a migration needs. Pure functions."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils import images

Object = t.Dict[str, t.Any]


def _ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


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
        if ended or pod["metadata"].get("deletionTimestamp") or (_ready(pod) and fresh):
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


def _pod(pod: Object) -> Object:
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    owners = [ref for ref in metadata.get("ownerReferences") or [] if ref.get("controller")]
    ids = {entry["name"]: entry for entry in status.get("containerStatuses") or []}
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "owner": {"kind": owners[0]["kind"], "name": owners[0]["name"]} if owners else None,
        "phase": status.get("phase"),
        "ready": _ready(pod),
        "containers": [
            {
                "name": container["name"],
                "image": container["image"],
                "imagePullPolicy": container.get("imagePullPolicy"),
                "imageID": ids.get(container["name"], {}).get("imageID"),
            }
            for container in spec["containers"]
        ],
        "volumes": [volume["name"] for volume in spec.get("volumes") or []],
    }


def before_snapshot(
    pods: Object, facts: Object, node: Object, probes: t.Sequence[Object]
) -> Object:
    """What /var/lib/homelab-containerd/before.json holds, for the verification to compare with.

    pods: kubectl get pods -o json of this node. facts: runtime_info. node: the API's node object.
    probes: results of the kubectl exec tasks.
    """
    own = [entry for entry in facts["docker"]["containers"] if entry["owner"] == "user"]
    local = [
        {"id": image["id"], "tags": images.unregistered_tags(image)}
        for image in facts["docker"]["images"]
        if images.unregistered_tags(image)
    ]
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "node": node["metadata"]["name"],
        # A cordon of ours, from a run that broke off, is not how the owner had it.
        "unschedulable": bool(node["spec"].get("unschedulable"))
        and "homelab.containerd/cordoned" not in (node["metadata"].get("annotations") or {}),
        "runtime": node["status"]["nodeInfo"]["containerRuntimeVersion"],
        "pods": [_pod(pod) for pod in pods["items"]],
        "owner_containers": [entry for entry in own if entry["state"] == "running"],
        "local_only_images": local,
        "docker_images": facts["docker"]["images"],
        "probes": [
            {
                "namespace": probe["item"]["namespace"],
                "pod": probe["item"]["pod"],
                "command": probe["item"]["command"],
                "stdout": probe["stdout"],
            }
            for probe in probes
        ],
    }

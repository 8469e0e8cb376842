# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the API says about pods and nodes, reduced to what a migration needs. Pure functions."""

from __future__ import annotations

import time
import typing as t

Object = t.Dict[str, t.Any]


def _ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def pods_not_ready(pods: Object) -> t.List[str]:
    """namespace/name and the reason of each pod that should run and does not.

    A pod that has ended (Succeeded, Failed) or is being deleted is not waited for.
    """
    waiting = []
    for pod in pods["items"]:
        status = pod.get("status", {})
        ended = status.get("phase") in ("Succeeded", "Failed")
        if ended or pod["metadata"].get("deletionTimestamp") or _ready(pod):
            continue
        reasons = [
            state["reason"]
            for container in status.get("containerStatuses") or []
            for state in (container.get("state") or {}).values()
            if state and state.get("reason")
        ]
        waiting.append(
            "%s/%s: %s"
            % (
                pod["metadata"]["namespace"],
                pod["metadata"]["name"],
                ", ".join(reasons) or status.get("phase", "unknown"),
            )
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
    local = [image for image in facts["docker"]["images"] if image["tags"] and not image["digests"]]
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "node": node["metadata"]["name"],
        "runtime": node["status"]["nodeInfo"]["containerRuntimeVersion"],
        "pods": [_pod(pod) for pod in pods["items"]],
        "owner_containers": [entry for entry in own if entry["state"] == "running"],
        "local_only_images": [{"id": image["id"], "tags": image["tags"]} for image in local],
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

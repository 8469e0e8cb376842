# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a node was like before the switch, for the verification to compare with."""

from __future__ import annotations

import hashlib
import json
import time
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._containerd import image_names
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes.pod_status import (
    is_ready,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
    BeforeSnapshot,
    LocalImage,
    NodeFacts,
    Object,
    PodBefore,
)


def _pod(pod: Object) -> PodBefore:
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    owners = [ref for ref in metadata.get("ownerReferences") or [] if ref.get("controller")]
    ids = {entry["name"]: entry for entry in status.get("containerStatuses") or []}
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "owner": {"kind": owners[0]["kind"], "name": owners[0]["name"]} if owners else None,
        "phase": status.get("phase"),
        "ready": is_ready(pod),
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


def _still_holds(
    earlier: str, name: str, runtime: str, after_switch: float | None
) -> BeforeSnapshot | None:
    """The record of an earlier try, if no switch has ended since: it is of the time before."""
    try:
        record = json.loads(earlier)
        engines = {text.partition("://")[0] for text in (record["runtime"], runtime)}
        same = (record["node"], record["after_switch"]) == (name, after_switch)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # there is none, or it is another release's
    return t.cast(BeforeSnapshot, record) if same and len(engines) == 1 else None


def before_snapshot(
    pods: Object, facts: NodeFacts, node: Object, probes: t.Sequence[Object], earlier: str = ""
) -> BeforeSnapshot:
    """What /var/lib/homelab-containerd/before.json holds, for the verification to compare with.

    pods: kubectl get pods -o json of this node. facts: runtime_info. node: the API's node object.
    probes: results of the kubectl exec tasks. earlier: the text of the record that there is.

    A first try that failed may have drained the node or lost pods: a second one, which would record
    what is left, keeps the record of the first.
    """
    journal = facts.get("journal")
    after_switch = journal["start"] if journal else None
    name = node["metadata"]["name"]
    runtime = node["status"]["nodeInfo"]["containerRuntimeVersion"]
    kept = _still_holds(earlier, name, runtime, after_switch)
    if kept:
        return kept
    own = [entry for entry in facts["docker"]["containers"] if entry["owner"] == "user"]
    local: list[LocalImage] = [
        {"id": image["id"], "tags": image_names.unregistered_tags(image)}
        for image in facts["docker"]["images"]
        if image_names.unregistered_tags(image)
    ]
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "node": name,
        "after_switch": after_switch,
        # A cordon of ours, from a run that was interrupted, is not the user's.
        "unschedulable": bool(node["spec"].get("unschedulable"))
        and "homelab.containerd/cordoned" not in (node["metadata"].get("annotations") or {}),
        "runtime": runtime,
        "pods": [_pod(pod) for pod in pods["items"]],
        "owner_containers": [entry for entry in own if entry["state"] == "running"],
        "local_only_images": local,
        "docker_images": facts["docker"]["images"],
        "probes": [
            {
                "namespace": probe["item"]["namespace"],
                "pod": probe["item"]["pod"],
                "command": probe["item"]["command"],
                # Enough to compare with; what it printed may be a secret.
                "sha256": hashlib.sha256(probe["stdout"].strip().encode()).hexdigest(),
            }
            for probe in probes
        ],
    }

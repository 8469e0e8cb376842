# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ran before the migration runs again, with its data; what is the owner's was left alone.

before.json, written by the migration before it changed anything, says what there was.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections import Counter
from typing import Any

import pytest
from nodes import Cluster, Node, Settings, full_name, is_ready, probe_pod, stored_images

# Pods of these have names that stay, and are not counted.
NAMED_OWNERS = ("", "Node")
# Namespace, the controller's kind and name, and the images.
Group = tuple[str, str, str, str]
# Namespace, kind and name.
Owner = tuple[str, str, str]


def sha256(printed: str) -> str:
    return hashlib.sha256(printed.strip().encode()).hexdigest()


def printed_before(probe: dict[str, str]) -> str:
    """The checksum of what a probe printed; a record of the release 0.1 has the text."""
    return probe.get("sha256") or sha256(probe["stdout"])


def images_of(containers: list[dict[str, Any]]) -> str:
    return " ".join(sorted(container["image"] for container in containers))


def owner_of(api_pod: dict[str, Any]) -> tuple[str, str]:
    owners = api_pod["metadata"].get("ownerReferences", [])
    owner = next((owner for owner in owners if owner.get("controller")), None)
    return (owner["kind"], owner["name"]) if owner else ("", "")


#: The kinds of controllers that say how many pods they want.
COUNTED = "deployments.apps,replicasets.apps,statefulsets.apps,replicationcontrollers"


def unschedulable(api_pod: dict[str, Any]) -> bool:
    """Whether there is no node for a pod. No runtime is to blame for that."""
    return any(
        c["type"] == "PodScheduled"
        and c["status"] == "False"
        and c.get("reason") == "Unschedulable"
        for c in api_pod["status"].get("conditions", [])
    )


def missing(before: dict[str, Any], cluster: Cluster, node_name: str) -> list[str]:
    """The pods that were Ready before and are not now, as sentences.

    A controller that had a Ready pod on this node needs all the replicas that it wants now, in the
    whole cluster: its pods may have moved, and one that is lost on every node would be missed by
    none. Other pods with names that stay are looked for by name, the rest is counted by controller
    and images. Nobody misses pods that a controller does not want any more: this is asked long
    after the migration as well.
    """
    controllers: dict[Owner, dict[str, Any]] = {}
    for item in cluster.get(f"{COUNTED} --all-namespaces")["items"]:
        controllers[(item["metadata"]["namespace"], item["kind"], item["metadata"]["name"])] = item

    def top(namespace: str, kind: str, name: str) -> Owner:
        """A ReplicaSet's Deployment, where it has one."""
        own = controllers.get((namespace, kind, name))
        above = (namespace, *owner_of(own)) if own else ("", "", "")
        return above if above in controllers else (namespace, kind, name)

    named = set()
    ready: Counter[Group] = Counter()
    replicas: Counter[Owner] = Counter()
    homeless: Counter[Owner] = Counter()
    for api_pod in cluster.get("pods --all-namespaces")["items"]:
        metadata = api_pod["metadata"]
        kind, name = owner_of(api_pod)
        owner = top(metadata["namespace"], kind, name)
        homeless[owner] += unschedulable(api_pod)
        if not is_ready(api_pod):
            continue
        replicas[owner] += 1
        named.add((metadata["namespace"], metadata["name"]))
        if kind != "DaemonSet" or api_pod["spec"].get("nodeName") == node_name:
            images = images_of(api_pod["spec"]["containers"])
            ready[(metadata["namespace"], kind, name, images)] += 1

    counted: Counter[Owner] = Counter()
    wanted: Counter[Group] = Counter()
    sentences = []
    for old in before["pods"]:
        namespace, name = old["namespace"], old["name"]
        kind, owner_name = (
            (old["owner"]["kind"], old["owner"]["name"]) if old["owner"] else ("", "")
        )
        # A Job's pod may have done its work meanwhile.
        if not old["ready"] or kind == "Job":
            continue
        if kind in ("ReplicaSet", "StatefulSet", "ReplicationController"):
            counted[top(namespace, kind, owner_name)] += 1
        elif kind not in NAMED_OWNERS:
            wanted[(namespace, kind, owner_name, images_of(old["containers"]))] += 1
        elif (namespace, name) not in named:
            sentences.append(f"pod {namespace}/{name} is not Ready")
    for owner, before_count in sorted(counted.items()):
        # One that is gone wants nothing.
        total = controllers[owner]["spec"].get("replicas", 1) if owner in controllers else 0
        count = max(total - homeless[owner], min(before_count, total))
        if replicas[owner] < count:
            namespace, kind, name = owner
            sentences.append(
                f"{kind} {namespace}/{name}: {replicas[owner]} of {count} pods are Ready"
            )
    for group, count in sorted(wanted.items()):
        namespace, kind, name, images = group
        if ready[group] < count:
            sentences.append(
                f"{kind} {namespace}/{name} ({images}): {ready[group]} of {count} pods are Ready"
            )
    return sentences


def test_pods_run_again(
    node: Node, cluster: Cluster, node_name: str, before: dict[str, Any], settings: Settings
) -> None:
    # Not an assert: Python leaves those out if it is asked to.
    node.check(before["pods"], "before.json names pods, at least the node's own", "none")
    deadline = time.monotonic() + settings.timeout
    while lost := missing(before, cluster, node_name):
        if time.monotonic() > deadline:
            listed = cluster.run("get pods --all-namespaces --output=wide")
            node.fail(
                f"each pod that was Ready before is Ready again after {settings.timeout:.0f} s",
                "\n".join([*lost, str(listed)]),
                "kubelet",
                "containerd",
            )
        time.sleep(1)


def test_data_is_what_it_was(node: Node, cluster: Cluster, before: dict[str, Any]) -> None:
    """The commands of verify_probes print in their pods what they printed before."""
    probes = before.get("probes", [])
    if not probes:
        pytest.skip("verify_probes named nothing to compare when this node was migrated")
    for probe in probes:
        command = " ".join(map(shlex.quote, probe["command"]))
        container = f" --container={probe['container']}" if probe.get("container") else ""
        output = cluster.run(
            f"exec {probe['pod']} --namespace={probe['namespace']}{container} -- {command}"
        )
        node.check(
            output.rc == 0 and sha256(output.stdout) == printed_before(probe),
            f"{command} in {probe['namespace']}/{probe['pod']} prints what it printed before",
            # What it prints may be a secret.
            f"exit status {output.rc}, {output.stderr.strip() or 'and something else'}",
            "kubelet",
        )


def test_owners_containers_were_left_alone(
    node: Node, before: dict[str, Any], settings: Settings
) -> None:
    """User-managed docker containers never stopped."""
    containers = before["owner_containers"]
    if not containers:
        pytest.skip("docker ran no user-managed containers")
    if "masked" in node.run("systemctl is-enabled docker.service").stdout:
        pytest.skip("docker was retired on this node")
    for old in containers:
        output = node.run(f"docker inspect {old['id']}")
        node.check(output.rc == 0, f"docker has container {old['name']}", output, "docker")
        found = json.loads(output.stdout)[0]
        state = found["State"]
        now = {
            "running": state["Running"],
            "started_at": state["StartedAt"],
            "pid": state["Pid"],
            "restart_count": found["RestartCount"],
        }
        wanted = {"running": old["state"] == "running"}
        if not settings.node_restarted:
            wanted.update({key: old[key] for key in ("started_at", "pid", "restart_count")})
        node.check(
            all(now[key] == value for key, value in wanted.items()),
            f"container {old['name']} as before: {wanted}",
            now,
            "docker",
        )


@pytest.fixture(scope="module")
def local_images(before: dict[str, Any]) -> list[dict[str, Any]]:
    """The images that only docker had: no registry can give them again."""
    images = [image for image in before["local_only_images"] if image["tags"]]
    if not images:
        pytest.skip("docker had no images of its own")
    return images


def test_local_images_are_in_containerd(node: Node, local_images: list[dict[str, Any]]) -> None:
    stored = stored_images(node)
    for image in local_images:
        # CRI's name for the image ID points where the tag points: it is the same image.
        target = stored.get(image["id"])
        for tag in image["tags"]:
            node.check(
                target and stored.get(full_name(tag)) == target,
                f"containerd has {full_name(tag)} with docker's image ID {image['id']}",
                "\n".join(f"{name} {digest}" for name, digest in sorted(stored.items())),
                "containerd",
            )


def test_local_images_run(
    node: Node,
    cluster: Cluster,
    node_name: str,
    local_images: list[dict[str, Any]],
    namespace: str,
    probe: tuple[str, ...],
    token: str,
) -> None:
    """A pod runs from each, without a pull."""
    name = f"local-{token}"
    images = [image["tags"][0] for image in local_images]
    cluster.start([probe_pod(name, node_name, images, "Never", probe)])
    try:
        cluster.wait(node, name, "Succeeded")
    finally:
        cluster.delete(name)

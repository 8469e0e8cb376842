# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide: facts and wishes in, a plan with its warnings and blockers out. Pure functions.

decide() is about one node, decide_cluster() about all of them together. What they look for is in
node_checks.py and cluster_checks.py, and a finding's shape in findings.py.
"""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._containerd import adoption
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import versions
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
    CarryFacts,
    CarryMethod,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config import translation
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan import (
    cluster_checks,
    node_checks,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.findings import Findings

Facts = dict[str, t.Any]
#: Seconds and bytes a second for the estimates, as measured on two cores (docs/bench.md).
PREPARE_SECONDS = 25.0
STREAM_BYTES_A_SECOND = 38e6
ADOPT_BYTES_A_SECOND = 180e6
DRAIN_SECONDS = 20.0
SWITCH_SECONDS = 15.0
SWITCH_CONTROL_PLANE_SECONDS = 30.0
BUILDKIT_SECONDS = 15.0
VERIFY_SECONDS = 45.0


def decide(
    facts: Facts,
    wishes: dict[str, t.Any],
    kubelet_config: dict[str, t.Any] | None = None,
    errors: dict[str, str] | None = None,
) -> dict[str, t.Any]:
    """The plan for one node.

    facts: runtime_info of node_runtime_info. wishes: {"containerd_version": the one to install
    where there is none or "containerd_install" says so, "containerd_install": "keep" | "package" |
    "docker_repository" | "tarball", "node": inventory name, "registries": those that the owner
    names, before docker's of the same host, "overrides": [blocker codes]}.
    kubelet_config: the kubelet's config file, parsed. errors: {"kubelet_config": …,
    "containerd_config": …} where these could not be parsed.
    """
    config = kubelet_config or {}
    kubelet, docker, containerd = facts["kubelet"], facts["docker"], facts["containerd"]
    found = Findings(wishes.get("node") or facts["kubernetes"]["node_name"])
    runtime = kubelet["runtime"]
    kubelet_version = versions.parse_version(kubelet["version"])
    install = wishes.get("containerd_install") or "keep"
    keep = install == "keep" and bool(containerd["version"])
    containerd_text = containerd["version"] if keep else wishes.get("containerd_version")
    containerd_version = versions.parse_version(containerd_text)
    translated = translation.translate(
        docker["daemon_json"]["value"],
        docker.get("command_line") or [],
        docker.get("certs_d"),
        docker.get("environment"),
        path=docker["daemon_json"]["path"],
        duplicates=docker["daemon_json"].get("duplicates") or [],
    )
    named = list(wishes.get("registries") or [])
    named_hosts = {registry["host"] for registry in named}
    # A switch that broke off has stopped the kubelet: it is gone on with, not assessed anew.
    unfinished = (facts.get("journal") or {}).get("state") == "running"
    # The kubelet's flags override its configuration file.
    driver = kubelet["flags"].get("cgroup-driver") or config.get("cgroupDriver") or "cgroupfs"
    size = carry_bytes(docker)
    carry = adoption.carry_method(t.cast(CarryFacts, facts), wishes.get("carry_method") or "auto")
    adopts = carry["method"] == "adopt"

    node_checks.check_kubernetes(found, facts, unfinished)
    node_checks.check_versions(found, facts, kubelet_version, containerd_version, config)
    node_checks.check_files(found, facts, errors or {})
    if runtime == "dockershim":
        node_checks.check_docker(found, facts, driver)
        node_checks.check_flags(found, kubelet)
        node_checks.check_network(found, facts)
        if wishes.get("carry_method") == "adopt" and not adopts:
            found.add(
                "HC125",
                "docker's layers cannot be adopted, as carry_images_method asks: %s" % carry["why"],
                "Set carry_images_method to auto or stream.",
                key="carry_images_method",
                value="adopt",
            )
        share = adoption.LINKED_SHARE if adopts else adoption.STREAMED_SHARE
        node_checks.check_space(found, facts, int(size * share), adopts)
        node_checks.warn_settings(found, translated)
        node_checks.warn_images(found, facts)
    if docker["binary"]:
        # These hold after the switch too, until docker is gone.
        node_checks.warn_users(found, facts)
        node_checks.warn_own_containers(found, facts)
        node_checks.warn_docker(found, facts, translated)

    return dict(
        found.result(wishes.get("overrides") or []),
        node=found.node,
        node_name=facts["kubernetes"]["node_name"],
        state="done" if runtime == "containerd" and not unfinished else "migrate",
        unfinished=unfinished,
        ours=facts.get("journal") is not None,
        runtime=runtime,
        kubelet_version=kubelet["version"],
        containerd={
            "install": "keep" if keep else ("package" if install == "keep" else install),
            "version": containerd_text,
            "config_version": versions.config_version(containerd_version)
            if containerd_version
            else None,
        },
        cgroup_driver=driver,
        sandbox_image=_sandbox_image(facts),
        cni_bin_dirs=facts["cni"]["bin_dirs"],
        cni_conf_dir=facts["cni"]["conf_dir"],
        registries=named
        + [entry for entry in translated["registries"] if entry["host"] not in named_hosts],
        translation=translated,
        settings=translated["settings"],
        summary=_summary(facts),
        carry=carry,
        steps=_steps(facts, wishes, keep, containerd_text, size, carry)
        if runtime == "dockershim"
        else [],
    )


def decide_cluster(
    cluster: Facts, plans: t.Sequence[dict[str, t.Any]], wishes: dict[str, t.Any]
) -> dict[str, t.Any]:
    """The plan for all nodes together.

    cluster: cluster_info of cluster_runtime_info. plans: decide()'s, in the inventory's order.
    wishes: {"drain": whether nodes are drained, "overrides": [blocker codes]}.
    """
    found = Findings("cluster")
    by_name = {plan["node_name"]: plan for plan in plans}
    moving = {plan["node_name"] for plan in plans if plan["state"] == "migrate"}
    unfinished = {plan["node_name"] for plan in plans if plan["unfinished"]}
    drained = _drained(cluster["nodes"], moving) if wishes.get("drain", True) else set()

    # A control plane in the middle of its switch does not answer; the journal says what to do.
    if not (cluster["error"] and unfinished):
        cluster_checks.check_api(found, cluster)
        cluster_checks.check_nodes(found, cluster, by_name, moving - unfinished)
        cluster_checks.check_drain(found, cluster, drained - unfinished)
        cluster_checks.check_control_plane(found, cluster, moving - unfinished)
        cluster_checks.warn_workloads(found, cluster)
    ordered = sorted(
        (plan for plan in plans if plan["state"] == "migrate"),
        key=lambda plan: not plan["summary"]["control_plane"],
    )
    return dict(
        found.result(wishes.get("overrides") or []),
        kubernetes_version=next((entry["kubelet"] for entry in cluster["nodes"]), None),
        nodes=[
            dict(entry, host=by_name[entry["name"]]["node"] if entry["name"] in by_name else "")
            for entry in cluster["nodes"]
        ],
        pods=cluster["pods"],
        docker_sock_users=cluster["users"],
        order=[plan["node"] for plan in ordered],
        drained=sorted(drained),
    )


def _drained(nodes: t.Sequence[Facts], moving: t.Container[str]) -> set[str]:
    """The nodes that switch_runtime drains: those whose pods have another node to go to."""
    takers = {n["name"] for n in nodes if not n["unschedulable"] and not n["tainted"]}
    return {n["name"] for n in nodes if n["name"] in moving and takers - {n["name"]}}


def carry_bytes(docker: Facts) -> int:
    """Bytes of all layers; where docker's store does not say, those of the images, at most."""
    return int(docker.get("layer_bytes") or sum(image["size"] for image in docker["images"]))


def _sandbox_image(facts: Facts) -> str:
    """The pause image that the cluster uses already, so that nothing new has to be pulled."""
    flag = facts["kubelet"]["flags"].get("pod-infra-container-image")
    if flag:
        return str(flag)
    for container in facts["docker"]["containers"]:
        if container.get("type") == "podsandbox" and not container["image"].startswith("sha256:"):
            return str(container["image"])
    return "registry.k8s.io/pause:3.6"


def _running_pods(docker: Facts) -> set[tuple[str, str]]:
    return {
        (container["pod"]["namespace"], container["pod"]["name"])
        for container in docker["containers"]
        if container["owner"] == "kubernetes" and container["state"] == "running"
    }


def _summary(facts: Facts) -> dict[str, t.Any]:
    """What a person wants to know of a node at a glance."""
    docker = facts["docker"]
    own = [entry for entry in docker["containers"] if entry["owner"] == "user"]
    return {
        "os": facts["os"]["pretty_name"],
        "kernel": facts["os"]["kernel"],
        "cgroup_version": facts["os"]["cgroup_version"],
        "docker_version": docker.get("version"),
        "containerd_version": facts["containerd"]["version"],
        "storage_driver": docker.get("storage_driver"),
        "control_plane": facts["kubernetes"]["control_plane"],
        "pods": len(_running_pods(docker)),
        "containers_kubernetes": len(docker["containers"]) - len(own),
        "containers_own": [
            {
                "name": entry["name"],
                "image": entry["image"],
                "state": entry["state"],
                "project": entry.get("project") or "",
                "swarm": bool(entry.get("swarm_service")),
            }
            for entry in own
        ],
        "images": len(docker["images"]),
        "image_bytes": carry_bytes(docker),
    }


def _step(
    phase: str, text: str, seconds: float, size: int = 0, outage: bool = False
) -> dict[str, t.Any]:
    return {"phase": phase, "text": text, "seconds": seconds, "bytes": size, "outage": outage}


def _steps(
    facts: Facts,
    wishes: dict[str, t.Any],
    keep: bool,
    containerd: str | None,
    size: int,
    carry: CarryMethod,
) -> list[dict[str, t.Any]]:
    """What happens to the node, in order: {"phase", "text", "seconds", "bytes", "outage"}.

    The seconds are estimates from the bench, outage says whether pods are away in them.
    """
    docker = facts["docker"]
    own = [container for container in docker["containers"] if container["owner"] == "user"]
    control_plane = facts["kubernetes"]["control_plane"]
    adopts = carry["method"] == "adopt"
    steps = [
        _step(
            "prepare",
            "%s containerd %s and turn its CRI on; docker's containers run on"
            % ("keep" if keep else "install", containerd),
            PREPARE_SECONDS,
        ),
        _step(
            "prepare",
            "%s %s (%.1f MB of layers) %s, as %s"
            % (
                "adopt" if adopts else "stream",
                node_checks.count(len(docker["images"]), "image"),
                size / 1e6,
                "where they lie" if adopts else "from docker to containerd",
                carry["why"],
            ),
            size / (ADOPT_BYTES_A_SECOND if adopts else STREAM_BYTES_A_SECOND),
            size,
        ),
        _step(
            "switch",
            "stop %s, turn the kubelet to containerd, start them again; back to docker if the node "
            "is not Ready in time" % node_checks.count(len(_running_pods(docker)), "pod"),
            SWITCH_CONTROL_PLANE_SECONDS if control_plane else SWITCH_SECONDS,
            outage=True,
        ),
    ]
    if wishes.get("drain", True) and not control_plane:
        text = "evict the node's pods to other nodes, where there are any that take them"
        steps.insert(2, _step("switch", text, DRAIN_SECONDS))
    if wishes.get("buildkit", True):
        steps.append(_step("buildkit", "put buildkitd where docker build was", BUILDKIT_SECONDS))
    if wishes.get("verify", True):
        steps.append(_step("verify", "prove that pods, the CRI and builds work", VERIFY_SECONDS))
    kept = "leave %s of your own, and docker itself, as %s" % (
        node_checks.count(len(own), "container"),
        "they are" if own else "it is",
    )
    return steps + [_step("verify", kept, 0.0)]

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide: facts and options in, a plan with its warnings and blockers out. Pure functions.

decide() is about one node, decide_cluster() about all of them together. What they look for is in
node_checks.py and cluster_checks.py, and a finding's shape in findings.py.
"""

from __future__ import annotations

import typing as t

from ansible.utils.helpers import pct_to_int
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import (
    adoption,
    image_names,
)
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import versions
from ansible_collections.homelab.containerd.plugins.plugin_utils import wording
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
    CarryMethod,
    ClusterFacts,
    ClusterNode,
    ClusterPlan,
    DockerFacts,
    NodeFacts,
    Object,
    Phase,
    Plan,
    PlannedNode,
    PlanOptions,
    PlanStep,
    PlanSummary,
    Serial,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config import translation
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan import (
    cluster_checks,
    node_checks,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.findings import Findings

T = t.TypeVar("T")
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
    facts: NodeFacts,
    options: PlanOptions,
    kubelet_config: Object | None = None,
    errors: t.Mapping[str, str] | None = None,
) -> Plan:
    """The plan for one node.

    options: a registry of "registries" replaces docker's of the same host.
    kubelet_config: the kubelet's config file, parsed. errors: {"kubelet_config": …,
    "containerd_config": …} if these could not be parsed.
    """
    config = kubelet_config or {}
    kubelet, docker, containerd = facts["kubelet"], facts["docker"], facts["containerd"]
    found = Findings(options.get("node") or facts["kubernetes"]["node_name"])
    runtime = kubelet["runtime"]
    kubelet_version = versions.parse_version(kubelet["version"])
    install = options.get("containerd_install") or "keep"
    keep = install == "keep" and bool(containerd["version"])
    containerd_text = containerd["version"] if keep else options.get("containerd_version")
    containerd_version = versions.parse_version(containerd_text)
    translated = translation.translate(
        docker["daemon_json"]["value"],
        docker.get("command_line") or [],
        dict(docker.get("certs_d") or {}),
        docker.get("environment"),
        path=docker["daemon_json"]["path"],
        duplicates=docker["daemon_json"].get("duplicates") or [],
    )
    named = list(options.get("registries") or [])
    named_hosts = {registry["host"] for registry in named}
    # An interrupted switch has stopped the kubelet. It is resumed, so the runtime is not assessed.
    journal = facts.get("journal")
    unfinished = journal is not None and journal["state"] == "running"
    # The kubelet's flags override its configuration file.
    driver = kubelet["flags"].get("cgroup-driver") or config.get("cgroupDriver") or "cgroupfs"
    size = carry_bytes(docker)
    carry = adoption.carry_method(facts, options.get("carry_method") or "auto")
    adopts = carry["method"] == "adopt"

    node_checks.check_kubernetes(found, facts, unfinished)
    node_checks.check_versions(found, facts, kubelet_version, containerd_version, config)
    node_checks.check_installation(found, install, options.get("install_problem") or "")
    node_checks.check_files(found, facts, errors or {})
    if runtime == "dockershim":
        # An interrupted switch may have stopped the API server itself.
        if not unfinished:
            node_checks.check_api(found, facts)
        node_checks.check_docker(found, facts, driver)
        node_checks.check_flags(found, kubelet)
        node_checks.check_network(found, facts)
        if options.get("carry_method") == "adopt" and not adopts:
            found.add(
                "HC125",
                "docker's layers cannot be adopted, as carry_images_method asks: %s" % carry["why"],
                key="carry_images_method",
                value="adopt",
            )
        needed = space_needed(facts, carry["method"], options.get("carry_restore") or "all")
        reserve = options.get("carry_reserve_bytes") or 0
        node_checks.check_space(found, facts, needed, reserve, adopts)
        node_checks.warn_settings(found, translated)
        node_checks.warn_images(found, facts)
    if docker["binary"]:
        # These hold after the switch too, until docker is gone.
        node_checks.warn_users(found, facts)
        node_checks.warn_own_containers(found, facts)
        node_checks.warn_docker(found, facts, translated)

    return Plan(
        **found.result(options.get("overrides") or []),
        node=found.node,
        node_name=facts["kubernetes"]["node_name"],
        state="done" if runtime == "containerd" and not unfinished else "migrate",
        unfinished=unfinished,
        ours=journal is not None,
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
        steps=_steps(facts, options, keep, containerd_text, size, carry)
        if runtime == "dockershim"
        else [],
    )


def decide_cluster(
    cluster: ClusterFacts, plans: t.Sequence[Plan], options: PlanOptions
) -> ClusterPlan:
    """The plan for all nodes together. plans: decide()'s, in the inventory's order."""
    found = Findings("cluster")
    by_name = {plan["node_name"]: plan for plan in plans}
    moving = {plan["node_name"] for plan in plans if plan["state"] == "migrate"}
    unfinished = {plan["node_name"] for plan in plans if plan["unfinished"]}
    drained: set[str] = set()
    if options.get("drain", True):
        drained = _drained(cluster["nodes"], plans, options.get("serial") or 1)

    # A control plane that is being switched does not answer; the switch is resumed.
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
    return ClusterPlan(
        **found.result(options.get("overrides") or []),
        kubernetes_version=next((entry["kubelet"] for entry in cluster["nodes"]), None),
        nodes=[
            PlannedNode(
                **entry, host=by_name[entry["name"]]["node"] if entry["name"] in by_name else ""
            )
            for entry in cluster["nodes"]
        ],
        pods=cluster["pods"],
        docker_sock_users=cluster["users"],
        order=[plan["node"] for plan in ordered],
        drained=sorted(drained),
    )


def batches(hosts: t.Sequence[T], serial: Serial) -> list[t.Sequence[T]]:
    """The hosts of a play as its `serial` takes them; the last entry of a list is repeated."""
    entries = serial if isinstance(serial, list) else [serial]
    sizes = [pct_to_int(entry, len(hosts)) for entry in entries]
    found: list[t.Sequence[T]] = []
    first = 0
    while first < len(hosts):
        last = first + max(1, sizes[min(len(found), len(sizes) - 1)])
        found.append(hosts[first:last])
        first = last
    return found


def _drained(nodes: t.Sequence[ClusterNode], plans: t.Sequence[Plan], serial: Serial) -> set[str]:
    """The nodes that switch_runtime drains: those whose pods have another node to go to.

    Nodes that are switched at the same time take no pods of one another.
    """
    known = {n["name"] for n in nodes}
    takers = {n["name"] for n in nodes if not n["unschedulable"] and not n["tainted"]}
    control_plane = [plan for plan in plans if plan["summary"]["control_plane"]]
    workers = [plan for plan in plans if not plan["summary"]["control_plane"]]
    drained = set()
    for batch in batches(control_plane, 1) + batches(workers, serial):
        away = {p["node_name"] for p in batch if p["state"] == "migrate" or p["ours"]}
        if takers - away:
            drained |= {p["node_name"] for p in batch if p["state"] == "migrate"} & known
    return drained


def carry_bytes(docker: DockerFacts) -> int:
    """Bytes of all layers; if docker's store does not say, those of the images, at most."""
    return int(docker.get("layer_bytes") or sum(image["size"] for image in docker["images"]))


def space_needed(facts: NodeFacts, method: str, restore: str) -> dict[str, int]:
    """Bytes that carrying takes on docker's and on containerd's file system, at most.

    As the role carry_images counts it before the first byte: for the images that containerd does
    not have (a second try), with the blobs to be restored of those that no registry has.
    """
    present = set(facts["containerd"]["images"])
    images = facts["docker"]["images"]
    lacking = [image for image in images if image["id"] not in present]
    size = carry_bytes(facts["docker"]) if lacking else 0
    if len(lacking) < len(images):
        size = min(size, sum(image["size"] for image in lacking))
    local = sum(image["size"] for image in lacking if image_names.unregistered_tags(image))
    return adoption.space_needed(method, size, min(size, local) if restore != "never" else 0)


def _sandbox_image(facts: NodeFacts) -> str:
    """The pause image that the cluster uses already, so that nothing new has to be pulled."""
    flag = facts["kubelet"]["flags"].get("pod-infra-container-image")
    if flag:
        return str(flag)
    for container in facts["docker"]["containers"]:
        image = container["image"] or ""
        if container.get("type") == "podsandbox" and not image.startswith("sha256:"):
            return image
    return "registry.k8s.io/pause:3.6"


def _running_pods(docker: DockerFacts) -> set[tuple[str | None, str | None]]:
    return {
        (container["pod"]["namespace"], container["pod"]["name"])
        for container in docker["containers"]
        if container["owner"] == "kubernetes" and container["state"] == "running"
    }


def _summary(facts: NodeFacts) -> PlanSummary:
    """A node at a glance."""
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


def _step(phase: Phase, text: str, seconds: float, size: int = 0, outage: bool = False) -> PlanStep:
    return {"phase": phase, "text": text, "seconds": seconds, "bytes": size, "outage": outage}


def _steps(
    facts: NodeFacts,
    options: PlanOptions,
    keep: bool,
    containerd: str | None,
    size: int,
    carry: CarryMethod,
) -> list[PlanStep]:
    """What happens to the node, in order; the seconds are estimates from the bench."""
    docker = facts["docker"]
    own = [container for container in docker["containers"] if container["owner"] == "user"]
    control_plane = facts["kubernetes"]["control_plane"]
    adopts = carry["method"] == "adopt"
    steps = [
        _step(
            "prepare",
            "%s containerd %s and enable its CRI; docker's containers keep running"
            % ("keep" if keep else "install", containerd),
            PREPARE_SECONDS,
        ),
        _step(
            "prepare",
            "%s %s (%s of layers) %s: %s"
            % (
                "adopt" if adopts else "stream",
                wording.plural(len(docker["images"]), "image"),
                wording.size(size),
                "in place" if adopts else "from docker to containerd",
                carry["why"],
            ),
            size / (ADOPT_BYTES_A_SECOND if adopts else STREAM_BYTES_A_SECOND),
            size,
        ),
        _step(
            "switch",
            "stop %s, switch the kubelet to containerd, start them again; back to docker if the "
            "node is not Ready in time" % wording.plural(len(_running_pods(docker)), "pod"),
            SWITCH_CONTROL_PLANE_SECONDS if control_plane else SWITCH_SECONDS,
            outage=True,
        ),
    ]
    if options.get("drain", True) and not control_plane:
        text = "drain the node, if other nodes can take its pods"
        steps.insert(2, _step("switch", text, DRAIN_SECONDS))
    if options.get("buildkit", True):
        text = "install buildkitd in place of docker build"
        steps.append(_step("buildkit", text, BUILDKIT_SECONDS))
    if options.get("verify", True):
        steps.append(_step("verify", "test that pods, the CRI and builds work", VERIFY_SECONDS))
    kept = "docker and %s stay as they are" % wording.plural(len(own), "user-managed container")
    return steps + [_step("verify", kept, 0.0)]

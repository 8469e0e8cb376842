# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide: facts and wishes in, a plan with its warnings and blockers out. Pure functions.

A finding is {"code", "text", "evidence": {"node", "file", "key", "value"}, "remedy"}; codes are
stable, HC1xx block, HC2xx warn (docs/codes.md has a section for each).
"""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils import (
    images,
    registries,
    version_rules,
)
from ansible_collections.homelab.containerd.plugins.module_utils.kubelet_flags import (
    DOCKERSHIM_FLAGS,
    flag_values,
)

Facts = t.Dict[str, t.Any]
Finding = t.Dict[str, t.Any]


class _Findings:
    def __init__(self, node: str) -> None:
        self.node = node
        self.blockers: t.List[Finding] = []
        self.warnings: t.List[Finding] = []

    def add(
        self,
        code: str,
        text: str,
        remedy: str,
        file: t.Optional[str] = None,
        key: t.Optional[str] = None,
        value: t.Any = None,
    ) -> None:
        finding = {
            "code": code,
            "text": text,
            "evidence": {"node": self.node, "file": file, "key": key, "value": value},
            "remedy": remedy,
        }
        (self.blockers if code.startswith("HC1") else self.warnings).append(finding)


def describe(finding: Finding) -> str:
    """A finding as the one paragraph that a person reads."""
    evidence = finding["evidence"]
    place = ", ".join(
        "%s %s" % (name, evidence[name])
        for name in ("node", "file", "key", "value")
        if evidence.get(name) not in (None, "")
    )
    return "%s: %s (%s). %s" % (finding["code"], finding["text"], place, finding["remedy"])


def decide(
    facts: Facts,
    wishes: t.Dict[str, t.Any],
    kubelet_config: t.Optional[t.Dict[str, t.Any]] = None,
    errors: t.Optional[t.Dict[str, str]] = None,
) -> t.Dict[str, t.Any]:
    """The plan for one node.

    facts: runtime_info of node_runtime_info. wishes: {"containerd_version": the one to install
    where there is none or "containerd_install" says so, "containerd_install": "keep" | "package" |
    "docker_repository" | "tarball", "node": inventory name, "registries": those that the owner
    names, before docker's of the same host, "overrides": [blocker codes]}.
    kubelet_config: the kubelet's config file, parsed. errors: {"kubelet_config": …,
    "containerd_config": …} where these could not be parsed.
    """
    errors = errors or {}
    config = kubelet_config or {}
    kubelet, docker, containerd = facts["kubelet"], facts["docker"], facts["containerd"]
    found = _Findings(wishes.get("node") or facts["kubernetes"]["node_name"])
    runtime = kubelet["runtime"]
    kubelet_version = version_rules.parse_version(kubelet["version"])
    install = wishes.get("containerd_install") or "keep"
    keep = install == "keep" and bool(containerd["version"])
    containerd_text = containerd["version"] if keep else wishes.get("containerd_version")
    containerd_version = version_rules.parse_version(containerd_text)
    translated = registries.from_daemon_json(docker["daemon_json"]["value"])
    named = list(wishes.get("registries") or [])
    named_hosts = {registry["host"] for registry in named}
    # A switch that broke off has stopped the kubelet: it is gone on with, not assessed anew.
    unfinished = (facts.get("journal") or {}).get("state") == "running"

    _check_kubernetes(found, facts, unfinished)
    if kubelet_version and containerd_version:
        problem = version_rules.pair_problem(kubelet_version, containerd_version)
        if problem:
            found.add(
                "HC103",
                problem,
                "Choose another with containerd_install and containerd_version, or upgrade the "
                "cluster first.",
                key="containerd_version",
                value=version_rules.show(containerd_version),
            )
    elif kubelet_version:
        found.add(
            "HC103",
            "The version of containerd is unknown: none is installed, and none was asked for",
            "Set containerd_version to the one that containerd_install will bring.",
            key="containerd_version",
        )
    if errors.get("kubelet_config"):
        found.add(
            "HC113",
            "The kubelet's configuration is not YAML: %s" % errors["kubelet_config"],
            "Repair the file; the kubelet itself would not start with it.",
            file=kubelet["config_path"],
        )
    if errors.get("containerd_config"):
        found.add(
            "HC114",
            "containerd's configuration cannot be merged with: %s" % errors["containerd_config"],
            "Repair the file or move it away; it is never overwritten blindly.",
            file=containerd["config_path"],
        )
    # The kubelet's flags override its configuration file.
    driver = kubelet["flags"].get("cgroup-driver") or config.get("cgroupDriver") or "cgroupfs"
    if runtime == "dockershim":
        _check_docker(found, facts, driver)
        _check_flags(found, kubelet)
        _check_network(found, facts)
        _warn(found, facts, translated)

    overrides = wishes.get("overrides") or []
    blockers = [finding for finding in found.blockers if finding["code"] not in overrides]
    return {
        "node": found.node,
        "node_name": facts["kubernetes"]["node_name"],
        "state": "done" if runtime == "containerd" and not unfinished else "migrate",
        "unfinished": unfinished,
        "ours": facts.get("journal") is not None,
        "runtime": runtime,
        "kubelet_version": kubelet["version"],
        "containerd": {
            "install": "keep" if keep else ("package" if install == "keep" else install),
            "version": containerd_text,
            "config_version": version_rules.config_version(containerd_version)
            if containerd_version
            else None,
        },
        "cgroup_driver": driver,
        "sandbox_image": _sandbox_image(facts),
        "cni_bin_dirs": facts["cni"]["bin_dirs"],
        "cni_conf_dir": facts["cni"]["conf_dir"],
        "registries": named
        + [entry for entry in translated["registries"] if entry["host"] not in named_hosts],
        "steps": _steps(facts, keep, containerd_text) if runtime == "dockershim" else [],
        "warnings": found.warnings,
        "blockers": blockers,
        "overridden": [finding for finding in found.blockers if finding["code"] in overrides],
    }


def _check_kubernetes(found: _Findings, facts: Facts, unfinished: bool) -> None:
    kubelet = facts["kubelet"]
    if not facts["os"]["systemd"]:
        found.add("HC112", "systemd does not run this machine", "Only systemd nodes are supported.")
    if not kubelet["binary"]:
        found.add(
            "HC101",
            "This is not a Kubernetes node: there is no kubelet",
            "Take it out of the groups kube_control_plane and kube_node, or join it first.",
            key="kubelet",
        )
        return
    if unfinished:
        pass
    elif kubelet["runtime"] is None:
        found.add(
            "HC101",
            "The kubelet is installed but does not run, so its runtime cannot be known",
            "Start it (systemctl status kubelet, journalctl -u kubelet) and run this again.",
            key="kubelet.service",
        )
    elif kubelet["runtime"] not in ("dockershim", "containerd"):
        found.add(
            "HC102",
            "The kubelet uses %s, not dockershim" % kubelet["runtime"],
            "Only dockershim nodes (kubelet 1.18 to 1.23) are switched.",
            key="container-runtime-endpoint",
            value=kubelet["endpoint"],
        )
    if not facts["kubernetes"]["kubectl"]:
        found.add(
            "HC106",
            "There is no kubectl",
            "Install the cluster's own kubectl on the node (package kubectl).",
            key="kubectl",
        )
    if facts["kubernetes"]["control_plane"] and not facts["kubernetes"]["admin_conf"]:
        found.add(
            "HC106",
            "A control-plane node without /etc/kubernetes/admin.conf",
            "Put the administrator's kubeconfig there (kubeadm init phase kubeconfig admin).",
            file="/etc/kubernetes/admin.conf",
        )


def _check_docker(found: _Findings, facts: Facts, driver: str) -> None:
    docker = facts["docker"]
    if docker["daemon_json"]["error"]:
        found.add(
            "HC105",
            "docker's configuration is not JSON: %s" % docker["daemon_json"]["error"],
            "Repair the file; registries, log limits and cgroup driver are read from it.",
            file=docker["daemon_json"]["path"],
        )
    if docker["error"]:
        found.add(
            "HC110",
            "docker does not answer: %s" % docker["error"],
            "Start it (systemctl start docker) and run this again.",
            key="docker.service",
        )
        return
    if docker["cgroup_driver"] != driver:
        found.add(
            "HC104",
            "The kubelet's cgroup driver is %s, docker's is %s" % (driver, docker["cgroup_driver"]),
            "Give both the same (systemd where systemd runs the node) before the switch.",
            file=facts["kubelet"]["config_path"],
            key="cgroupDriver",
            value=driver,
        )
    if docker["stops_with"]:
        found.add(
            "HC109",
            "docker.service is bound to containerd.service (%s): configuring containerd would "
            "restart every container" % ", ".join(docker["stops_with"]),
            "Take it out of the unit (systemctl edit --full docker.service; Wants= may stay): a "
            "drop-in cannot reset a dependency.",
            file="docker.service",
            key=docker["stops_with"][0],
            value="containerd.service",
        )


def _check_flags(found: _Findings, kubelet: Facts) -> None:
    files = [kubelet["kubeadm_flags"]] + kubelet["extra_args"]
    known: t.Set[str] = set()
    for entry in files:
        known.update(flag_values(entry["words"]))
        if entry["error"]:
            found.add(
                "HC107",
                "The kubelet's flags cannot be parsed: %s" % entry["error"],
                "Repair the quoting in the file.",
                file=entry["path"],
                key=entry["variable"],
            )
    if not kubelet["kubeadm_flags"]["exists"]:
        found.add(
            "HC107",
            "kubeadm's flag file is missing, so the kubelet was not set up by kubeadm",
            "Only kubeadm clusters are switched for now.",
            file=kubelet["kubeadm_flags"]["path"],
        )
    for name in sorted((DOCKERSHIM_FLAGS & set(kubelet["flags"])) - known):
        found.add(
            "HC108",
            "The running kubelet has a dockershim flag that is in none of its flag files",
            "Move it from the unit (systemctl cat kubelet) to /etc/default/kubelet.",
            key="--" + name,
            value=kubelet["flags"][name],
        )


def _check_network(found: _Findings, facts: Facts) -> None:
    plugin = facts["kubelet"]["flags"].get("network-plugin")
    usable = [entry for entry in facts["cni"]["configurations"] if not entry["error"]]
    if plugin != "cni" or not usable:
        found.add(
            "HC111",
            "Pods get their network from %s, which only dockershim can do" % (plugin or "docker")
            if plugin != "cni"
            else "There is no usable CNI configuration",
            "Install a CNI network (flannel, Calico, …) before the switch.",
            file=facts["cni"]["conf_dir"],
            key="--network-plugin",
            value=plugin,
        )


def _warn(found: _Findings, facts: Facts, translated: t.Dict[str, t.Any]) -> None:
    docker = facts["docker"]
    for network in translated["unmatched"]:
        found.add(
            "HC201",
            "A network of insecure registries has no equivalent outside docker",
            "Name its registries one by one in containerd_registries.",
            file=docker["daemon_json"]["path"],
            key="insecure-registries",
            value=network,
        )
    local = [tag for image in docker["images"] for tag in images.unregistered_tags(image)]
    if local and not (facts["containerd"]["pins_images"] and facts["kubelet"]["heeds_pins"]):
        found.add(
            "HC202",
            "%d images are in no registry, and this kubelet and containerd do not heed pins: the "
            "kubelet's garbage collection may remove them, and a timer on the node brings them "
            "back from docker" % len(local),
            "Push them to a registry before docker is retired.",
            key="images",
            value=", ".join(local),
        )


def _sandbox_image(facts: Facts) -> str:
    """The pause image that the cluster uses already, so that nothing new has to be pulled."""
    flag = facts["kubelet"]["flags"].get("pod-infra-container-image")
    if flag:
        return str(flag)
    for container in facts["docker"]["containers"]:
        if container.get("type") == "podsandbox" and not container["image"].startswith("sha256:"):
            return str(container["image"])
    return "registry.k8s.io/pause:3.6"


def _steps(facts: Facts, keep: bool, containerd: t.Optional[str]) -> t.List[str]:
    docker = facts["docker"]
    pods = {
        (container["pod"]["namespace"], container["pod"]["name"])
        for container in docker["containers"]
        if container["owner"] == "kubernetes" and container["state"] == "running"
    }
    own = [container for container in docker["containers"] if container["owner"] == "user"]
    size = sum(image["size"] for image in docker["images"])
    return [
        "%s containerd %s and turn its CRI on; docker's containers run on"
        % ("keep" if keep else "install", containerd),
        "carry %d images (%.1f MB at most) from docker to containerd"
        % (len(docker["images"]), size / 1e6),
        "stop %d pods, turn the kubelet to containerd, start them again; back to docker if the "
        "node is not Ready in time" % len(pods),
        "leave %d containers of your own, and docker itself, as they are" % len(own),
    ]

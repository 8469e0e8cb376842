# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What on one node blocks its switch, or has to be known before it. Pure functions.

Each takes Findings to add to, and facts as node_runtime_info returns them.
"""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._containerd import image_names
from ansible_collections.homelab.containerd.plugins.module_utils._docker import clients
from ansible_collections.homelab.containerd.plugins.module_utils._host.flags import flag_values
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import versions
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes.kubelet_flags import (
    DOCKERSHIM_FLAGS,
    RUNTIME_FLAGS,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils import purposes
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
    DockerCallInFile,
    KubeletFacts,
    NodeFacts,
    Object,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.result import (
    Translated,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.findings import Findings
from ansible_collections.homelab.containerd.plugins.plugin_utils.wording import (
    join_limited,
    plural,
)

#: Storage drivers whose layers containerd's overlayfs snapshotter can take over as they are.
ADOPTABLE = ("overlay2",)
#: runtimes that every engine has.
OWN_RUNTIMES = ("runc", "io.containerd.runc.v2", "io.containerd.runtime.v1.linux")
#: Inodes that a stream takes for each of its bytes, half of which are blobs: measured, 39 000 a GB
#: of unpacked layers on images of Debian packages (docs/images.md).
INODES_PER_BYTE = 20e3 / 1e9


def check_kubernetes(found: Findings, facts: NodeFacts, unfinished: bool) -> None:
    kubelet = facts["kubelet"]
    if not facts["os"]["systemd"]:
        found.add("HC112", "The machine does not run systemd")
    if not kubelet["binary"]:
        found.add(
            "HC101",
            "This is not a Kubernetes node: there is no kubelet",
            key="kubelet",
        )
        return
    if unfinished:
        pass
    elif kubelet["runtime"] is None:
        found.add(
            "HC101",
            "The kubelet is installed but does not run, so its runtime is unknown",
            key="kubelet.service",
        )
    elif kubelet["runtime"] not in ("dockershim", "containerd"):
        found.add(
            "HC102",
            "The kubelet uses %s, not dockershim" % kubelet["runtime"],
            key="container-runtime-endpoint",
            value=kubelet["endpoint"],
        )
    if not facts["kubernetes"]["kubectl"]:
        found.add(
            "HC106",
            "There is no kubectl",
            key="kubectl",
        )
    if facts["kubernetes"]["control_plane"] and not facts["kubernetes"]["admin_conf"]:
        found.add(
            "HC106",
            "A control-plane node without /etc/kubernetes/admin.conf",
            file="/etc/kubernetes/admin.conf",
        )


def check_api(found: Findings, facts: NodeFacts) -> None:
    api = facts["api"]
    # Without kubectl, HC106 says it.
    if api["error"] and facts["kubernetes"]["kubectl"]:
        found.add(
            "HC127",
            "%s. The switch could not see whether the node is Ready" % api["error"],
            file=api["kubeconfig"],
            key="kubeconfig",
        )


def check_versions(
    found: Findings,
    facts: NodeFacts,
    kubelet: versions.Version | None,
    containerd: versions.Version | None,
    config: Object,
) -> None:
    if not kubelet:
        return
    cgroup = versions.cgroup_problem(
        kubelet, facts["os"]["cgroup_version"], config.get("failCgroupV1")
    )
    if cgroup:
        found.add(
            "HC115",
            "The kubelet does not support this host's cgroup version: %s" % cgroup,
            file=facts["kubelet"]["config_path"],
            key="cgroup version",
            value=facts["os"]["cgroup_version"],
        )
    if not containerd:
        found.add(
            "HC103",
            "containerd is not installed, and containerd_version does not say which will be",
            remedy="Set containerd_version to the version that containerd_install will install.",
            key="containerd_version",
        )
        return
    problem = versions.pair_problem(kubelet, containerd)
    if problem:
        found.add(
            "HC103",
            problem,
            key="containerd_version",
            value=versions.show(containerd),
        )
    for network in facts["cni"]["configurations"]:
        trouble = versions.cni_problem(
            containerd, network.get("cni_version"), facts["cni"].get("loopback_supports") or []
        )
        if trouble:
            found.add(
                "HC116",
                "Pods would get no network: %s" % trouble,
                file=network["path"],
                key="cniVersion",
                value=network.get("cni_version"),
            )
            break


def check_installation(found: Findings, install: str, problem: str) -> None:
    """problem: what check_packages says."""
    if problem:
        found.add(
            "HC126",
            "%s, while docker serves" % (problem[0].upper() + problem[1:]),
            key="containerd_install",
            value=install,
        )


def check_files(found: Findings, facts: NodeFacts, errors: t.Mapping[str, str]) -> None:
    if errors.get("kubelet_config"):
        found.add(
            "HC113",
            "The kubelet's configuration cannot be read: %s" % errors["kubelet_config"],
            file=facts["kubelet"]["config_path"],
        )
    if errors.get("containerd_config"):
        found.add(
            "HC114",
            "containerd's configuration cannot be merged: %s" % errors["containerd_config"],
            file=facts["containerd"]["config_path"],
        )
    for entry in facts["containerd"].get("imports") or []:
        if "disabled_plugins" in entry["text"] and "cri" in entry["text"]:
            found.add(
                "HC117",
                "A file that containerd's configuration imports disables the CRI, and the main "
                "file cannot enable it again",
                file=entry["path"],
                key="disabled_plugins",
            )
        elif entry["text"].strip():
            found.add(
                "HC223",
                "containerd's configuration imports a file, which overrides keys of the main one "
                "(up to containerd 1.7 a plugin's whole table)",
                file=entry["path"],
                key="imports",
            )


def check_docker(found: Findings, facts: NodeFacts, driver: str) -> None:
    docker = facts["docker"]
    if docker["daemon_json"]["error"]:
        found.add(
            "HC105",
            "docker's configuration cannot be read: %s" % docker["daemon_json"]["error"],
            file=docker["daemon_json"]["path"],
        )
    if docker["error"]:
        found.add(
            "HC110",
            "docker does not answer: %s" % docker["error"],
            key="docker.service",
        )
        return
    if docker["cgroup_driver"] != driver:
        found.add(
            "HC104",
            "The kubelet's cgroup driver is %s, docker's is %s" % (driver, docker["cgroup_driver"]),
            file=facts["kubelet"]["config_path"],
            key="cgroupDriver",
            value=driver,
        )
    if docker["stops_with"]:
        found.add(
            "HC109",
            "docker.service is bound to containerd.service (%s): the restart of containerd would "
            "restart every container" % ", ".join(docker["stops_with"]),
            file="docker.service",
            key=docker["stops_with"][0],
            value="containerd.service",
        )
    if docker.get("userns_remap"):
        found.add(
            "HC118",
            "docker remaps user namespaces: root in a pod is another user on the host today. On "
            "containerd it will be root, with other rights on volumes",
            file=docker["daemon_json"]["path"],
            key="userns-remap",
            value=docker["daemon_json"]["value"].get("userns-remap"),
        )


def check_flags(found: Findings, kubelet: KubeletFacts) -> None:
    files = [kubelet["kubeadm_flags"]] + kubelet["extra_args"]
    known: set[str] = set()
    for entry in files:
        known.update(flag_values(entry["words"]))
        if entry["error"]:
            found.add(
                "HC107",
                "The kubelet's flags cannot be parsed: %s" % entry["error"],
                file=entry["path"],
                key=entry["variable"],
            )
    if not kubelet["kubeadm_flags"]["exists"]:
        found.add(
            "HC107",
            "kubeadm's flag file is missing, so kubeadm did not set up the kubelet",
            file=kubelet["kubeadm_flags"]["path"],
        )
    sources = kubelet.get("flag_sources") or {}
    for name in sorted(((DOCKERSHIM_FLAGS | RUNTIME_FLAGS) & set(kubelet["flags"])) - known):
        found.add(
            "HC108",
            "The running kubelet has a runtime flag that is in none of its flag files",
            file=sources.get(name),
            key="--" + name,
            value=kubelet["flags"][name],
        )
    for entry in kubelet["extra_args"]:
        for name in sorted({"pod-infra-container-image"} & set(flag_values(entry["words"]))):
            found.add(
                "HC221",
                "A flag is set in a file that kubeadm does not manage. Kubelets from 1.35 do not "
                "start with it, and kubeadm upgrade removes it from its own file only",
                file=entry["path"],
                key="--" + name,
                value=flag_values(entry["words"])[name],
            )


def check_network(found: Findings, facts: NodeFacts) -> None:
    plugin = facts["kubelet"]["flags"].get("network-plugin")
    usable = [entry for entry in facts["cni"]["configurations"] if not entry["error"]]
    if plugin != "cni" or not usable:
        found.add(
            "HC111",
            "Pods get their network from %s, which only dockershim supports" % (plugin or "docker")
            if plugin != "cni"
            else "There is no usable CNI configuration",
            file=facts["cni"]["conf_dir"],
            key="--network-plugin",
            value=plugin,
        )


def check_space(
    found: Findings, facts: NodeFacts, needed: t.Mapping[str, int], reserve: int, linked: bool
) -> None:
    """needed: bytes on docker's and on containerd's file system, which may be the same one.

    reserve: what has to stay free. linked: whether files are hard-linked, so that only directories
    take an inode more.
    """
    disks = facts["disk"]
    if disks["docker"]["device"] == disks["containerd"]["device"]:
        shares = [("containerd", sum(needed.values()))]
    else:
        shares = [("docker", needed["docker"]), ("containerd", needed["containerd"])]
    for owner, amount in shares:
        disk = disks["docker"] if owner == "docker" else disks["containerd"]
        if amount and amount + reserve > disk["free_bytes"]:
            found.add(
                "HC119",
                "The images would need %.1f GB more on %s's file system and %.1f GB kept in "
                "reserve, and it has %.1f GB free"
                % (amount / 1e9, owner, reserve / 1e9, disk["free_bytes"] / 1e9),
                file=disk["path"],
                key="free bytes",
                value=disk["free_bytes"],
            )
    disk = disks["containerd"]
    inodes = 0 if linked else needed["containerd"] * INODES_PER_BYTE
    # btrfs and others count none.
    if disk.get("total_inodes") and inodes > disk["free_inodes"]:
        found.add(
            "HC119",
            "The images would need about %d inodes more on containerd's file system, which has %d "
            "free" % (inodes, disk["free_inodes"]),
            file=disk["path"],
            key="free inodes",
            value=disk["free_inodes"],
        )


#: Settings that have a code of their own.
WITH_OWN_CODE = ("insecure-registries", "userns-remap", "hosts")


def warn_settings(found: Findings, translated: Translated) -> None:
    """translated: docker's configuration as translation.translate() returns it."""
    for network in translated["unmatched"]:
        origin = [s["origin"] for s in translated["settings"] if s["key"] == "insecure-registries"]
        found.add(
            "HC201",
            "A network of insecure registries has no equivalent outside docker",
            file=origin[-1] if origin else None,
            key="insecure-registries",
            value=network,
        )
    for setting in translated["settings"]:
        key, outcome = setting["key"], setting["outcome"]
        if outcome == "no_equivalent" and key not in WITH_OWN_CODE:
            found.add(
                "HC219",
                "A setting of docker has no equivalent: %s" % setting["text"],
                remedy=setting["remedy"] or None,
                file=setting["origin"],
                key=key,
                value=setting["value"],
            )
        elif outcome == "unknown":
            found.add(
                "HC220",
                "A setting of docker is not translated: %s" % setting["text"],
                remedy=setting["remedy"] or None,
                file=setting["origin"],
                key=key,
                value=setting["value"],
            )
    not_understood = [s for s in translated["settings"] if s["outcome"] == "unknown"]
    for problem in translated["problems"]:
        # A setting that is not understood has its problem in its text, and its finding above.
        if not any(
            setting["key"] == problem["key"] and problem["text"] in setting["text"]
            for setting in not_understood
        ):
            found.add(
                "HC220",
                "docker's configuration is invalid: %s" % problem["text"],
                remedy="Correct it; dockerd --validate (23 and newer) checks it.",
                key=problem["key"],
            )


def warn_images(found: Findings, facts: NodeFacts) -> None:
    docker = facts["docker"]
    local = [tag for image in docker["images"] for tag in image_names.unregistered_tags(image)]
    kubelet, containerd = facts["kubelet"], facts["containerd"]
    if local and not (containerd["pins_images"] and kubelet["supports_image_pinning"]):
        found.add(
            "HC202",
            "%s in no registry, and this kubelet and containerd do not support pinned images: the "
            "kubelet may remove unused ones, and a timer on the node restores them from docker"
            % (plural(len(local), "image") + (" is" if len(local) == 1 else " are")),
            key="images",
            value=", ".join(local),
        )


def warn_users(found: Findings, facts: NodeFacts) -> None:
    users = facts.get("docker_users") or {}
    names = {entry["id"]: entry for entry in facts["docker"]["containers"]}
    for process in users.get("processes") or []:
        container = names.get(process["container"] or "")
        # What runs in a pod is found through the API, with its workload's name.
        if container and container["owner"] == "kubernetes":
            continue
        where = "container " + container["name"] if container else process["unit"] or "no unit"
        found.add(
            "HC204",
            "A process is connected to docker's socket now. After the switch it will see only "
            "docker's containers, and no pods",
            key="process %s (pid %d)" % (process["name"], process["pid"]),
            value=where,
        )
    by_place: dict[tuple[str, str, str], list[DockerCallInFile]] = {}
    for call in users.get("files") or []:
        by_place.setdefault((call["path"], call["kind"], call["purpose"]), []).append(call)
    for (path, kind, purpose), calls in sorted(by_place.items()):
        use = purposes.purpose(purpose)
        found.add(
            "HC205",
            "A %s calls docker: it %s"
            % ({"unit": "systemd unit", "cron": "cron job"}.get(kind, kind), use.outcome),
            remedy=use.remedy,
            file=path,
            key="line " + join_limited(call["line"] for call in calls),
            value=join_limited(dict.fromkeys(call["command"] for call in calls)),
        )
    for agent in users.get("log_agents") or []:
        found.add(
            "HC212",
            "A log agent reads docker's log files. On containerd pods write to /var/log/pods, in "
            "the CRI log format and not as JSON",
            file=agent["path"],
            key="line %d" % agent["line"],
            value=clients.DOCKER_LOGS,
        )


def warn_own_containers(found: Findings, facts: NodeFacts) -> None:
    docker = facts["docker"]
    own = [entry for entry in docker["containers"] if entry["owner"] == "user"]
    if docker.get("swarm") in ("active", "pending", "locked"):
        services = sorted({str(e["swarm_service"]) for e in own if e.get("swarm_service")})
        found.add(
            "HC207",
            "This node is in a docker swarm, which keeps running beside Kubernetes as long as "
            "docker stays",
            key="swarm",
            value=join_limited(services) or docker["swarm"],
        )
    loose = [entry for entry in own if not entry.get("swarm_service")]
    if loose:
        projects: dict[str, int] = {}
        for entry in loose:
            if entry.get("project"):
                projects[str(entry["project"])] = projects.get(str(entry["project"]), 0) + 1
        shown = ["%s (compose project, %d)" % pair for pair in sorted(projects.items())]
        shown += sorted(str(entry["name"]) for entry in loose if not entry.get("project"))
        found.add(
            "HC206",
            "%s in docker, untouched; Kubernetes does not see %s"
            % (
                plural(len(loose), "user-managed container")
                + (" stays" if len(loose) == 1 else " stay"),
                "it" if len(loose) == 1 else "them",
            ),
            key="containers",
            value=join_limited(shown),
        )


def warn_docker(found: Findings, facts: NodeFacts, translated: Translated) -> None:
    docker = facts["docker"]
    value = docker["daemon_json"]["value"]
    path = docker["daemon_json"]["path"]
    for setting in translated["settings"]:
        if setting["key"] == "hosts" and "tcp:" in str(setting["value"]):
            verified = value.get("tlsverify") or docker["flags"].get("tlsverify")
            found.add(
                "HC208",
                "docker listens on TCP%s: remote clients will not see pods any more"
                % (
                    ""
                    if verified
                    else " without asking for a certificate, so every client that reaches it is "
                    "root on this node"
                ),
                file=setting["origin"],
                key="hosts",
                value=setting["value"],
            )
    if docker.get("live_restore"):
        found.add(
            "HC209",
            "docker's live-restore keeps containers running while dockerd is down, even when it is "
            "stopped for good; they keep their ports",
            file=path,
            key="live-restore",
            value=True,
        )
    driver = docker.get("storage_driver")
    if driver and driver not in ADOPTABLE:
        found.add(
            "HC210",
            "docker's storage driver is %s, so images are copied and cannot be adopted" % driver,
            key="storage driver",
            value=driver,
        )
    root = docker.get("root_dir") or "/var/lib/docker"
    if root.rstrip("/") != "/var/lib/docker":
        other = facts["disk"]["docker"]["device"] != facts["disk"]["containerd"]["device"]
        found.add(
            "HC211",
            "docker's data directory is not the default%s; containerd's root is %s"
            % (
                ", and on another file system" if other else "",
                facts["disk"]["containerd"]["path"],
            ),
            file=path,
            key="data-root",
            value=root,
        )
    others = [name for name in docker.get("runtimes") or [] if name not in OWN_RUNTIMES]
    if others:
        default = docker.get("default_runtime")
        found.add(
            "HC213",
            "docker has other runtimes than runc%s"
            % (", and runs every container with %s" % default if default in others else ""),
            file=path,
            key="runtimes",
            value=join_limited(others),
        )
    for login in facts.get("logins") or []:
        if login["error"]:
            found.add(
                "HC214",
                "A file with registry logins cannot be read: %s" % login["error"],
                remedy="Repair it, or log in again.",
                file=login["path"],
                key="auths",
            )
        elif not login["kubelet_reads"]:
            found.add(
                "HC214",
                "Only docker's command line uses these registry logins. Neither the kubelet nor "
                "containerd reads the file, before the switch or after",
                file=login["path"],
                key="auths",
                value=join_limited(login["hosts"] + login["helpers"]),
            )
    for need in facts["kubelet"].get("needs_docker") or []:
        found.add(
            "HC222",
            "The kubelet's unit depends on docker's: once docker is masked, the kubelet does not "
            "start",
            file=need["file"],
            key=need["key"],
            value=need["value"],
        )

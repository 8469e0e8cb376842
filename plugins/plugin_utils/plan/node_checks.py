# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What on one node stands against its switch, or has to be known before it. Pure functions.

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
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.result import (
    Translated,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.findings import Findings

Facts = dict[str, t.Any]
#: Storage drivers whose layers containerd's overlayfs snapshotter can take over as they are.
ADOPTABLE = ("overlay2",)
#: runtimes that every engine has.
OWN_RUNTIMES = ("runc", "io.containerd.runc.v2", "io.containerd.runtime.v1.linux")
#: Inodes that a stream takes for each of its bytes, half of which are blobs: measured, 39 000 a GB
#: of unpacked layers on images of Debian packages (docs/images.md).
INODES_PER_BYTE = 20e3 / 1e9
SHOWN = 8


def some(names: t.Iterable[t.Any], limit: int = SHOWN) -> str:
    """A list as a person reads it, the end of a long one counted."""
    listed = [str(name) for name in names]
    more = len(listed) - limit
    return ", ".join(listed[:limit]) + (", and %d more" % more if more > 0 else "")


def count(number: int, noun: str) -> str:
    return "%d %s%s" % (number, noun, "" if number == 1 else "s")


def check_kubernetes(found: Findings, facts: Facts, unfinished: bool) -> None:
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


def check_versions(
    found: Findings,
    facts: Facts,
    kubelet: versions.Version | None,
    containerd: versions.Version | None,
    config: Facts,
) -> None:
    if not kubelet:
        return
    cgroup = versions.cgroup_problem(
        kubelet, facts["os"]["cgroup_version"], config.get("failCgroupV1")
    )
    if cgroup:
        found.add(
            "HC115",
            "The kubelet does not start on this host's cgroup version: %s" % cgroup,
            "Boot the host with the other cgroup version (systemd.unified_cgroup_hierarchy), or "
            "upgrade the kubelet first.",
            file=facts["kubelet"]["config_path"],
            key="cgroup version",
            value=facts["os"]["cgroup_version"],
        )
    if not containerd:
        found.add(
            "HC103",
            "The version of containerd is unknown: none is installed, and none was asked for",
            "Set containerd_version to the one that containerd_install will bring.",
            key="containerd_version",
        )
        return
    problem = versions.pair_problem(kubelet, containerd)
    if problem:
        found.add(
            "HC103",
            problem,
            "Choose another with containerd_install and containerd_version, or upgrade the "
            "cluster first.",
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
                "Pods would not get their network: %s" % trouble,
                "Upgrade containerd to 1.6.4 or newer, or the CNI plugins to 1.0.0 or newer.",
                file=network["path"],
                key="cniVersion",
                value=network.get("cni_version"),
            )
            break


def check_files(found: Findings, facts: Facts, errors: dict[str, str]) -> None:
    if errors.get("kubelet_config"):
        found.add(
            "HC113",
            "The kubelet's configuration cannot be read: %s" % errors["kubelet_config"],
            "Repair the file; the kubelet itself would not start with it.",
            file=facts["kubelet"]["config_path"],
        )
    if errors.get("containerd_config"):
        found.add(
            "HC114",
            "containerd's configuration cannot be merged with: %s" % errors["containerd_config"],
            "Repair the file or move it away; it is never overwritten blindly.",
            file=facts["containerd"]["config_path"],
        )
    for entry in facts["containerd"].get("imports") or []:
        if "disabled_plugins" in entry["text"] and "cri" in entry["text"]:
            found.add(
                "HC117",
                "A file that containerd's configuration imports disables its CRI, and the main "
                "file cannot undo that",
                "Take the CRI out of disabled_plugins there, or the file out of imports.",
                file=entry["path"],
                key="disabled_plugins",
            )
        elif entry["text"].strip():
            found.add(
                "HC223",
                "containerd's configuration imports a file, whose keys come before those of the "
                "main one (and replace a plugin's whole table up to containerd 1.7)",
                "Compare it with /etc/containerd/config.toml after the preparation "
                "(containerd config dump).",
                file=entry["path"],
                key="imports",
            )


def check_docker(found: Findings, facts: Facts, driver: str) -> None:
    docker = facts["docker"]
    if docker["daemon_json"]["error"]:
        found.add(
            "HC105",
            "docker's configuration cannot be read: %s" % docker["daemon_json"]["error"],
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
    if docker.get("userns_remap"):
        found.add(
            "HC118",
            "docker remaps user namespaces: root in a pod is another user on the host today, and "
            "will be root, with other rights on volumes, on containerd",
            "Check what pods run as (securityContext) and who owns their volumes; then override "
            "this code.",
            file=docker["daemon_json"]["path"],
            key="userns-remap",
            value=docker["daemon_json"]["value"].get("userns-remap"),
        )


def check_flags(found: Findings, kubelet: Facts) -> None:
    files = [kubelet["kubeadm_flags"]] + kubelet["extra_args"]
    known: set[str] = set()
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
    sources = kubelet.get("flag_sources") or {}
    for name in sorted(((DOCKERSHIM_FLAGS | RUNTIME_FLAGS) & set(kubelet["flags"])) - known):
        found.add(
            "HC108",
            "The running kubelet has a flag of its runtime that is in none of its flag files",
            "Move it from the unit (systemctl cat kubelet) to /etc/default/kubelet.",
            file=sources.get(name),
            key="--" + name,
            value=kubelet["flags"][name],
        )
    for entry in kubelet["extra_args"]:
        for name in sorted({"pod-infra-container-image"} & set(flag_values(entry["words"]))):
            found.add(
                "HC221",
                "A flag is set in a place that kubeadm does not own; kubelets from 1.35 do not "
                "start with it, and kubeadm upgrade takes it out of its own file alone",
                "Take it out before that upgrade; containerd's sandbox image has its place in "
                "config.toml.",
                file=entry["path"],
                key="--" + name,
                value=flag_values(entry["words"])[name],
            )


def check_network(found: Findings, facts: Facts) -> None:
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


def check_space(found: Findings, facts: Facts, needed: int, linked: bool) -> None:
    """needed: bytes that the images will take once more on containerd's file system.

    linked: whether files are hard-linked, so that only directories take an inode more.
    """
    disk = facts["disk"]["containerd"]
    if needed > disk["free_bytes"]:
        found.add(
            "HC119",
            "The images would need %.1f GB more on containerd's file system, which has %.1f GB "
            "free" % (needed / 1e9, disk["free_bytes"] / 1e9),
            "Remove what nobody needs (docker image prune), enlarge the file system, or give "
            "containerd a root on a larger one.",
            file=disk["path"],
            key="free bytes",
            value=disk["free_bytes"],
        )
    inodes = 0 if linked else needed * INODES_PER_BYTE
    # btrfs and others count none.
    if disk.get("total_inodes") and inodes > disk["free_inodes"]:
        found.add(
            "HC119",
            "The images would need about %d inodes more, and the file system has %d free"
            % (inodes, disk["free_inodes"]),
            "Remove files or images that nobody needs, or give containerd a root elsewhere.",
            file=disk["path"],
            key="free inodes",
            value=disk["free_inodes"],
        )


#: Settings that have a finding of their own.
SAID_ELSEWHERE = ("insecure-registries", "userns-remap", "hosts")


def warn_settings(found: Findings, translated: Translated) -> None:
    for network in translated["unmatched"]:
        origin = [s["origin"] for s in translated["settings"] if s["key"] == "insecure-registries"]
        found.add(
            "HC201",
            "A network of insecure registries has no equivalent outside docker",
            "Name its registries one by one in containerd_registries.",
            file=origin[-1] if origin else None,
            key="insecure-registries",
            value=network,
        )
    for setting in translated["settings"]:
        key, fate = setting["key"], setting["fate"]
        if fate == "no_equivalent" and key not in SAID_ELSEWHERE:
            found.add(
                "HC219",
                "A setting of docker's has no equivalent: %s" % setting["text"],
                setting["remedy"] or "Nothing.",
                file=setting["origin"],
                key=key,
                value=setting["value"],
            )
        elif fate == "unknown":
            found.add(
                "HC220",
                "A setting of docker's is not carried over: %s" % setting["text"],
                setting["remedy"] or "Correct or remove it.",
                file=setting["origin"],
                key=key,
                value=setting["value"],
            )
    not_understood = [s for s in translated["settings"] if s["fate"] == "unknown"]
    for problem in translated["problems"]:
        # A setting that is not understood has its problem in its text, and its finding above.
        if not any(
            setting["key"] == problem["key"] and problem["text"] in setting["text"]
            for setting in not_understood
        ):
            found.add(
                "HC220",
                "docker's configuration has a fault: %s" % problem["text"],
                "Correct it; dockerd --validate (23 and newer) says whether docker takes it.",
                key=problem["key"],
            )


def warn_images(found: Findings, facts: Facts) -> None:
    docker = facts["docker"]
    local = [tag for image in docker["images"] for tag in image_names.unregistered_tags(image)]
    kubelet, containerd = facts["kubelet"], facts["containerd"]
    if local and not (containerd["pins_images"] and kubelet["supports_image_pinning"]):
        found.add(
            "HC202",
            "%s in no registry, and this kubelet and containerd do not heed pins: the kubelet's "
            "garbage collection may remove unused ones, and a timer on the node brings them back "
            "from docker" % (count(len(local), "image") + (" is" if len(local) == 1 else " are")),
            "Push them to a registry before docker is retired.",
            key="images",
            value=", ".join(local),
        )


#: What becomes of a use of docker, by its purpose.
OUTLOOK = {
    "builds": (
        "builds into docker, where the kubelet no longer looks",
        "Build with BuildKit instead (docs/buildkit.md).",
    ),
    "runs": (
        "runs containers in docker, beside Kubernetes, for as long as docker stays",
        "Make them pods, or keep docker for them.",
    ),
    "monitors": (
        "will see docker's containers alone, and no pod any more",
        "Point it at containerd's socket or the kubelet's API.",
    ),
    "images": (
        "moves images in docker, where the kubelet no longer looks",
        "Use ctr -n k8s.io images, or a registry.",
    ),
    "cleans": (
        "cleans up docker alone; the kubelet collects containerd's images itself",
        "Take it away with docker.",
    ),
    "logs": (
        "reads docker's own files, which pods no longer write",
        "Read /var/log/pods instead, in the CRI's format.",
    ),
    "unknown": (
        "uses docker, for what cannot be told",
        "Find out before the switch what it does with docker.",
    ),
}


def warn_users(found: Findings, facts: Facts) -> None:
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
            "A process is connected to docker's socket now; it will see docker's containers "
            "alone, and no pod any more",
            "Find out what it does there, and point it at containerd where it is about pods.",
            key="process %s (pid %d)" % (process["name"], process["pid"]),
            value=where,
        )
    by_place: dict[tuple[str, str, str], list[Facts]] = {}
    for call in users.get("files") or []:
        by_place.setdefault((call["path"], call["kind"], call["purpose"]), []).append(call)
    for (path, kind, purpose), calls in sorted(by_place.items()):
        what, remedy = OUTLOOK[purpose]
        found.add(
            "HC205",
            "A %s calls docker: it %s"
            % ({"unit": "systemd unit", "cron": "cron job"}.get(kind, kind), what),
            remedy,
            file=path,
            key="line " + some(call["line"] for call in calls),
            value=some(dict.fromkeys(call["command"] for call in calls)),
        )
    for agent in users.get("log_agents") or []:
        found.add(
            "HC212",
            "A log agent reads docker's log files; on containerd pods write to /var/log/pods, in "
            "the CRI's format and not as JSON",
            "Let it read /var/log/pods (or /var/log/containers) with a CRI parser.",
            file=agent["path"],
            key="line %d" % agent["line"],
            value=clients.DOCKER_LOGS,
        )


def warn_own_containers(found: Findings, facts: Facts) -> None:
    docker = facts["docker"]
    own = [entry for entry in docker["containers"] if entry["owner"] == "user"]
    if docker.get("swarm") in ("active", "pending", "locked"):
        services = sorted({str(e["swarm_service"]) for e in own if e.get("swarm_service")})
        found.add(
            "HC207",
            "This node is in a docker swarm, which goes on beside Kubernetes for as long as "
            "docker stays",
            "Move its services (or leave the swarm) before docker is retired.",
            key="swarm",
            value=some(services) or docker["swarm"],
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
            "%s of your own %s in docker, untouched; Kubernetes does not see them"
            % (count(len(loose), "container"), "stays" if len(loose) == 1 else "stay"),
            "Make them pods, or keep docker, before docker is retired.",
            key="containers",
            value=some(shown),
        )


def warn_docker(found: Findings, facts: Facts, translated: Translated) -> None:
    docker = facts["docker"]
    value = docker["daemon_json"]["value"]
    path = docker["daemon_json"]["path"]
    for setting in translated["settings"]:
        if setting["key"] == "hosts" and "tcp:" in str(setting["value"]):
            verified = value.get("tlsverify") or docker["flags"].get("tlsverify")
            found.add(
                "HC208",
                "docker listens on TCP%s: who uses it from elsewhere will not see pods any more"
                % (
                    ""
                    if verified
                    else ", without asking for a certificate, so that anybody who reaches it is "
                    "root on this node"
                ),
                "Find out who uses it; build with BuildKit over mTLS instead (docs/buildkit.md).",
                file=setting["origin"],
                key="hosts",
                value=setting["value"],
            )
    if docker.get("live_restore"):
        found.add(
            "HC209",
            "docker's live-restore keeps its containers while dockerd is down. containerd always "
            "does; but docker's stay alive when docker is stopped, and hold their ports",
            "Nothing to do for the switch; before docker is retired, stop your own containers.",
            file=path,
            key="live-restore",
            value=True,
        )
    driver = docker.get("storage_driver")
    if driver and driver not in ADOPTABLE:
        found.add(
            "HC210",
            "docker's storage driver is %s, so images have to be copied and cannot be adopted"
            % driver,
            "Nothing; it takes more time and space.",
            key="storage driver",
            value=driver,
        )
    root = docker.get("root_dir") or "/var/lib/docker"
    if root.rstrip("/") != "/var/lib/docker":
        other = facts["disk"]["docker"]["device"] != facts["disk"]["containerd"]["device"]
        found.add(
            "HC211",
            "docker keeps its data in a place of its own%s; containerd's root is %s"
            % (", on another file system" if other else "", facts["disk"]["containerd"]["path"]),
            "Give containerd a root on that file system too (root in config.toml), before the "
            "switch, if the other is small.",
            file=path,
            key="data-root",
            value=root,
        )
    others = [name for name in docker.get("runtimes") or [] if name not in OWN_RUNTIMES]
    if others:
        default = docker.get("default_runtime")
        found.add(
            "HC213",
            "docker knows other runtimes than runc%s"
            % (", and runs every container with %s" % default if default in others else ""),
            "Install their containerd side first (for NVIDIA: nvidia-ctk runtime configure "
            "--runtime=containerd); pods that ask for them need a RuntimeClass.",
            file=path,
            key="runtimes",
            value=some(others),
        )
    for login in facts.get("logins") or []:
        if login["error"]:
            found.add(
                "HC214",
                "A file with registry logins cannot be read: %s" % login["error"],
                "Repair it, or log in again.",
                file=login["path"],
                key="auths",
            )
        elif not login["kubelet_reads"]:
            found.add(
                "HC214",
                "Logins that only docker's command line knows: neither the kubelet nor containerd "
                "reads this file, before the switch or after",
                "Nothing for pods with imagePullSecrets; builds with buildctl read it as docker "
                "did. For the kubelet, copy it to /var/lib/kubelet/config.json.",
                file=login["path"],
                key="auths",
                value=some(login["hosts"] + login["helpers"]),
            )
    for need in facts["kubelet"].get("needs_docker") or []:
        found.add(
            "HC222",
            "The kubelet's unit depends on docker's: once docker is masked, the kubelet does not "
            "start any more",
            "Take it out of the unit before docker is retired (systemctl edit --full kubelet).",
            file=need["file"],
            key=need["key"],
            value=need["value"],
        )

#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_runtime_info
short_description: Look at everything on a node that a change of container runtime depends on
version_added: "0.1.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Returns plain data about the kubelet, docker, containerd, CNI, disks and operating system of
    a Kubernetes node, in one run.
  - It changes nothing. Registry credentials in the files it reads are blanked out.
  - What it cannot find out is V(null) or empty, never a guess; a file that cannot be parsed is
    returned with the error.
options:
  docker_socket:
    description: The engine's unix socket.
    type: path
    default: /var/run/docker.sock
  kubelet_config:
    description: The kubelet's configuration file, where its command line does not name one.
    type: path
    default: /var/lib/kubelet/config.yaml
  gather_subset:
    description:
      - What to look at, so that a second look after a change reads only what changed.
      - V(all), or names of the keys of RV(runtime_info); V(!NAME) leaves one out, as in
        M(ansible.builtin.setup). V(docker_users) reads the units, cron jobs and scripts of the
        whole node and its processes; it is most of the work, and only a plan needs it.
    type: list
    elements: str
    default: [all]
    version_added: "0.2.0"
attributes:
  check_mode:
    description: It only looks, in check mode as always.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Look at the node
  homelab.containerd.node_runtime_info:
  register: node

- name: Which runtime does the kubelet use?
  ansible.builtin.debug:
    msg: "{{ node.runtime_info.kubelet.runtime }}"
"""

RETURN = r"""
runtime_info:
  description:
    - What was found, a key for each name of O(gather_subset). Sizes are in bytes, times are as the
      program in question prints them.
  returned: always
  type: dict
  contains:
    os:
      description: Distribution, kernel, architecture, Python version, cgroup version (1 or 2).
      type: dict
    kubernetes:
      description: Node name, whether this is a control-plane node, paths of kubectl and admin.conf.
      type: dict
    kubelet:
      description:
        - Version, real command line, flags by name and the file that each comes from, flag files,
          unit files, dependencies on docker's units, text of its configuration file, endpoint, and
          C(runtime), one of V(dockershim), V(containerd), V(cri-dockerd), V(cri-o), V(unknown) or
          V(null).
      type: dict
    docker:
      description:
        - Version, directories, drivers, runtimes, daemon.json, TCP listeners, swarm state, its
          systemd dependencies, images, and containers with C(owner) V(kubernetes) or V(user),
          the latter with their compose project or swarm service.
      type: dict
    docker_users:
      description:
        - C(processes) that are connected to docker's socket now, the kubelet left out; C(files),
          which are units, cron jobs and scripts that call docker, each with line, subcommand and
          purpose; C(log_agents), whose configuration reads docker's log files.
      type: dict
    logins:
      description: Files with registry logins; their hosts, and whether the kubelet reads them.
      type: list
      elements: dict
    containerd:
      description:
        - Version, configuration text and that of imported files, root directory, whether CRI
          answers, image references in k8s.io.
      type: dict
    cni:
      description: Network configurations, plugin directories, what the loopback plugin supports.
      type: dict
    journal:
      description: C(direction), C(state) and C(flags_before) of an earlier switch, or V(null).
      type: dict
    disk:
      description: Free and total bytes and inodes, and type, of the file systems of docker's and
        containerd's data.
      type: dict
"""

import concurrent.futures
import glob
import json
import os
import platform
import re
import shutil
import sys
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils import (
    adoption,
    docker_users,
    kubelet_flags,
    node,
    version_rules,
)
from ansible_collections.homelab.containerd.plugins.module_utils.daemon_config import (
    CERTS_D,
    parse,
    proxies,
    without_credentials,
)
from ansible_collections.homelab.containerd.plugins.module_utils.docker_api import (
    DockerAPI,
    DockerError,
)

KUBEADM_FLAGS_FILE = "/var/lib/kubelet/kubeadm-flags.env"
EXTRA_ARGS_FILES = ("/etc/default/kubelet", "/etc/sysconfig/kubelet")
CONTAINERD_CONFIG = "/etc/containerd/config.toml"
KUBELET_ROOT = "/var/lib/kubelet"
#: Where people log in to registries by hand; the kubelet's own places come besides.
LOGIN_FILES = ("/root/.docker/config.json", "/root/.dockercfg", "/home/*/.docker/config.json")
WORKERS = 16


def os_facts() -> t.Dict[str, t.Any]:
    release = {}
    for line in (node.read_text("/etc/os-release") or "").splitlines():
        key, separator, value = line.partition("=")
        if separator:
            release[key] = value.strip('"')
    return {
        "id": release.get("ID"),
        "version_id": release.get("VERSION_ID"),
        "pretty_name": release.get("PRETTY_NAME"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "cgroup_version": 2 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1,
        "systemd": os.path.isdir("/run/systemd/system"),
    }


def find_program(*names: str) -> t.Optional[str]:
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/opt/bin"
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    return None


def flags_file(path: str, variable: str) -> t.Dict[str, t.Any]:
    text, why = node.read(path)
    words, error = kubelet_flags.read_env(text or "", variable)
    return {
        "path": path,
        "variable": variable,
        "exists": text is not None,
        "words": words,
        "error": error or why,
    }


def kubelet_runtime(
    flags: t.Dict[str, str], config_text: str, version: t.Optional[str]
) -> t.Tuple[t.Optional[str], t.Optional[str]]:
    """The CRI endpoint the kubelet uses (None for dockershim) and the runtime's name."""
    endpoint = flags.get("container-runtime-endpoint")
    in_file = re.search(
        r"^containerRuntimeEndpoint:[ \t]*[\"']?([^\s\"'#]+)", config_text, re.MULTILINE
    )
    if not endpoint and in_file:
        endpoint = in_file.group(1)
    minor = re.search(r"v1\.(\d+)", version or "")
    if flags.get("container-runtime", "docker") == "docker" and minor and int(minor.group(1)) < 24:
        return None, "dockershim"
    if not endpoint:
        return None, "unknown"
    for name, marker in (
        ("cri-dockerd", "cri-dockerd"),
        ("containerd", "containerd"),
        ("cri-o", "crio"),
    ):
        if marker in endpoint:
            return endpoint, name
    return endpoint, "unknown"


def kubelet_facts(config_path: str) -> t.Dict[str, t.Any]:
    binary = find_program("kubelet")
    pid, words = node.command_line("kubelet")
    flags = kubelet_flags.flag_values(words[1:])
    written = [flags_file(KUBEADM_FLAGS_FILE, "KUBELET_KUBEADM_ARGS")]
    written += [flags_file(path, "KUBELET_EXTRA_ARGS") for path in EXTRA_ARGS_FILES]
    if not words:  # stopped, by a switch that broke off perhaps: what it will be started with
        for entry in written:
            flags.update(kubelet_flags.flag_values(entry["words"]))
    config_path = flags.get("config", config_path)
    config_text, config_error = node.read(config_path)
    version = None
    if binary:
        printed = node.run([binary, "--version"], check=False).stdout
        match = re.search(r"v\d+\.\d+\.\d+\S*", printed)
        version = match.group(0) if match else None
    endpoint, runtime = (
        kubelet_runtime(flags, config_text or "", version) if words else (None, None)
    )
    units = unit_facts("kubelet.service")
    files = [(path, kubelet_flags.unit_flags(text)) for path, text in units["texts"].items()]
    files += [
        (entry["path"], list(kubelet_flags.flag_values(entry["words"]).items()))
        for entry in written
    ]
    return {
        "binary": binary,
        "version": version,
        "pid": pid,
        "enabled": node.run(["systemctl", "is-enabled", "kubelet"], check=False).returncode == 0,
        "command_line": words,
        "flags": flags,
        "flag_sources": kubelet_flags.sources(flags, files),
        "unit_files": sorted(units["texts"]),
        "needs_docker": units["needs_docker"],
        "home": environment(pid).get("HOME", "") if pid else "",
        "kubeadm_flags": written[0],
        "extra_args": [entry for entry in written[1:] if entry["exists"]],
        "config_path": config_path,
        "config_text": config_text,
        "config_error": config_error,
        "endpoint": endpoint,
        "runtime": runtime,
        "heeds_pins": (version_rules.parse_version(version) or (0,))
        >= version_rules.KUBELET_HEEDS_PINS_FROM,
    }


def unit_facts(unit: str) -> t.Dict[str, t.Any]:
    """A unit's files in the order systemd reads them, and how it depends on docker's units.

    {"texts": {path: text}, "needs_docker": [{"file", "key", "value"}]}
    """
    shown = node.run(
        ["systemctl", "show", unit, "-p", "FragmentPath", "-p", "DropInPaths"], check=False
    )
    paths = [path for line in shown.stdout.splitlines() for path in line.partition("=")[2].split()]
    texts = {path: node.read_text(path) or "" for path in paths}
    needs = [
        {"file": path, "key": match.group(1), "value": value}
        for path, text in texts.items()
        for match in re.finditer(r"(?m)^\s*(Requires|Requisite|BindsTo|PartOf)\s*=(.*)$", text)
        for value in match.group(2).split()
        if value in ("docker.service", "docker.socket")
    ]
    return {"texts": texts, "needs_docker": needs}


def environment(pid: int) -> t.Dict[str, str]:
    """A process's environment as it was started with."""
    words = (node.read_text("/proc/%d/environ" % pid) or "").split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)


def daemon_json(path: str) -> t.Dict[str, t.Any]:
    text, why = node.read(path)
    found: t.Dict[str, t.Any] = {"path": path, "exists": text is not None, "value": {}}
    found.update(error=why, duplicates=[])
    if text is not None:
        value, error, duplicates = parse(text)
        found.update(value=without_credentials(value), error=error, duplicates=duplicates)
        for key in ("insecure-registries", "registry-mirrors"):
            if not isinstance(value.get(key) or [], list):
                found["error"] = "%s: a list is expected" % key
    return found


def certificate_files() -> t.Dict[str, t.List[str]]:
    """The names of what docker has for each registry: {"name[:port]": [file names]}."""
    found = {}
    for path in sorted(glob.glob(CERTS_D + "/*/")):
        found[os.path.basename(os.path.dirname(path))] = sorted(os.listdir(path))
    return found


def docker_container(api: DockerAPI, listed: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    labels = listed.get("Labels") or {}
    kubernetes = any(label.startswith("io.kubernetes.") for label in labels)
    found = {
        "id": listed["Id"],
        "name": (listed.get("Names") or ["/"])[0].lstrip("/"),
        "image": listed.get("Image"),
        "image_id": listed.get("ImageID"),
        "state": listed.get("State"),
        "owner": "kubernetes" if kubernetes else "user",
    }
    if kubernetes:
        found["type"] = labels.get("io.kubernetes.docker.type")
        found["pod"] = {
            key: labels.get("io.kubernetes.pod." + key) for key in ("namespace", "name", "uid")
        }
    else:
        found["project"] = labels.get("com.docker.compose.project")
        found["swarm_service"] = labels.get("com.docker.swarm.service.name")
        found["mounts"] = [
            mount["Source"] for mount in listed.get("Mounts") or [] if mount.get("Source")
        ]
        # Only these are few enough to look at one by one, and only of these it matters.
        try:
            state = api.get("/containers/%s/json" % listed["Id"])
        except DockerError:
            return found  # gone since it was listed
        found.update(
            started_at=state["State"].get("StartedAt"),
            pid=state["State"].get("Pid"),
            restart_count=state.get("RestartCount"),
            restart_policy=state.get("HostConfig", {}).get("RestartPolicy", {}).get("Name"),
        )
    return found


def layer_bytes(root: str, driver: str) -> t.Optional[int]:
    """Bytes of all image layers, each counted once, as docker's layer store has them."""
    sizes = [
        node.read_text(path)
        for path in glob.glob("%s/image/%s/layerdb/sha256/*/size" % (glob.escape(root), driver))
    ]
    try:
        return sum(int(size or 0) for size in sizes) if sizes else None
    except ValueError:
        return None


def docker_facts(socket_path: str) -> t.Dict[str, t.Any]:
    binary = find_program("dockerd", "docker")
    pid, words = node.command_line("dockerd")
    flags = kubelet_flags.flag_values(words[1:])
    found = {
        "binary": binary,
        "active": False,
        "command_line": without_credentials(words),
        "flags": without_credentials(flags),
        "certs_d": certificate_files(),
        # What systemd or the owner gave the daemon; the rest of its environment is its own.
        "environment": {
            name: without_credentials(value)
            for name, value in proxies(environment(pid) if pid else {}).items()
        },
        "daemon_json": daemon_json(flags.get("config-file", "/etc/docker/daemon.json")),
        "containers": [],
        "images": [],
        "stops_with": [],
        "error": None,
    }  # type: t.Dict[str, t.Any]
    if not binary:
        found["error"] = "there is no dockerd on this node"
        return found
    shown = node.run(
        ["systemctl", "show", "docker.service", "-p", "BindsTo", "-p", "Requires", "-p", "PartOf"],
        check=False,
    ).stdout
    found["stops_with"] = sorted(
        {
            line.partition("=")[0]
            for line in shown.splitlines()
            if "containerd.service" in line.partition("=")[2].split()
        }
    )
    api = DockerAPI(socket_path)
    try:
        info = api.get("/info")
        listed = api.get("/containers/json", {"all": 1})
        images = api.get("/images/json", {"all": 0})
    except (DockerError, ValueError) as exc:
        found["error"] = str(exc)
        return found
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        containers = list(pool.map(lambda entry: docker_container(api, entry), listed))
    found.update(
        adoption.storage(info),
        active=True,
        version=info.get("ServerVersion"),
        cgroup_driver=info.get("CgroupDriver"),
        live_restore=info.get("LiveRestoreEnabled"),
        containerd_address=flags.get("containerd"),
        logging_driver=info.get("LoggingDriver"),
        default_runtime=info.get("DefaultRuntime"),
        runtimes=sorted(info.get("Runtimes") or {}),
        swarm=(info.get("Swarm") or {}).get("LocalNodeState"),
        containers=containers,
        images=[
            {
                "id": image["Id"],
                "tags": [tag for tag in image.get("RepoTags") or [] if tag != "<none>:<none>"],
                "digests": [
                    digest
                    for digest in image.get("RepoDigests") or []
                    if not digest.startswith("<none>")
                ],
                "size": image.get("Size", 0),
            }
            for image in images
        ],
    )
    return found


def toml_without_credentials(text: t.Optional[str]) -> t.Optional[str]:
    if text is None:
        return None
    return re.sub(
        r"(?im)^(\s*\"?(?:password|auth|identitytoken|username)\"?\s*=).*$", r'\1 "***"', text
    )


def containerd_imports(text: str) -> t.List[t.Dict[str, t.Any]]:
    """The files that a config.toml imports: [{"path", "text"}] (containerd-config.toml(5))."""
    written = re.search(r"(?ms)^imports\s*=\s*\[(.*?)\]", text)
    patterns = re.findall(r"[\"']([^\"']+)[\"']", written.group(1)) if written else []
    directory = os.path.dirname(CONTAINERD_CONFIG)
    paths = [path for pattern in patterns for path in glob.glob(os.path.join(directory, pattern))]
    return [
        {"path": path, "text": toml_without_credentials(node.read_text(path)) or ""}
        for path in sorted(set(paths))
    ]


def containerd_facts() -> t.Dict[str, t.Any]:
    binary = find_program("containerd")
    written, why = node.read(CONTAINERD_CONFIG)
    text = toml_without_credentials(written)
    found = {
        "binary": binary,
        "version": None,
        "active": node.unit_active("containerd.service"),
        "config_path": CONTAINERD_CONFIG,
        "config_text": text,
        "config_error": why,
        "cri_ready": False,
        "pins_images": False,
        "images": [],
        "root": "/var/lib/containerd",
        "imports": [],
    }  # type: t.Dict[str, t.Any]
    root = re.search(r"(?m)^root\s*=\s*[\"']([^\"']+)", text or "")
    if root:
        found["root"] = root.group(1)
    found["imports"] = containerd_imports(text or "")
    if not binary:
        return found
    words = node.run([binary, "--version"], check=False).stdout.split()
    found["version"] = words[2] if len(words) > 2 else None
    try:
        with open(binary, "rb") as stream:
            # The label is in the program's text from 1.6.22 and 1.7.3 on; distributions
            # backport, so the program itself is asked rather than a table.
            found["pins_images"] = b"io.cri-containerd.pinned" in stream.read()
    except OSError:
        pass
    if found["active"]:
        plugins = node.run(["ctr", "plugins", "list"], check=False).stdout
        found["cri_ready"] = bool(
            re.search(r"^io\.containerd\.grpc\.v1\s+cri\s.*\bok\b", plugins, re.M)
        )
        images = node.run(["ctr", "-n", node.NAMESPACE, "images", "list", "-q"], check=False).stdout
        found["images"] = [line for line in images.splitlines() if line]
    return found


def cni_facts(flags: t.Dict[str, str]) -> t.Dict[str, t.Any]:
    conf_dir = flags.get("cni-conf-dir", "/etc/cni/net.d")
    configurations = []
    if os.path.isdir(conf_dir):
        for name in sorted(os.listdir(conf_dir)):
            if name.endswith((".conf", ".conflist", ".json")):
                path = os.path.join(conf_dir, name)
                entry: t.Dict[str, t.Any] = {"path": path, "types": [], "error": None}
                try:
                    value = json.loads(node.read_text(path) or "")
                    plugins = value.get("plugins") or [value]
                    entry["types"] = [plugin.get("type") for plugin in plugins]
                    entry["cni_version"] = value.get("cniVersion")
                except (ValueError, AttributeError) as exc:
                    entry["error"] = str(exc)
                configurations.append(entry)
    bin_dirs = flags.get("cni-bin-dir", "/opt/cni/bin").split(",")
    loopback = shutil.which("loopback", path=os.pathsep.join(bin_dirs))
    return {
        "conf_dir": conf_dir,
        "configurations": configurations,
        "bin_dirs": bin_dirs,
        "loopback_supports": supported_versions(loopback) if loopback else [],
        "plugins": sorted(
            {name for path in bin_dirs if os.path.isdir(path) for name in os.listdir(path)}
        ),
    }


def supported_versions(plugin: str) -> t.List[str]:
    """The CNI versions that a plugin says it supports (CNI specification, "VERSION")."""
    done = node.run(["env", "CNI_COMMAND=VERSION", plugin], timeout=10, check=False)
    try:
        return [str(version) for version in json.loads(done.stdout)["supportedVersions"]]
    except (ValueError, KeyError, TypeError):
        return []


def docker_users_facts(socket_path: str) -> t.Dict[str, t.Any]:
    names = {socket_path, os.path.realpath(socket_path), "/run/docker.sock", "/var/run/docker.sock"}
    return {
        "processes": docker_users.connected_processes(sorted(names)),
        "files": docker_users.calling_files(),
        "log_agents": docker_users.log_agents(),
    }


def kubernetes_facts(kubelet: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    admin_conf = "/etc/kubernetes/admin.conf"
    return {
        # As the kubelet makes it (k8s.io/component-helpers/node/util, GetHostname).
        "node_name": (kubelet["flags"].get("hostname-override") or platform.node()).strip().lower(),
        "control_plane": os.path.exists("/etc/kubernetes/manifests/kube-apiserver.yaml"),
        "kubectl": find_program("kubectl"),
        "admin_conf": admin_conf if os.path.exists(admin_conf) else None,
    }


def login_facts(kubelet: t.Dict[str, t.Any]) -> t.List[t.Dict[str, t.Any]]:
    root = kubelet["flags"].get("root-dir", KUBELET_ROOT)
    try:
        directory = os.readlink("/proc/%s/cwd" % kubelet["pid"]) if kubelet["pid"] else "/"
    except OSError:
        directory = "/"
    reads = docker_users.kubelet_login_paths(root, directory, kubelet["home"])
    by_hand = [path for pattern in LOGIN_FILES for path in sorted(glob.glob(pattern))]
    return docker_users.logins(dict.fromkeys(reads + by_hand), frozenset(reads))


def journal_facts() -> t.Optional[t.Dict[str, t.Any]]:
    """What an earlier switch wrote, with the flags that the kubelet had before it."""
    try:
        journal = json.loads(node.read_text(node.JOURNAL) or "null")
        if not journal:
            return None
        before = (journal.get("files_before") or {}).get(KUBEADM_FLAGS_FILE)
        words, _error = kubelet_flags.read_env(before or "", "KUBELET_KUBEADM_ARGS")
        return {
            "direction": journal["direction"],
            "state": journal["state"],
            "flags_before": kubelet_flags.flag_values(words),
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


SUBSETS = (
    "os",
    "kubernetes",
    "kubelet",
    "docker",
    "docker_users",
    "logins",
    "containerd",
    "cni",
    "journal",
    "disk",
)


def chosen_subsets(wanted: t.Sequence[str]) -> t.Set[str]:
    """The subsets that gather_subset asks for; ValueError for a name that there is not."""
    unknown = {name.lstrip("!") for name in wanted} - set(SUBSETS) - {"all"}
    if unknown:
        raise ValueError(
            "gather_subset: there is no %s; choose from all, %s"
            % (", ".join(sorted(unknown)), ", ".join(SUBSETS))
        )
    added = [name for name in wanted if not name.startswith("!")]
    chosen = set(SUBSETS) if "all" in added or not added else set(added)
    return chosen - {name[1:] for name in wanted if name.startswith("!")}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
            "kubelet_config": {"type": "path", "default": "/var/lib/kubelet/config.yaml"},
            "gather_subset": {"type": "list", "elements": "str", "default": ["all"]},
        },
        supports_check_mode=True,
    )
    try:
        chosen = chosen_subsets(module.params["gather_subset"])
    except ValueError as exc:
        module.fail_json(msg=str(exc))
    socket = module.params["docker_socket"]
    journal = journal_facts()
    # Each of these waits for programs and for docker most of the time.
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:

        def look(
            needed_for: t.Set[str], function: t.Callable[..., t.Any], *arguments: t.Any
        ) -> t.Any:
            return pool.submit(function, *arguments) if chosen & needed_for else None

        looking = {
            "kubelet": look(
                {"kubelet", "kubernetes", "logins", "cni"},
                kubelet_facts,
                module.params["kubelet_config"],
            ),
            "docker": look({"docker", "disk"}, docker_facts, socket),
            "containerd": look({"containerd", "disk"}, containerd_facts),
            "docker_users": look({"docker_users"}, docker_users_facts, socket),
        }
        found: t.Dict[str, t.Any] = {
            name: future.result() for name, future in looking.items() if future
        }
    kubelet: t.Dict[str, t.Any] = found.get("kubelet", {})
    if "os" in chosen:
        found["os"] = os_facts()
    if "kubernetes" in chosen:
        found["kubernetes"] = kubernetes_facts(kubelet)
    if "logins" in chosen:
        found["logins"] = login_facts(kubelet)
    if "cni" in chosen:
        # The switch takes dockershim's CNI flags away; the directories stay where they were.
        found["cni"] = cni_facts(dict((journal or {}).get("flags_before", {}), **kubelet["flags"]))
    if "disk" in chosen:
        found["disk"] = {
            "docker": node.disk_facts(found["docker"].get("root_dir") or "/var/lib/docker"),
            "containerd": node.disk_facts(found["containerd"]["root"]),
        }
    found["journal"] = journal
    module.exit_json(
        changed=False, runtime_info={name: found[name] for name in SUBSETS if name in chosen}
    )


if __name__ == "__main__":
    main()

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of the kubelet."""

from __future__ import annotations

import glob
import os
import platform
import re
import tempfile
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._docker import clients
from ansible_collections.homelab.containerd.plugins.module_utils._facts.host import (
    environment,
    find_program,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    files,
    paths,
    sanitize,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.flags import flag_values
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import (
    kubelet_flags,
    static_pods,
    versions,
)
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes.node_api import NodeAPI

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        ApiFacts,
        FlagsFile,
        KubeletFacts,
        KubernetesFacts,
        Login,
        Runtime,
        UnitDependency,
    )

KUBELET_ROOT = "/var/lib/kubelet"
#: Where people log in to registries by hand; the kubelet's own places come besides.
LOGIN_FILES = ("/root/.docker/config.json", "/root/.dockercfg", "/home/*/.docker/config.json")


#: What in an endpoint tells the runtime, in this order.
RUNTIMES: t.Tuple[t.Tuple[str, Runtime], ...] = (
    ("cri-dockerd", "cri-dockerd"),
    ("containerd", "containerd"),
    ("crio", "cri-o"),
)


def flags_file(path: str, variable: str) -> FlagsFile:
    text, why = files.read(path)
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
) -> t.Tuple[t.Optional[str], t.Optional[Runtime]]:
    """The CRI endpoint the kubelet uses (None for dockershim) and the runtime's name."""
    endpoint = flags.get("container-runtime-endpoint")
    in_file = re.search(
        r"^containerRuntimeEndpoint:[ \t]*[\"']?([^\s\"'#]+)", config_text, re.MULTILINE
    )
    if not endpoint and in_file:
        endpoint = in_file.group(1)
    parsed = versions.parse_version(version)
    by_default = flags.get("container-runtime", "docker") == "docker"
    if by_default and parsed and versions.has_dockershim(parsed):
        return None, "dockershim"
    if not endpoint:
        return None, "unknown"
    for marker, name in RUNTIMES:
        if marker in endpoint:
            return endpoint, name
    return endpoint, "unknown"


def kubelet_facts(config_path: str) -> KubeletFacts:
    binary = find_program("kubelet")
    pid, words = commands.command_line("kubelet")
    flags = flag_values(words[1:])
    written = [flags_file(*paths.KUBEADM_FLAGS)]
    written += [flags_file(*entry) for entry in paths.EXTRA_ARGS]
    if not words:  # stopped, by a switch that was interrupted perhaps: what it will be started with
        for entry in written:
            flags.update(flag_values(entry["words"]))
    config_path = flags.get("config", config_path)
    config_text, config_error = files.read(config_path)
    version = None
    if binary:
        printed = commands.run([binary, "--version"], check=False).stdout
        match = re.search(r"v\d+\.\d+\.\d+\S*", printed)
        version = match.group(0) if match else None
    endpoint, runtime = (
        kubelet_runtime(flags, config_text or "", version) if words else (None, None)
    )
    texts, needs_docker = unit_facts("kubelet.service")
    places = [(path, kubelet_flags.unit_flags(text)) for path, text in texts.items()]
    places += [(entry["path"], list(flag_values(entry["words"]).items())) for entry in written]
    return {
        "binary": binary,
        "version": version,
        "pid": pid,
        "command_line": sanitize.blank(words),
        "flags": sanitize.blank(flags),
        "flag_sources": kubelet_flags.sources(flags, places),
        "needs_docker": needs_docker,
        "home": environment(pid).get("HOME", "") if pid else "",
        "kubeadm_flags": sanitize.blank(written[0]),
        "extra_args": sanitize.blank([entry for entry in written[1:] if entry["exists"]]),
        "config_path": config_path,
        "config_text": None if config_text is None else sanitize.blank_yaml(config_text),
        "config_error": config_error,
        "endpoint": endpoint,
        "runtime": runtime,
        "supports_image_pinning": versions.supports_image_pinning(
            versions.parse_version(version) or (0,)
        ),
    }


def unit_facts(unit: str) -> t.Tuple[t.Dict[str, str], t.List[UnitDependency]]:
    """A unit's files, path to text, as systemd reads them, and how it depends on docker's units."""
    shown = commands.run(
        ["systemctl", "show", unit, "-p", "FragmentPath", "-p", "DropInPaths"], check=False
    )
    names = [path for line in shown.stdout.splitlines() for path in line.partition("=")[2].split()]
    texts = {path: files.read_text(path) or "" for path in names}
    needs: t.List[UnitDependency] = [
        {"file": path, "key": match.group(1), "value": value}
        for path, text in texts.items()
        for match in re.finditer(r"(?m)^\s*(Requires|Requisite|BindsTo|PartOf)\s*=(.*)$", text)
        for value in match.group(2).split()
        if value in ("docker.service", "docker.socket")
    ]
    return texts, needs


def node_name(kubelet: KubeletFacts) -> str:
    """As the kubelet makes it (k8s.io/component-helpers/node/util, GetHostname)."""
    return (kubelet["flags"].get("hostname-override") or platform.node()).strip().lower()


def kubernetes_facts(kubelet: KubeletFacts, name: str = "") -> KubernetesFacts:
    return {
        "node_name": name or node_name(kubelet),
        "control_plane": static_pods.has_api_server(Host()),
        "kubectl": find_program("kubectl"),
        "admin_conf": paths.ADMIN_CONF if os.path.exists(paths.ADMIN_CONF) else None,
    }


def api_facts(kubelet: KubeletFacts, kubeconfig: str, name: str = "") -> ApiFacts:
    """Whether the node can ask the API about itself as the switch will."""
    # A look leaves nothing behind.
    with tempfile.TemporaryDirectory() as home:
        _pods, complaint = NodeAPI(Host(), kubeconfig, name or node_name(kubelet), home).look()
    return {"kubeconfig": kubeconfig, "error": complaint or None}


def login_facts(kubelet: KubeletFacts) -> t.List[Login]:
    root = kubelet["flags"].get("root-dir", KUBELET_ROOT)
    try:
        directory = os.readlink("/proc/%s/cwd" % kubelet["pid"]) if kubelet["pid"] else "/"
    except OSError:
        directory = "/"
    reads = clients.kubelet_login_paths(root, directory, kubelet["home"])
    by_hand = [path for pattern in LOGIN_FILES for path in sorted(glob.glob(pattern))]
    return clients.logins(dict.fromkeys(reads + by_hand), frozenset(reads))

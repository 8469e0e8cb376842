# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of docker."""

from __future__ import annotations

import concurrent.futures
import glob
import os
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._containerd import adoption
from ansible_collections.homelab.containerd.plugins.module_utils._docker import (
    clients,
    daemon_config,
)
from ansible_collections.homelab.containerd.plugins.module_utils._docker.api import (
    DockerAPI,
    DockerError,
)
from ansible_collections.homelab.containerd.plugins.module_utils._docker.daemon_config import (
    CERTS_D,
    parse,
    proxies,
)
from ansible_collections.homelab.containerd.plugins.module_utils._facts.host import (
    environment,
    find_program,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    files,
    sanitize,
)

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        DaemonJson,
        DockerContainer,
        DockerFacts,
        DockerImage,
        DockerUsersFacts,
        Object,
    )

WORKERS = 16


def daemon_json(path: str) -> DaemonJson:
    text, why = files.read(path)
    found: DaemonJson = {
        "path": path,
        "exists": text is not None,
        "value": {},
        "error": why,
        "duplicates": [],
    }
    if text is not None:
        value, found["error"], found["duplicates"] = parse(text)
        found["value"] = daemon_config.shown(value)
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


def docker_container(api: DockerAPI, listed: Object) -> DockerContainer:
    labels = listed.get("Labels") or {}
    kubernetes = any(label.startswith("io.kubernetes.") for label in labels)
    found: DockerContainer = {
        "id": listed["Id"],
        "name": (listed.get("Names") or ["/"])[0].lstrip("/"),
        "image": listed.get("Image"),
        "state": listed.get("State"),
        "owner": "kubernetes" if kubernetes else "user",
    }
    if kubernetes:
        found["type"] = labels.get("io.kubernetes.docker.type")
        found["pod"] = {
            "namespace": labels.get("io.kubernetes.pod.namespace"),
            "name": labels.get("io.kubernetes.pod.name"),
            "uid": labels.get("io.kubernetes.pod.uid"),
        }
    else:
        found["project"] = labels.get("com.docker.compose.project")
        found["swarm_service"] = labels.get("com.docker.swarm.service.name")
        # Only these are few enough to look at one by one, and only of these it matters.
        try:
            state = api.get("/containers/%s/json" % listed["Id"])
        except DockerError as exc:
            if exc.status != 404:
                raise
            return found  # gone since it was listed
        found.update(
            {
                "started_at": state["State"].get("StartedAt"),
                "pid": state["State"].get("Pid"),
                "restart_count": state.get("RestartCount"),
            }
        )
    return found


def docker_image(listed: Object) -> DockerImage:
    """An image as docker's API lists it; one that lost its name is called <none>."""
    return {
        "id": listed["Id"],
        "tags": [tag for tag in listed.get("RepoTags") or [] if "<none>" not in tag],
        "digests": [digest for digest in listed.get("RepoDigests") or [] if "<none>" not in digest],
        "size": listed.get("Size", 0),
    }


def layer_bytes(root: str, driver: str) -> t.Optional[int]:
    """Bytes of all image layers, each counted once, as docker's layer store has them."""
    sizes = [
        files.read_text(path)
        for path in glob.glob("%s/image/%s/layerdb/sha256/*/size" % (glob.escape(root), driver))
    ]
    try:
        return sum(int(size or 0) for size in sizes) if sizes else None
    except ValueError:
        return None


def docker_facts(socket_path: str) -> DockerFacts:
    binary = find_program("dockerd", "docker")
    pid, words = commands.command_line("dockerd")
    flags = daemon_config.flag_values(words)
    found: DockerFacts = {
        "binary": binary,
        "active": False,
        "command_line": daemon_config.shown_words(words),
        "flags": daemon_config.shown(flags),
        "certs_d": certificate_files(),
        # What systemd or the owner gave the daemon; the rest of its environment is its own.
        "environment": {
            name: sanitize.blank_text(value)
            for name, value in proxies(environment(pid) if pid else {}).items()
        },
        "daemon_json": daemon_json(daemon_config.config_file(flags)),
        "containers": [],
        "images": [],
        "stops_with": [],
        "error": None,
    }
    if not binary:
        found["error"] = "there is no dockerd on this node"
        return found
    shown = commands.run(
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
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            containers = list(pool.map(lambda entry: docker_container(api, entry), listed))
    except (DockerError, ValueError) as exc:
        found["error"] = sanitize.blank_text(str(exc))
        return found
    storage = adoption.storage(info)
    found.update(
        {
            "root_dir": storage["root_dir"],
            "storage_driver": storage["storage_driver"],
            "driver_status": storage["driver_status"],
            "userns_remap": storage["userns_remap"],
            "rootless": storage["rootless"],
            "layer_bytes": layer_bytes(info["DockerRootDir"], info["Driver"]),
            "active": True,
            "version": info.get("ServerVersion"),
            "cgroup_driver": info.get("CgroupDriver"),
            "live_restore": info.get("LiveRestoreEnabled"),
            "default_runtime": info.get("DefaultRuntime"),
            "runtimes": sorted(info.get("Runtimes") or {}),
            "swarm": (info.get("Swarm") or {}).get("LocalNodeState"),
            "containers": containers,
            "images": [docker_image(image) for image in images],
        }
    )
    return found


def docker_users_facts(socket_path: str) -> DockerUsersFacts:
    names = {socket_path, os.path.realpath(socket_path), "/run/docker.sock", "/var/run/docker.sock"}
    return {
        "processes": clients.connected_processes(sorted(names)),
        "files": clients.calling_files(),
        "log_agents": clients.log_agents(),
    }

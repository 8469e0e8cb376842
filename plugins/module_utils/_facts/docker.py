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
    without_credentials,
)
from ansible_collections.homelab.containerd.plugins.module_utils._facts.host import (
    environment,
    find_program,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, files

WORKERS = 16


def daemon_json(path: str) -> t.Dict[str, t.Any]:
    text, why = files.read(path)
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
        files.read_text(path)
        for path in glob.glob("%s/image/%s/layerdb/sha256/*/size" % (glob.escape(root), driver))
    ]
    try:
        return sum(int(size or 0) for size in sizes) if sizes else None
    except ValueError:
        return None


def docker_facts(socket_path: str) -> t.Dict[str, t.Any]:
    binary = find_program("dockerd", "docker")
    pid, words = commands.command_line("dockerd")
    flags = daemon_config.flag_values(words)
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
        "daemon_json": daemon_json(daemon_config.config_file(flags)),
        "containers": [],
        "images": [],
        "stops_with": [],
        "error": None,
    }  # type: t.Dict[str, t.Any]
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
        containerd_address=flags.get("containerd", [None])[-1],
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


def docker_users_facts(socket_path: str) -> t.Dict[str, t.Any]:
    names = {socket_path, os.path.realpath(socket_path), "/run/docker.sock", "/var/run/docker.sock"}
    return {
        "processes": clients.connected_processes(sorted(names)),
        "files": clients.calling_files(),
        "log_agents": clients.log_agents(),
    }

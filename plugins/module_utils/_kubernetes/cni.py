# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give pod addresses back when pods are stopped without the runtime that made them.

Neither ``docker stop`` nor a killed containerd task makes a CNI DEL, so host-local would keep
the address for ever. libcni caches what DEL needs for every attachment (CNI specification 1.0,
section 4; libcni api.go, "cniCacheV1").
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host

#: dockershim's cache (kubelet --cni-cache-dir) and containerd's (go-cni's default).
CACHE_DIRS = ("/var/lib/cni/cache/results", "/var/lib/cni/results")
HOST_LOCAL_DIR = "/var/lib/cni/networks"


def attachments(host: Host, containers: t.Container[str]) -> t.List[t.Dict[str, t.Any]]:
    """The cached attachments of these sandboxes, each with the "path" of its cache file."""
    found = []
    for directory in map(host.path, CACHE_DIRS):
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
            path = os.path.join(directory, name)
            try:
                with open(path, encoding="utf-8") as stream:
                    entry = json.load(stream)
                if entry.get("containerId") in containers:
                    found.append(dict(entry, path=path))
            except (OSError, ValueError, AttributeError):
                continue  # an older cache format, or gone since: release_leftovers() is left
    return found


def delete_requests(attachment: t.Dict[str, t.Any]) -> t.List[t.Tuple[str, t.Dict[str, t.Any]]]:
    """Plugin name and its standard input for DEL, last plugin first (CNI specification 3)."""
    config = json.loads(base64.b64decode(attachment["config"]).decode("utf-8"))
    version = config.get("cniVersion", "0.1.0")
    capabilities = attachment.get("capabilityArgs") or {}
    requests = []
    for plugin in reversed(config.get("plugins") or [config]):
        request = dict(plugin, name=config.get("name"), cniVersion=version)
        asked = request.pop("capabilities", None) or {}
        arguments = {key: value for key, value in capabilities.items() if asked.get(key)}
        if arguments:
            request["runtimeConfig"] = arguments
        # Before 0.4.0 DEL has no prevResult.
        if tuple(int(part) for part in version.split(".")[:2]) >= (0, 4):
            request["prevResult"] = attachment.get("result")
        requests.append((str(plugin.get("type")), request))
    return requests


def network_namespaces(attachment: t.Dict[str, t.Any]) -> t.List[str]:
    """Paths of the network namespaces that the attachment's result names."""
    interfaces = (attachment.get("result") or {}).get("interfaces") or []
    return sorted({entry["sandbox"] for entry in interfaces if entry.get("sandbox")})


def release(attachment: t.Dict[str, t.Any], netns: str, bin_dirs: t.Sequence[str]) -> t.List[str]:
    """DEL one attachment and forget its cache; returns what the plugins complained of.

    netns may be "" or a path that is gone: DEL has to accept that (CNI specification 4).
    """
    complaints = []
    environment = {
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": attachment["containerId"],
        "CNI_NETNS": netns,
        "CNI_IFNAME": attachment.get("ifName", "eth0"),
        "CNI_ARGS": ";".join("=".join(pair) for pair in attachment.get("cniArgs") or []),
        "CNI_PATH": ":".join(bin_dirs),
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
    }
    try:
        requests = delete_requests(attachment)
    except (AttributeError, KeyError, ValueError) as exc:
        return ["%s: %s" % (attachment["path"], exc)]
    for plugin, request in requests:
        programs = [os.path.join(directory, plugin) for directory in bin_dirs]
        program = next((path for path in programs if os.path.exists(path)), None)
        if program is None:
            complaints.append("no CNI plugin %s in %s" % (plugin, ", ".join(bin_dirs)))
            continue
        try:
            done = subprocess.run(
                [program],
                input=json.dumps(request).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=30,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            complaints.append("%s DEL: %s" % (plugin, exc))
            continue
        if done.returncode:
            complaints.append(
                "%s DEL: %s" % (plugin, done.stdout.decode("utf-8", "replace").strip())
            )
    if not complaints:
        try:
            os.unlink(attachment["path"])
        except FileNotFoundError:
            pass  # the plugin or another run did it
    return complaints


def release_leftovers(host: Host, containers: t.Container[str]) -> t.List[str]:
    """Remove host-local's reservations of these sandboxes, where DEL did not; returns addresses.

    A reservation is a file named after the address, its first line the container's ID
    (plugins/ipam/host-local/backend/disk).
    """
    released = []
    networks = host.path(HOST_LOCAL_DIR)
    for network in os.listdir(networks) if os.path.isdir(networks) else []:
        directory = os.path.join(networks, network)
        for address in os.listdir(directory) if os.path.isdir(directory) else []:
            path = os.path.join(directory, address)
            try:
                with open(path, encoding="utf-8") as stream:
                    holder = stream.readline().strip()
                if holder in containers:
                    os.unlink(path)
                    released.append(address)
            except (OSError, UnicodeDecodeError):
                continue
    return released

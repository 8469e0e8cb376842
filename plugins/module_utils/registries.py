# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What daemon.json says about registries, for containerd and BuildKit.

Rules: dockerd(8) for insecure-registries and registry-mirrors; containerd docs/hosts.md.
"""

from __future__ import annotations

import re
import typing as t

DOCKER_HUB = "docker.io"
DOCKER_HUB_SERVER = "https://registry-1.docker.io"


def from_daemon_json(daemon: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    """dockerd's registry settings as {"registries": [...], "unmatched": [...]}.

    A registry is {"host": "name[:port]", "insecure": bool, "mirrors": [url, ...]}. docker uses
    registry-mirrors for Docker Hub alone. "unmatched" are the CIDR entries of
    insecure-registries: neither containerd nor BuildKit can express a network, the hosts in it
    have to be named.
    """
    entries = [str(entry) for entry in daemon.get("insecure-registries") or []]
    hosts = list(dict.fromkeys(entry.split("://", 1)[-1].rstrip("/") for entry in entries))
    unmatched = [host for host in hosts if "/" in host]
    registries = [
        {"host": host, "insecure": True, "mirrors": []}
        for host in hosts
        if host and "/" not in host
    ]
    # Credentials in a mirror's URL have no place in hosts.toml.
    mirrors = [
        re.sub(r"(?<=://)[^/\s]*@", "", str(mirror)).rstrip("/")
        for mirror in daemon.get("registry-mirrors") or []
    ]
    if mirrors:
        registries.append({"host": DOCKER_HUB, "insecure": False, "mirrors": mirrors})
    return {"registries": registries, "unmatched": unmatched}


def _host(url: str, capabilities: t.Sequence[str], skip_verify: bool) -> t.List[str]:
    lines = [
        '[host."%s"]' % url,
        "  capabilities = [%s]" % ", ".join('"%s"' % c for c in capabilities),
    ]
    return lines + (["  skip_verify = true"] if skip_verify else [])


def hosts_toml(registry: t.Dict[str, t.Any], insecure_hosts: t.Container[str] = ()) -> str:
    """The hosts.toml of one registry.

    docker tries an insecure registry over https without verification first and over plain http
    then; containerd tries hosts in the order they are written, and ``server`` last. A mirror
    that is itself one of insecure_hosts ("name[:port]") is treated the same.
    """
    host = registry["host"]
    lines: t.List[str] = []
    everything = ["pull", "resolve", "push"]
    if registry.get("insecure"):
        server = "http://" + host
        lines += _host("https://" + host, everything, True)
    else:
        server = DOCKER_HUB_SERVER if host == DOCKER_HUB else "https://" + host
    for mirror in registry.get("mirrors") or []:
        lax = mirror.split("://", 1)[-1] in insecure_hosts
        lines += _host(mirror, ["pull", "resolve"], lax and mirror.startswith("https:"))
    return "\n".join(['server = "%s"' % server, ""] + lines) + "\n"

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What docker says about registries, for containerd and BuildKit.

Rules: dockerd(8) for insecure-registries and registry-mirrors, moby's registry/config.go and
registry/service_v2.go (read at v28.5.2) for what it accepts and in which order it tries;
containerd docs/hosts.md.
"""

from __future__ import annotations

import ipaddress
import json
import re
import typing as t

DOCKER_HUB = "docker.io"
DOCKER_HUB_SERVER = "https://registry-1.docker.io"
#: name[:port], an IPv6 address in brackets (distribution/reference, "domain").
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = r"(?:%s(?:\.%s)*|\[[0-9A-Fa-f:]+\])(?::([0-9]{1,5}))?" % (_LABEL, _LABEL)
_MIRROR = r"(https?)://(%s)((?:/[A-Za-z0-9._~%%/-]*)?)" % _HOST
Registries = dict[str, t.Any]


def host_problem(host: str) -> str | None:
    """Why this cannot be the name[:port] of a registry, or None."""
    match = re.fullmatch(_HOST, host)
    if not match:
        return "is not the name[:port] of a registry"
    return "has no possible port" if int(match.group(1) or 0) > 65535 else None


def read_insecure(entries: t.Iterable[str]) -> Registries:
    """insecure-registries as {"hosts", "networks", "loopback", "refused": [(entry, why)]}.

    docker takes a scheme away, counts 127.0.0.0/8 and ::1 always, and Docker Hub never.
    """
    found: Registries = {"hosts": [], "networks": [], "loopback": [], "refused": []}
    for entry in dict.fromkeys(entries):
        scheme, separator, rest = entry.partition("://")
        host = (rest if separator else entry).rstrip("/")
        if separator and scheme.lower() not in ("http", "https"):
            found["refused"].append((entry, "has a scheme other than http and https"))
        elif re.search(r"/[0-9]+$", host) and _network(host) is not None:
            network = _network(host)
            found["loopback" if network and network.is_loopback else "networks"].append(host)
        elif host_problem(host):
            found["refused"].append((entry, host_problem(host)))
        elif host in (DOCKER_HUB, "index." + DOCKER_HUB):
            found["refused"].append((entry, "is Docker Hub, which docker never takes as insecure"))
        elif host not in found["hosts"]:
            found["hosts"].append(host)
    return found


def _network(
    text: str,
) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        # docker takes 10.1.2.3/8 as well.
        return ipaddress.ip_network(text, False)
    except ValueError:
        return None


def read_mirrors(urls: t.Iterable[str]) -> Registries:
    """registry-mirrors as {"mirrors": [url, …], "refused": [(url, why)]}, in docker's order.

    docker refuses a mirror with a password; the URL goes into hosts.toml without it.
    """
    found: Registries = {"mirrors": [], "refused": []}
    for url in urls:
        plain = re.sub(r"(?<=://)[^/\s]*@", "", url)
        if plain != url:
            found["refused"].append((plain, "has a password in it, which dockerd refuses"))
        plain = plain.rstrip("/")
        match = re.fullmatch(_MIRROR, plain)
        if not match or int(match.group(3) or 0) > 65535:
            found["refused"].append((plain, "is not an http:// or https:// URL"))
        elif plain not in found["mirrors"]:
            found["mirrors"].append(plain)
    return found


def combine(hosts: t.Sequence[str], mirrors: t.Sequence[str]) -> list[Registries]:
    """[{"host": "name[:port]", "insecure": bool, "mirrors": [url, …]}]; mirrors are the Hub's."""
    registries: list[Registries] = [
        {"host": host, "insecure": True, "mirrors": []} for host in hosts
    ]
    if mirrors:
        registries.append({"host": DOCKER_HUB, "insecure": False, "mirrors": list(mirrors)})
    return registries


def certificates(directory: str, files: t.Iterable[str]) -> Registries:
    """What docker reads in /etc/docker/certs.d/HOST: {"ca": [paths], "client": [[cert, key]]}.

    *.crt are CAs, and a *.cert with a *.key of the same name is a client's (dockerd(8),
    moby's registry/registry.go, loadTLSConfig). Half of a pair counts for nothing.
    """
    names = sorted(files)
    path = directory.rstrip("/") + "/"
    return {
        "ca": [path + name for name in names if name.endswith(".crt")],
        "client": [
            [path + name, path + name[:-5] + ".key"]
            for name in names
            if name.endswith(".cert") and name[:-5] + ".key" in names
        ],
    }


def _host(url: str, capabilities: t.Sequence[str], tls: Registries) -> list[str]:
    lines = [
        '[host."%s"]' % url,
        "  capabilities = %s" % _array(capabilities),
    ]
    if tls.get("skip_verify"):
        lines.append("  skip_verify = true")
    if tls.get("ca"):
        lines.append("  ca = %s" % _array(tls["ca"]))
    if tls.get("client"):
        lines.append("  client = [%s]" % ", ".join(_array(pair) for pair in tls["client"]))
    return lines


def _array(values: t.Iterable[str]) -> str:
    # JSON's strings are TOML's, but for DEL, which no path of a certificate has.
    return "[%s]" % ", ".join(json.dumps(value) for value in values)


def hosts_toml(
    registry: Registries,
    insecure_hosts: t.Container[str] = (),
    certs: dict[str, Registries] | None = None,
) -> str:
    """The hosts.toml of one registry.

    registry: {"host": "name[:port]" or "_default" for all that have no file of their own,
    "insecure", "mirrors", "tls"}, where tls and certs are "name[:port]" to {"skip_verify", "ca",
    "client"} (certificates() makes the latter two).

    docker tries an insecure registry over https without verification first and over plain http
    then; containerd tries hosts in the order they are written, and ``server`` last. A mirror
    that is itself one of insecure_hosts ("name[:port]") is treated the same. docker looks for
    certificates under the mirror's name, and containerd under the registry's, so they are named
    here; docker reads none for what it does not verify.
    """
    host = registry["host"]
    tls = dict(certs or {}, **(registry.get("tls") or {}))
    lines: list[str] = []
    everything = ["pull", "resolve", "push"]
    server = DOCKER_HUB_SERVER if host == DOCKER_HUB else "https://" + host
    if registry.get("insecure"):
        server = "http://" + host
        lines += _host("https://" + host, everything, {"skip_verify": True})
    for mirror in registry.get("mirrors") or []:
        name = mirror.split("://", 1)[-1].split("/", 1)[0]
        https = mirror.startswith("https:")
        said = {"skip_verify": True} if name in insecure_hosts else tls.get(name, {})
        lines += _host(mirror, ["pull", "resolve"], said if https else {})
    if tls.get(host) and not registry.get("insecure"):
        # A directory with a hosts.toml is not read for certificates any more.
        lines += _host(server, everything, tls[host])
    if not lines and host != "_default":
        # containerd 1.6 takes a file without any host for a broken one ("invalid `host` tree").
        lines += _host(server, everything, {})
    first = [] if host == "_default" else ['server = "%s"' % server, ""]
    return "\n".join(first + lines) + "\n"

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
import re
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._docker.daemon_config import (
    CERTS_D,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.sanitize import shown
from ansible_collections.homelab.containerd.plugins.plugin_utils import toml
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.result import (
    NO_EQUIVALENT,
    NOT_NEEDED,
    TRANSLATED,
    Collector,
    Key,
    Registry,
    Tls,
)

DOCKER_HUB = "docker.io"
DOCKER_HUB_SERVER = "https://registry-1.docker.io"
#: name[:port], an IPv6 address in brackets (distribution/reference, "domain").
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = r"(?:%s(?:\.%s)*|\[[0-9A-Fa-f:]+\])(?::([0-9]{1,5}))?" % (_LABEL, _LABEL)
_MIRROR = r"(https?)://(%s)((?:/[A-Za-z0-9._~%%/-]*)?)" % _HOST


class Insecure(t.NamedTuple):
    """insecure-registries by their kind; ipv6: hosts by address; refused: (entry, why)."""

    hosts: list[str]
    networks: list[str]
    loopback: list[str]
    ipv6: list[str]
    refused: list[tuple[str, str]]


class Mirrors(t.NamedTuple):
    """registry-mirrors in docker's order; ipv6: those by address; refused: (URL, why)."""

    urls: list[str]
    ipv6: list[str]
    refused: list[tuple[str, str]]


def host_problem(host: str) -> str | None:
    """Why this cannot be the name[:port] of a registry, or None."""
    match = re.fullmatch(_HOST, host)
    if not match:
        return "is not the name[:port] of a registry"
    return "has no possible port" if int(match.group(1) or 0) > 65535 else None


def read_insecure(entries: t.Iterable[str]) -> Insecure:
    """docker removes a scheme; 127.0.0.0/8 and ::1 always count, and Docker Hub never."""
    found = Insecure([], [], [], [], [])
    for entry in dict.fromkeys(entries):
        scheme, separator, rest = entry.partition("://")
        host = (rest if separator else entry).rstrip("/")
        network = _network(host) if re.search(r"/[0-9]+$", host) else None
        trouble = host_problem(host)
        if separator and scheme.lower() not in ("http", "https"):
            found.refused.append((entry, "has a scheme other than http and https"))
        elif network:
            (found.loopback if network.is_loopback else found.networks).append(host)
        elif trouble:
            found.refused.append((entry, trouble))
        elif host in (DOCKER_HUB, "index." + DOCKER_HUB):
            found.refused.append((entry, "is Docker Hub, which docker never treats as insecure"))
        elif host.startswith("["):
            found.ipv6.append(host)
        elif host not in found.hosts:
            found.hosts.append(host)
    return found


def _network(
    text: str,
) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        # docker accepts 10.1.2.3/8 as well.
        return ipaddress.ip_network(text, False)
    except ValueError:
        return None


def read_mirrors(urls: t.Iterable[str]) -> Mirrors:
    """docker refuses a mirror with a password; the URL goes into hosts.toml without it."""
    found = Mirrors([], [], [])
    for url in urls:
        plain = re.sub(r"(?<=://)[^/\s]*@", "", url)
        if plain != url:
            found.refused.append((plain, "has a password in it, which dockerd refuses"))
        plain = plain.rstrip("/")
        match = re.fullmatch(_MIRROR, plain)
        if not match or int(match.group(3) or 0) > 65535:
            found.refused.append((plain, "is not an http:// or https:// URL"))
        elif "//[" in plain:
            found.ipv6.append(plain)
        elif plain not in found.urls:
            found.urls.append(plain)
    return found


def insecure_registries(out: Collector, row: Key, value: list[str], origin: str) -> None:
    found = read_insecure(value)
    out.insecure += [host for host in found.hosts if host not in out.insecure]
    out.unmatched += [network for network in found.networks if network not in out.unmatched]
    if found.hosts:
        out.add_row(row, found.hosts, origin)
    if found.loopback:
        out.add(
            row.name,
            found.loopback,
            origin,
            NOT_NEEDED,
            "docker and containerd both accept plain http from this machine itself",
        )
    for network in found.networks:
        out.add(
            row.name,
            network,
            origin,
            NO_EQUIVALENT,
            "containerd and BuildKit know registries by name, not by network",
            remedy="Name those in use, with their ports: containerd_registries: [{host: "
            '"…:5000", insecure: true}].',
        )
    _no_ipv6(out, row, found.ipv6, origin)
    for entry, why in found.refused:
        out.wrong(row.name, entry, origin, "%s %s" % (shown(entry), why))


def registry_mirrors(out: Collector, row: Key, value: list[str], origin: str) -> None:
    found = read_mirrors(value)
    out.mirrors += [url for url in found.urls if url not in out.mirrors]
    if found.urls:
        out.add_row(row, found.urls, origin)
    _no_ipv6(out, row, found.ipv6, origin)
    for url, why in found.refused:
        why = "%s %s" % (shown(url), why)
        if url.rstrip("/") in found.urls + found.ipv6:
            out.problem(row.name, why)
        else:
            out.wrong(row.name, url, origin, why)


def _no_ipv6(out: Collector, row: Key, entries: list[str], origin: str) -> None:
    for entry in entries:
        out.add(
            row.name,
            entry,
            origin,
            NO_EQUIVALENT,
            "containerd 1.x cannot read a hosts.toml file that names an IPv6 address",
            remedy="Give the registry a host name.",
        )


def add_insecure_mirrors(out: Collector) -> None:
    """Mirrors by an address of an insecure network: docker does not verify them either.

    moby's isSecureIndex holds for mirrors too, and 127.0.0.0/8 and ::1 are always insecure.
    """
    networks = [_network(text) for text in [*out.unmatched, "127.0.0.0/8", "::1/128"]]
    for host in map(mirror_host, out.mirrors):
        name = re.sub(r":[0-9]+$", "", host)
        address = _network("127.0.0.1" if name == "localhost" else name)
        if address is None or host in out.insecure:
            continue
        if any(network and address.network_address in network for network in networks):
            out.insecure.append(host)


def mirror_host(url: str) -> str:
    return url.split("://", 1)[-1].split("/", 1)[0]


def certificate_directories(out: Collector, directories: t.Mapping[str, t.Sequence[str]]) -> None:
    """What is below /etc/docker/certs.d: the names of the files by registry."""
    for host in sorted(directories):
        files = list(directories[host])
        key = "certs.d/" + host
        trouble = host_problem(host)
        if trouble:
            out.wrong(key, files, CERTS_D, "its name " + trouble)
            continue
        for name in files:
            for one, other in ((".cert", ".key"), (".key", ".cert")):
                if name.endswith(one) and name[: -len(one)] + other not in files:
                    out.problem(
                        key,
                        "%s is there without its %s; docker refuses the directory"
                        % (shown(name), other),
                    )
        if host in out.insecure:
            out.add(
                key,
                files,
                CERTS_D,
                NOT_NEEDED,
                "docker does not look at certificates of a registry in insecure-registries",
            )
            continue
        out.with_certificates.append(host)
        out.add(
            key,
            files,
            CERTS_D,
            TRANSLATED,
            "The same files stay in use",
            "/etc/containerd/certs.d/%s, and buildkitd.toml" % host,
        )


def certificates(directory: str, files: t.Iterable[str]) -> Tls:
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


def hosts_toml(
    registry: Registry,
    insecure_hosts: t.Container[str] = (),
    certs: dict[str, Tls] | None = None,
) -> str:
    """The hosts.toml of one registry.

    insecure_hosts: "name[:port]" of all insecure registries. certs: of each host, as
    certificates() finds them.

    docker tries an insecure registry over https without verification first and over plain http
    then; containerd tries hosts in the order they are written, and ``server`` last. A mirror
    that is itself one of insecure_hosts is treated the same. docker looks for certificates under
    the mirror's name, and containerd under the registry's, so they are named here; docker reads
    none for what it does not verify.
    """
    host = registry["host"]
    tls = {**(certs or {}), **(registry.get("tls") or {})}
    everything = ["pull", "resolve", "push"]
    server = DOCKER_HUB_SERVER if host == DOCKER_HUB else "https://" + host
    hosts: dict[str, dict[str, t.Any]] = {}
    if registry.get("insecure"):
        server = "http://" + host
        hosts["https://" + host] = _host(everything, {"skip_verify": True})
    for mirror in registry.get("mirrors") or []:
        name = mirror_host(mirror)
        https = mirror.startswith("https:")
        known: Tls = {"skip_verify": True} if name in insecure_hosts else tls.get(name, {})
        hosts[mirror] = _host(["pull", "resolve"], known if https else {})
    if tls.get(host) and not registry.get("insecure"):
        # A directory with a hosts.toml is not read for certificates any more.
        hosts[server] = _host(everything, tls[host])
    if not hosts and host != "_default":
        # containerd 1.6 takes a file without any host for a broken one ("invalid `host` tree").
        hosts[server] = _host(everything, {})
    first = {} if host == "_default" else {"server": server}
    return toml.dump({**first, "host": hosts})


def _host(capabilities: list[str], tls: Tls) -> dict[str, t.Any]:
    return {"capabilities": capabilities, **{key: value for key, value in tls.items() if value}}

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""buildkitd.toml, for a node and for the cluster, and the versions of BuildKit that know its keys.

Pure functions. cmd/buildkitd/config/config.go of moby/buildkit has the keys.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable, Mapping

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.homelab.containerd.plugins.plugin_utils import toml

try:
    import tomlkit
    from tomlkit.items import Table
except ImportError:  # pragma: no cover
    pass  # toml.parse() names the remedy

Map = Mapping[str, t.Any]
Version = tuple[int, int, int]


class Since(t.NamedTuple):
    """What a version of BuildKit brought, and where that is written."""

    version: Version
    what: str
    source: str


VERSIONS = {
    "oldest": Since(
        (0, 13, 0),
        "networkMode bridge, bridgeName and bridgeSubnet",
        "https://github.com/moby/buildkit/pull/4352",
    ),
    "gc_spaces": Since(
        (0, 17, 0),
        "reservedSpace, maxUsedSpace and minFreeSpace in place of keepBytes",
        "https://github.com/moby/buildkit/pull/5359",
    ),
}
#: Cache mounts and sources, which a build can do without.
UNIMPORTANT = ["type==source.local", "type==exec.cachemount", "type==source.git.checkout"]


def parse_version(text: str) -> Version | None:
    """0.34.2 or 0.35.0-rc1, without a leading v; None for anything else."""
    found = re.fullmatch(r"([0-9]+)\.([0-9]+)\.([0-9]+)(?:[-+].*)?", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def supports(version: str, feature: str) -> bool:
    """Whether this version of BuildKit has what VERSIONS lists under that name."""
    parsed = parse_version(version)
    return parsed is not None and parsed >= VERSIONS[feature].version


def buildkitd_toml(options: Map) -> str:
    """The text of buildkitd.toml.

    options, each of them where it differs from buildkitd's own default: {"worker" ("containerd"
    or "oci"), "version", "root", "addresses", "tls_dir" (with cert.pem, key.pem and ca.pem), "dns",
    "rootless", "address", "namespace" and "snapshotter" of containerd, "network", "subnet",
    "cni_bin_dir", "max_used_space" or "gc" {"reserved_space", "max_used_space", "min_free_space",
    "mounts_max_used_space", "mounts_keep"}, "registries" [{"host", "insecure", "http", "mirrors",
    "ca", "tls_dir"}], "certificate_directories" (docker's, named as their registry)}.
    """
    document = toml.parse("")
    if options.get("root"):
        document.add("root", str(options["root"]))
    if options.get("addresses"):
        document.add("grpc", _grpc(options))
    if options.get("dns"):
        document.add("dns", _table({"nameservers": _strings(options["dns"])}))
    if options.get("worker"):
        document.add("worker", _workers(options))
    registries = _registries(
        options.get("registries") or [], options.get("certificate_directories") or []
    )
    if registries:
        parent = tomlkit.table(is_super_table=True)
        for host in sorted(registries):
            parent.add(host, registries[host])
        document.add("registry", parent)
    return toml.dump(document)


def _strings(values: Iterable[t.Any]) -> list[str]:
    return [str(value) for value in values]


def _table(values: Map, *comments: str) -> Table:
    """A table with the values that are not empty, below these comments."""
    table = tomlkit.table()
    for comment in comments:
        table.add(tomlkit.comment(comment))
    for key, value in values.items():
        if value not in ("", None, []):
            table.add(key, value)
    return table


def _grpc(options: Map) -> Table:
    grpc = _table(
        {"address": _strings(options["addresses"])},
        "fd:// is the socket that systemd opens. TLS is for TCP alone.",
    )
    directory = options.get("tls_dir")
    if directory:
        files = {key: f"{directory}/{key}.pem" for key in ("cert", "key", "ca")}
        grpc.add("tls", _table(files, "Without a CA buildkitd would accept every client."))
    return grpc


def _workers(options: Map) -> Table:
    name = options["worker"]
    rootless = boolean(options.get("rootless", False))
    network = str(options.get("network") or "")
    worker = tomlkit.table()
    if options.get("root"):
        # The node's buildkitd: the other worker would find its program or its socket too.
        worker.add("enabled", True)
    if name == "containerd":
        for key in ("address", "namespace", "snapshotter"):
            worker.add(key, str(options[key]))
    elif rootless:
        worker.add("rootless", True)
    if network:
        worker.add("networkMode", network)
    if network == "bridge":
        worker.add("bridgeName", "buildkit0")
        worker.add("bridgeSubnet", str(options["subnet"]))
    if network not in ("", "host"):
        worker.add("cniBinaryPath", str(options["cni_bin_dir"]))
    if options.get("max_used_space"):
        worker.add("maxUsedSpace", str(options["max_used_space"]))
    if options.get("gc"):
        worker.add("gc", True)
        worker.add("gcpolicy", _gc_rules(options["gc"], str(options["version"])))
    workers = tomlkit.table(is_super_table=True)
    if options.get("root"):
        workers.add("oci" if name == "containerd" else "containerd", _table({"enabled": False}))
    workers.add(name, worker)
    return workers


def _gc_rules(gc: Map, version: str) -> t.Any:
    """The rules of garbage collection. A rule acts once the whole cache is larger than its bound.

    Without rules of its own buildkitd drops cache mounts after two days, from 512 MB on.
    """
    whole: dict[str, t.Any]
    if supports(version, "gc_spaces"):
        mounts = {"maxUsedSpace": str(gc["mounts_max_used_space"])}
        whole = {
            "reservedSpace": str(gc["reserved_space"]),
            "maxUsedSpace": str(gc["max_used_space"]),
            "minFreeSpace": str(gc["min_free_space"]),
        }
    else:
        mounts = {"keepBytes": str(gc["mounts_max_used_space"])}
        whole = {"keepBytes": str(gc["max_used_space"])}
    rules = tomlkit.aot()
    rules.append(
        _table(
            {"filters": UNIMPORTANT, "keepDuration": str(gc["mounts_keep"]), **mounts},
            "Cache mounts and sources that were not used for a while go first,",
        )
    )
    rules.append(_table(whole, "then what was used least,"))
    rules.append(
        _table(
            {"all": True, **whole},
            "then the layers that images share with the cache, and buildkitd's own records.",
        )
    )
    return rules


def _registries(registries: Iterable[Map], directories: Iterable[str]) -> dict[str, Table]:
    """A table for each registry, and for each mirror that is reached over plain http.

    buildkitd takes a mirror's scheme and TLS options from the table of the mirror's own name.
    """
    known: dict[str, dict[str, t.Any]] = {}
    plain_mirrors = []
    for registry in registries:
        mirrors = _strings(registry.get("mirrors") or [])
        plain_mirrors += [m.split("/")[2] for m in mirrors if m.startswith("http://")]
        insecure = boolean(registry.get("insecure", False))
        known[str(registry["host"])] = {
            "mirrors": [re.sub(r"^https?://|/+$", "", mirror) for mirror in mirrors],
            "http": insecure or boolean(registry.get("http", False)),
            "insecure": insecure,
            "ca": _strings(registry.get("ca") or []),
            "tlsconfigdir": _strings(filter(None, [registry.get("tls_dir")])),
        }
    for directory in _strings(directories):
        registry = known.setdefault(directory.rpartition("/")[2], {})
        if not registry.get("ca") and not registry.get("tlsconfigdir"):
            registry["tlsconfigdir"] = [directory]
    for host in plain_mirrors:
        known.setdefault(host, {})["http"] = True
    tables = {}
    for host, registry in known.items():
        # As docker means it: https without verification, plain http where the registry does not
        # speak TLS. buildkitd does the second only with both keys set.
        set_keys = {key: value for key, value in registry.items() if value is not False}
        tables[host] = _table(set_keys)
    return tables

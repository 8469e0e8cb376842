# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to change in containerd's directories of registries (/etc/containerd/certs.d)."""

from __future__ import annotations

import hashlib
import pathlib
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config import (
    registries,
    result,
)

DOCKER_CERTS_DIR = "/etc/docker/certs.d"
HEADER = "# Ansible managed\n"

Registry = dict[str, t.Any]
#: As ansible.builtin.find returns it: path, isdir, checksum.
Found = t.Mapping[str, t.Any]


def merge_registries(
    wanted: t.Iterable[t.Mapping[str, t.Any]], configured: t.Iterable[t.Mapping[str, t.Any]]
) -> list[Registry]:
    """The role's registries, and those of config.toml that it does not name."""
    merged = [dict(registry, insecure=_is_insecure(registry)) for registry in wanted]
    hosts = {registry["host"] for registry in merged}
    return merged + [dict(other) for other in configured if other["host"] not in hosts]


def _is_insecure(registry: t.Mapping[str, t.Any]) -> bool:
    return bool(boolean(registry.get("insecure") or False))


def changes(
    found: t.Sequence[Found],
    wanted: t.Sequence[Registry],
    config_paths: t.Sequence[str],
    certs_dir: str,
) -> dict[str, list[dict[str, str]]]:
    """The hosts.toml files to write and the directories to link, none where all is right.

    found: what certs_dir, docker's directory and config_paths have, two levels deep. Each registry
    gets a hosts.toml. A directory of config_paths, which containerd reads no more once the
    configuration names certs_dir alone, and one of docker's is linked, unless certs_dir has one
    of that name. Of two directories with one name the first counts, and the user's before docker's.
    """
    docker = _docker_certificates(found)
    insecure = [registry["host"] for registry in wanted if registry.get("insecure")]
    checksums = {entry["path"]: entry.get("checksum") for entry in found}
    files = []
    for registry in wanted:
        path = "%s/%s/hosts.toml" % (certs_dir, registry["host"])
        text = HEADER + registries.hosts_toml(t.cast(result.Registry, registry), insecure, docker)
        # find says SHA-1.
        if checksums.get(path) != hashlib.sha1(text.encode()).hexdigest():  # noqa: S324
            files.append({"path": path, "text": text})

    taken = {registry["host"] for registry in wanted}
    taken |= {path.name for path in map(_path, found) if str(path.parent) == certs_dir}
    users = [path for path in config_paths if path not in (certs_dir, DOCKER_CERTS_DIR)]
    directories = [
        str(path)
        for parent in users
        for path in sorted(map(_path, filter(_is_directory, found)))
        if str(path.parent) == parent
    ] + ["%s/%s" % (DOCKER_CERTS_DIR, host) for host in sorted(docker)]
    links = []
    for target in directories:
        name = target.rpartition("/")[2]
        if name not in taken:
            taken.add(name)
            links.append({"path": "%s/%s" % (certs_dir, name), "target": target})
    return {"files": files, "links": links}


def _path(entry: Found) -> pathlib.PurePosixPath:
    return pathlib.PurePosixPath(entry["path"])


def _is_directory(entry: Found) -> bool:
    return bool(entry.get("isdir"))


def _docker_certificates(found: t.Iterable[Found]) -> dict[str, t.Any]:
    """docker's directories that have a certificate or a key, by registry."""
    names: dict[str, list[str]] = {}
    for path in map(_path, found):
        if str(path.parent.parent) == DOCKER_CERTS_DIR and path.suffix in (".crt", ".cert", ".key"):
            names.setdefault(path.parent.name, []).append(path.name)
    return {
        host: registries.certificates("%s/%s" % (DOCKER_CERTS_DIR, host), files)
        for host, files in names.items()
    }

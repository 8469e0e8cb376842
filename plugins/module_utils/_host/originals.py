# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy of each file of the node's owner, as it was before this collection wrote it first."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    files,
    paths,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host

#: Beside where the copy would be: there was no file, and one that is there later is ours.
NONE = ".none"
#: What we write into files that are not ours alone: config.toml and the kubelet's configuration.
OURS = b"Ansible managed: homelab.containerd"


def original(path: str, directory: str = paths.ORIGINALS) -> str:
    return directory + path


def is_kept(host: Host, path: str, directory: str = paths.ORIGINALS) -> bool:
    kept = original(path, directory)
    return any(os.path.lexists(host.path(kept + end)) for end in ("", NONE))


def is_ours(host: Host, path: str) -> bool:
    """Whether it was written by us already, for example before the state directory was removed."""
    try:
        with open(host.path(path), "rb") as stream:
            # A configuration is shorter; the file may be a program.
            return OURS in stream.read(1 << 20)
    except OSError:
        return False


def missing(host: Host, wanted: t.Iterable[str], directory: str = paths.ORIGINALS) -> t.List[str]:
    """Those of the files that have to be kept before they are written."""
    return [
        path for path in wanted if not is_kept(host, path, directory) and not is_ours(host, path)
    ]


def keep(host: Host, path: str, directory: str = paths.ORIGINALS) -> None:
    """Keep a file, or that there is none, the first time; later it is what we have written.

    NodeError if that fails: the file must not be written then.
    """
    if not missing(host, [path], directory):
        return
    target = original(path, directory)
    try:
        # They may hold passwords, and their own directories may be open to all.
        os.makedirs(host.path(directory), mode=0o700, exist_ok=True)
        os.makedirs(os.path.dirname(host.path(target)), mode=0o700, exist_ok=True)
        if host.exists(path):
            files.copy(host.path(path), host.path(target))
        else:
            host.write_text(target + NONE, "")
    except OSError as exc:
        raise commands.NodeError(
            "%s: a copy of it cannot be kept in %s (%s), so it was not changed. Make room there, "
            "and run this again." % (path, directory, exc.strerror)
        ) from exc


def restore(host: Host, path: str) -> bool:
    """Put a file back as it was; whether there is an original. It stays where it is kept."""
    source = host.path(original(path))
    if not os.path.exists(source):
        return False
    files.copy(source, host.path(path))
    return True

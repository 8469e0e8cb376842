# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy of each file of the node's owner, as it was before this collection wrote it first."""

from __future__ import annotations

import os
import shutil

from ansible_collections.homelab.containerd.plugins.module_utils._host import paths
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host

#: Beside where the copy would be: there was no file, and one that is there later is ours.
NONE = ".none"


def original(path: str) -> str:
    return paths.ORIGINALS + path


def is_kept(host: Host, path: str) -> bool:
    return any(os.path.lexists(host.path(original(path) + end)) for end in ("", NONE))


def keep(host: Host, path: str) -> None:
    """Keep a file, or that there is none, the first time; later it is what we have written."""
    if is_kept(host, path):
        return
    source, target = host.path(path), host.path(original(path))
    # They may hold passwords, and their directories may be open to all.
    os.makedirs(host.path(paths.ORIGINALS), mode=0o700, exist_ok=True)
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    temporary = target + ".new"
    if os.path.exists(source):
        shutil.copy2(source, temporary)
        owner = os.stat(source)
        os.chown(temporary, owner.st_uid, owner.st_gid)
    else:
        open(temporary, "w", encoding="utf-8").close()
        target += NONE
    with open(temporary, "rb") as stream:
        os.fsync(stream.fileno())
    os.rename(temporary, target)

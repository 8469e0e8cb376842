# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node's mounts, and the disks behind paths."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import files

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        Disk,
    )


def file_system(path: str) -> str:
    """The type of the file system that PATH is on, "" where the mount table does not say."""
    best, kind = "", ""
    for line in (files.read_text("/proc/self/mounts") or "").splitlines():
        words = line.split()
        if len(words) > 2:
            place = words[1].replace("\\040", " ")
            inside = path == place or path.startswith(place.rstrip("/") + "/")
            if inside and len(place) >= len(best):
                best, kind = place, words[2]
    return kind


def disk_facts(path: str) -> Disk:
    """Where PATH is or will be: its nearest directory that exists now."""
    existing = path
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    status = os.statvfs(existing)
    return {
        "path": path,
        "device": os.stat(existing).st_dev,
        "free_bytes": status.f_bavail * status.f_frsize,
        "total_bytes": status.f_blocks * status.f_frsize,
        "free_inodes": status.f_favail,
        "total_inodes": status.f_files,
        "file_system": file_system(os.path.realpath(existing)),
    }


class Mount(t.NamedTuple):
    """A line of /proc/self/mountinfo (proc(5)). root: what of the file system is mounted here."""

    number: str
    device: str
    root: str
    point: str
    file_system: str
    source: str


def read_mounts(text: str) -> t.List[Mount]:
    def plain(word: str) -> str:
        return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), word)

    mounts = []
    for line in text.splitlines():
        before, _dash, after = line.partition(" - ")
        words, rest = before.split(), after.split()
        if len(words) >= 5 and len(rest) >= 2:
            mounts.append(
                Mount(words[0], words[2], plain(words[3]), plain(words[4]), rest[0], plain(rest[1]))
            )
    return mounts


def _inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def mount_of(path: str, mounts: t.Sequence[Mount]) -> Mount:
    """The mount that a path without symbolic links is seen through: of the longest, the last."""
    return max(
        (mount for mount in mounts if _inside(path, mount.point)),
        key=lambda mount: (len(mount.point), mounts.index(mount)),
    )


def inner_path(path: str, mount: Mount) -> str:
    """A path as it is called inside the file system that is mounted there."""
    rest = path[len(mount.point.rstrip("/")) :]
    return mount.root.rstrip("/") + rest or "/"


def common_view(
    paths: t.Sequence[str], mounts: t.Sequence[Mount]
) -> t.Tuple[t.Optional[t.List[str]], str]:
    """How to see paths of one file system through one mount, as link(2) wants them.

    A running dockerd may have mounted its directory on itself, and volumes are mounts of their
    own; link(2) fails with EXDEV between two mounts of the same file system.

    Returns (words for mount(8) without the target, or None where they share a mount already; what
    of the file system is at the target).
    """
    seen = [mount_of(path, mounts) for path in paths]
    if len({mount.number for mount in seen}) == 1:
        return None, seen[0].root
    inner = [inner_path(path, mount) for path, mount in zip(paths, seen)]
    for mount in mounts:
        shown = mount.device == seen[0].device and all(_inside(p, mount.root) for p in inner)
        if shown and mount_of(mount.point, mounts) == mount:
            return ["--bind", mount.point], mount.root
    first = seen[0]
    if first.file_system == "btrfs":
        # The root of all subvolumes.
        return ["-t", "btrfs", "-o", "subvolid=5", first.source], "/"
    return ["-t", first.file_system, first.source], "/"

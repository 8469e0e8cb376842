# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docker's data directory, and why it must not be removed."""

from __future__ import annotations

import os
import re
import shutil
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, mounts

DATA_ROOT = "/var/lib/docker"
#: What dockerd has in it (moby's daemon/, builder/ and libcontainerd/, 18.06 to 28): directories of
#: storage drivers and of its own parts, and with userns-remap a directory UID.GID of the same.
ENTRIES = frozenset(
    (
        *("aufs", "btrfs", "devicemapper", "fuse-overlayfs", "overlay", "overlay2", "vfs", "zfs"),
        *("builder", "buildkit", "containerd", "containers", "engine-id", "image", "network"),
        *("nuke-graph-directory.sh", "plugins", "rootfs", "runtimes", "swarm", "tmp", "tmp-old"),
        *("trust", "volumes", "check-overlayfs-support", "lost+found"),
    )
)
REMAPPED = re.compile(r"\d+\.\d+$")
#: What a running docker mounts for its containers, and unmounts when it stops.
OF_CONTAINERS = ("overlay", "aufs", "fuse-overlayfs", "tmpfs", "nsfs", "shm")


def _inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def problems(
    root: str,
    entries: t.Sequence[str],
    table: t.Sequence[mounts.Mount],
    others: t.Mapping[str, str],
    docker_runs: bool,
) -> t.List[str]:
    """Why the directory must not be removed.

    others: what else has a directory of its own (containerd, the kubelet), and where. With
    docker_runs its own mounts are left out, which have to be gone once it has stopped.
    """
    found = []
    for owner, path in sorted(others.items()):
        if _inside(path, root) or _inside(root, path):
            found.append("%s has its data in %s" % (owner, path))
    for mount in table:
        if not _inside(mount.point, root):
            continue
        # dockerd mounts the directory on itself.
        itself = (
            mount.point == root
            and mounts.inner_path(root, mounts.mount_of(os.path.dirname(root), table)) == mount.root
        )
        if not (docker_runs and (itself or mount.file_system in OF_CONTAINERS)):
            found.append("%s is mounted at %s" % (mount.source, mount.point))
    foreign = [name for name in sorted(entries) if name not in ENTRIES and not REMAPPED.match(name)]
    if foreign:
        found.append("docker did not make %s" % ", ".join(foreign))
    return found


def remove(path: str, others: t.Mapping[str, str], check_mode: bool) -> bool:
    """Remove docker's data directory; whether there was one. NodeError with what is in the way."""
    root = os.path.realpath(path)
    if not os.path.isdir(root):
        return False
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as stream:
        table = mounts.read_mounts(stream.read())
    resolved = {owner: os.path.realpath(other) for owner, other in others.items()}
    found = problems(root, os.listdir(root), table, resolved, docker_runs=check_mode)
    if found:
        raise commands.NodeError(
            "docker's data directory %s is not removed: %s. Unmount or move what is not docker's, "
            "or remove the directory by hand." % (root, "; ".join(found))
        )
    if not check_mode:
        shutil.rmtree(root)
        if os.path.islink(path):
            os.unlink(path)
    return True

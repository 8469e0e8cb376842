# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Room that is kept for the way back, so that a disk that is full by then does not close it.

A file in the state directory, and one on each other file system that the switch writes to.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import paths
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host

NAME = ".homelab-containerd-reserve"
#: The flag files and the journal need less; docker writes too when it starts the pods again.
BYTES = 16 << 20


def _files(host: Host) -> t.List[str]:
    written = [paths.JOURNAL, paths.CONTAINERD_CONFIG, paths.KUBEADM_FLAGS[0]]
    written += [path for path, _variable in paths.EXTRA_ARGS]
    found: t.Dict[int, str] = {}
    for directory in map(os.path.dirname, written):
        with contextlib.suppress(FileNotFoundError):
            found.setdefault(os.stat(host.path(directory)).st_dev, directory)
    return [host.path(directory + "/" + NAME) for directory in found.values()]


def keep(host: Host) -> None:
    """Keep it from now on; OSError with the file's name where there is no room."""
    os.makedirs(host.path(paths.STATE_DIR), mode=0o755, exist_ok=True)
    for path in _files(host):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, BYTES)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as exc:
            give_back(host)
            exc.filename = path
            raise


def give_back(host: Host) -> None:
    for path in _files(host):
        with contextlib.suppress(OSError):
            os.unlink(path)

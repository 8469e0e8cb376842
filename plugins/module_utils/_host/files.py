# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read and replace files on the node."""

from __future__ import annotations

import os
import shutil
import tempfile
import typing as t


def read_text(path: str) -> t.Optional[str]:
    """A file's text, or None where there is none to read."""
    return read(path)[0]


def read(path: str) -> t.Tuple[t.Optional[str], t.Optional[str]]:
    """A file's text, and why it cannot be read; both are None where there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(), None
    except OSError as exc:
        # A link that leads nowhere is there, and somebody meant it to lead to something.
        return None, "it cannot be opened: %s" % exc.strerror if os.path.lexists(path) else None


def write_text(path: str, text: str, mode: t.Optional[int] = None) -> None:
    """Replace a file in one step, on the disk before this returns; it keeps its mode and owner.

    OSError names the file, also where it comes from a write to an open one ("No space left").
    """
    try:
        _replace(path, text, mode)
    except OSError as exc:
        exc.filename = path
        raise


def _replace(path: str, text: str, mode: t.Optional[int]) -> None:
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    try:
        before: t.Optional[os.stat_result] = os.stat(path)
    except OSError:
        before = None
    if mode is None:
        mode = before.st_mode & 0o7777 if before else 0o644
    descriptor, temporary = tempfile.mkstemp(prefix=".homelab-", dir=directory)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            if before:
                os.fchown(stream.fileno(), before.st_uid, before.st_gid)
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync(directory)


def copy(source: str, target: str) -> None:
    """Replace a file by a copy of another one, with its mode, owner and times, in one step."""
    directory = os.path.dirname(target)
    # Nobody but its owner can read it before it has its mode.
    descriptor, temporary = tempfile.mkstemp(prefix=".homelab-", dir=directory)
    os.close(descriptor)
    try:
        shutil.copyfile(source, temporary)
        owner = os.stat(source)
        os.chown(temporary, owner.st_uid, owner.st_gid)
        shutil.copystat(source, temporary)
        sync(temporary)
        os.rename(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    sync(directory)


def sync(path: str) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read and replace files on the node."""

from __future__ import annotations

import os
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
    """Replace a file in one step, on the disk before this returns; its mode stays as it was.

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
    if mode is None:
        try:
            mode = os.stat(path).st_mode & 0o7777
        except OSError:
            mode = 0o644
    descriptor, temporary = tempfile.mkstemp(prefix=".homelab-", dir=directory)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    directory_fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(directory_fd)
    finally:
        os.close(directory_fd)

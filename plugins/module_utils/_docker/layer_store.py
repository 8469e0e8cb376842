# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docker's layer store on the disk: read it, and link its layers to where containerd has them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gzip
import os
import shutil
import stat
import typing as t
import zlib

from ansible_collections.homelab.containerd.plugins.module_utils._docker import tar_split
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    files,
    mounts,
)

#: What the kernel's overlayfs notes about a directory in an upper layer, and not about its content.
PASSING = (
    "trusted.overlay.impure",
    "trusted.overlay.origin",
    "trusted.overlay.uuid",
    "trusted.overlay.nlink",
)

#: These in a layer point out of it: moved directories, and files that are only metadata.
POINTING = ("trusted.overlay.redirect", "trusted.overlay.metacopy")
#: cron refuses a crontab with more than one link ("BAD LINK COUNT"), so these are copied.
CRONTABS = ("etc/cron", "var/spool/cron/")
#: Errors of link(2) that say: not here, rather than: something broke.
NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EMFILE)
VIEW = "/run/homelab-containerd/view"
CLONE_NEWNS = 0x00020000
#: What reading a record of a tar stream raises that is cut short, or is no such record.
DAMAGE = (EOFError, zlib.error, OSError, ValueError, KeyError)


class Refused(Exception):
    """A layer that cannot be adopted; the text is half a sentence that says why."""


class Vanished(Exception):
    """A layer that docker removed meanwhile."""


def record_of(docker_root: str, chain: str) -> str:
    """Where docker keeps what it knows of a layer (moby, layer/filestore.go)."""
    return "%s/image/overlay2/layerdb/sha256/%s" % (docker_root, chain.split(":")[1])


class Layer:
    """A layer of docker's, found by its chain ID.

    In `image/overlay2/layerdb/sha256/X`, X is the chain ID; its `cache-id` names
    `overlay2/<id>/diff` (moby, layer/filestore.go).
    """

    def __init__(self, docker_root: str, chain: str, diff: str, parent: str) -> None:
        self.chain, self.diff, self.parent = chain, diff, parent
        self.record = record_of(docker_root, chain)
        self.tar_split = tar_split_in(docker_root, chain)
        self.cache_id, why = files.read(self.record + "/cache-id")
        if self.cache_id is None and not why:
            raise Vanished(chain)
        if not self.cache_id:
            raise Refused(
                "docker's record of layer %s is damaged (%s/cache-id: %s)"
                % (chain, self.record, why or "it is empty")
            )
        self.directory = "%s/overlay2/%s/diff" % (docker_root, self.cache_id)
        #: Bytes of the files, as docker counts them, for progress.
        self.bytes = int(files.read_text(self.record + "/size") or 0)

    def still_there(self) -> bool:
        return files.read_text(self.record + "/cache-id") == self.cache_id

    def stream_size(self) -> int:
        """Bytes of the layer's tar stream."""
        try:
            return recorded_size(self.tar_split)
        except FileNotFoundError:
            if not os.path.isdir(self.record):
                raise Vanished(self.chain)
            raise Refused("docker has no record of the tar stream of layer %s" % self.chain)
        except DAMAGE as exc:
            raise Refused(
                "docker's record of the tar stream of layer %s is damaged (%s: %s)"
                % (self.chain, self.tar_split, exc)
            )


def tar_split_in(docker_root: str, chain: str) -> str:
    """docker's record of the tar stream of a layer: the order and the headers."""
    return record_of(docker_root, chain) + "/tar-split.json.gz"


def tar_split_of(directory: str, chain: str) -> str:
    """The same, for the layer's directory."""
    docker_root = os.path.dirname(os.path.dirname(os.path.dirname(directory)))
    return tar_split_in(docker_root, chain)


def recorded_size(record: str) -> int:
    """Bytes of the tar stream that a record (tar-split) describes; it is read to its end."""
    with gzip.open(record) as lines:
        size = tar_split.stream_size(t.cast("t.Iterable[bytes]", lines))
    if not size:
        raise EOFError("it is empty")  # even an empty layer's stream has an end
    return size


def sync_file_system(path: str) -> None:
    """Everything that was written to the file system of PATH is on the disk when this returns.

    A database's own fdatasync does not do that: directories, links and renames are in the file
    system's journal, which may be written seconds later.
    """
    commands.run(["sync", "--file-system", path], timeout=600)


def take_own_mounts() -> None:
    """Mounts of this process alone, which end with it, however it ends; it still sees new ones.

    To be called before any thread is started: those that are there keep the old mounts.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        raise Refused(
            "this process gets no mounts of its own (unshare: %s)" % os.strerror(ctypes.get_errno())
        )
    try:
        commands.run(["mount", "--make-rslave", "/"])
    except commands.NodeError as exc:
        raise Refused(str(exc)) from exc


class View:
    """The same file system seen through one mount, since link(2) fails between two.

    Where docker's and containerd's directories are not in one mount already, this process takes
    mounts of its own.
    """

    def __init__(self, *paths: str) -> None:
        self._mounts = mounts.read_mounts(files.read_text("/proc/self/mountinfo") or "")
        words, self._root = mounts.common_view(
            [os.path.realpath(path) for path in paths], self._mounts
        )
        self._shared = words is None
        if words is not None:
            os.makedirs(VIEW, exist_ok=True)
            take_own_mounts()
            try:
                commands.run(["mount", "--no-mtab"] + words + [VIEW])
            except commands.NodeError as exc:
                raise Refused("their file system cannot be seen through one mount: %s" % exc)

    def path(self, path: str) -> str:
        path = os.path.realpath(path)
        if self._shared:
            return path
        inner = mounts.inner_path(path, mounts.mount_of(path, self._mounts))
        return VIEW + "/" + os.path.relpath(inner, self._root)


def _check(attributes: t.Iterable[str], path: str) -> None:
    for name in attributes:
        if name in POINTING:
            raise Refused("%s has %s, which means another layer" % (path, name))


def _copy(name: str, source: int, target: int) -> None:
    """A file's content and all that belongs to it, under a number of its own."""
    here, there = "/proc/self/fd/%d/%s" % (source, name), "/proc/self/fd/%d/%s" % (target, name)
    shutil.copyfile(here, there)
    found = os.stat(here)
    os.chown(there, found.st_uid, found.st_gid)
    os.chmod(there, stat.S_IMODE(found.st_mode))
    for attribute in os.listxattr(here):
        os.setxattr(there, attribute, os.getxattr(here, attribute))
    os.utime(there, ns=(found.st_atime_ns, found.st_mtime_ns))


def _link_directory(source: int, target: int, path: str) -> None:
    for entry in os.scandir(source):
        name = entry.name
        if entry.is_dir(follow_symlinks=False):
            os.mkdir(name, 0o700, dir_fd=target)
            below = path + name + "/"
            inner_source = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=source)
            try:
                inner_target = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=target)
                try:
                    _link_directory(inner_source, inner_target, below)
                finally:
                    os.close(inner_target)
            finally:
                os.close(inner_source)
            continue
        if entry.is_file(follow_symlinks=False):
            _check(os.listxattr("/proc/self/fd/%d/%s" % (source, name)), path + name)
            crontab = (path + name).startswith(CRONTABS)
            if crontab and entry.stat(follow_symlinks=False).st_nlink == 1:
                _copy(name, source, target)
                continue
        # Whiteouts too: they are character devices.
        os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    # Last, when nothing changes the times any more, and no child takes anything over.
    found = os.fstat(source)
    os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    attributes = os.listxattr(source)
    _check(attributes, path or "/")
    for attribute in attributes:
        if attribute not in PASSING:
            os.setxattr(target, attribute, os.getxattr(source, attribute))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def link_layer(source: str, target: str) -> None:
    """Make TARGET the same directory as SOURCE: new directories, all else by hard links.

    Content, mode, owner, times, extended attributes and links among files are the same inodes', so
    they are the same. Raises Refused or Vanished, and leaves nothing then.
    """
    try:
        os.mkdir(target, 0o700)
        with contextlib.ExitStack() as stack:
            ends = []
            for path in (source, target):
                ends.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
                stack.callback(os.close, ends[-1])
            _link_directory(ends[0], ends[1], "")
    except BaseException as exc:
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(exc, FileNotFoundError):
            raise Vanished(source) from exc
        if isinstance(exc, OSError) and exc.errno in NO_LINK:
            raise Refused("%s: %s" % (exc.filename or source, exc.strerror)) from exc
        if isinstance(exc, RecursionError):
            raise Refused("%s has directories too deep" % source) from exc
        raise


def tar_stream(record: str, directory: str) -> t.Iterator[bytes]:
    """The tar stream of a layer, out of docker's record and the layer's files."""
    with gzip.open(record) as lines:
        for kind, what, size in _parts(record, t.cast("t.Iterable[bytes]", lines)):
            if kind == "bytes":
                yield what
                continue
            path = os.path.join(os.fsencode(directory), what.lstrip(b"/"))
            with open(path, "rb") as stream:
                left = size
                while left:
                    chunk = stream.read(min(left, 1 << 20))
                    if not chunk:
                        raise commands.NodeError(
                            "%s is %d bytes shorter than it was" % (os.fsdecode(path), left)
                        )
                    left -= len(chunk)
                    yield chunk


def _parts(record: str, lines: t.Iterable[bytes]) -> t.Iterator[tar_split.Part]:
    try:
        yield from tar_split.tar_parts(lines)
    except DAMAGE as exc:
        raise commands.NodeError("the record of its tar stream, %s, is damaged: %s" % (record, exc))

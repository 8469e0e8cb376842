# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node's one lock: whatever changes the node holds it as long as its process lives.

It is a flock, which the kernel takes away from a process that dies, so a lock of a dead process is
no lock. The file says which job holds it. It stays, and means nothing without the flock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, files, paths

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import Job

#: In the state directory and not in /run: where the disk is full, the file is there since the first
#: run, so the run that finishes an interrupted switch can take the lock.
LOCK = paths.STATE_DIR + "/lock"
#: How long the holder may take from getting the lock until its record is written.
RECORD_SECONDS = 2.0


class Held(commands.NodeError):
    """Another job changes the node; `job` is its record, or None where that cannot be read."""

    def __init__(self, job: t.Optional[Job]) -> None:
        self.job = job
        super().__init__(
            "Another job changes this node: %s. This one has changed nothing. Wait until that job "
            "has ended, and run this again. The command that started it attaches to it and shows "
            "its progress." % (describe(job) if job else "its record in %s is not readable" % LOCK)
        )


def describe(job: Job) -> str:
    """For a person: which job it is, who started it, and when."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(job["since"]))
    return "%s, started by %s, since %s (%d s ago, process %d)" % (
        job["kind"],
        job["started_by"] or "somebody unknown",
        since,
        max(0, time.time() - job["since"]),
        job["pid"],
    )


def process_start(pid: int) -> t.Optional[int]:
    """When a process started, in the kernel's ticks; None where there is none of this number."""
    text = files.read_text("/proc/%d/stat" % pid)
    return commands.start_ticks(text) if text else None


@contextlib.contextmanager
def held(
    kind: str, started_by: t.Optional[str] = None, progress_file: t.Optional[str] = None
) -> t.Iterator[None]:
    """Hold the lock, or raise Held. kind: the module, and the direction where it has one."""
    try:
        os.makedirs(os.path.dirname(LOCK), mode=0o755, exist_ok=True)
        descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise _cannot_open(exc) from exc
    with open(descriptor, "r+b", buffering=0) as stream:
        deadline = time.monotonic() + RECORD_SECONDS
        while not _try(stream, fcntl.LOCK_EX):
            job = _record(stream)
            if job or time.monotonic() > deadline:
                raise Held(job)
            time.sleep(0.05)
        record: Job = {
            "kind": kind,
            "pid": os.getpid(),
            "process_start": process_start(os.getpid()) or 0,
            "since": round(time.time(), 1),
            "started_by": started_by or "",
            "progress_file": progress_file or "",
        }
        # It informs, so a disk that is full is no reason to stop. Overwritten where it lies, which
        # needs no room, and shortened afterwards.
        with contextlib.suppress(OSError):
            text = json.dumps(record).encode()
            os.pwrite(descriptor, text, 0)
            os.ftruncate(descriptor, len(text))
        yield


def holder() -> t.Optional[Job]:
    """The job that holds the lock, or None where none does; Held where that cannot be read."""
    deadline = time.monotonic() + RECORD_SECONDS
    try:
        descriptor = os.open(LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise _cannot_open(exc) from exc
    with open(descriptor, "rb", buffering=0) as stream:
        while not _try(stream, fcntl.LOCK_SH):
            job = _record(stream)
            if job:
                return job
            if time.monotonic() > deadline:
                raise Held(None)
            time.sleep(0.05)
    return None


def refuse_beside(*modules: str) -> None:
    """Held, if a job of one of these modules holds the lock, or of any where none is named."""
    job = holder()
    if job and (not modules or job["kind"].split()[0] in modules):
        raise Held(job)


def _cannot_open(exc: OSError) -> commands.NodeError:
    return commands.NodeError(
        "The node's lock cannot be opened: %s. Nothing was changed. Make sure that this runs as "
        "root (become) and that %s can be written (df -h, df -i), and run it again."
        % (exc, os.path.dirname(LOCK))
    )


def _try(stream: t.IO[bytes], how: int) -> bool:
    try:
        fcntl.flock(stream, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _record(stream: t.IO[bytes]) -> t.Optional[Job]:
    """The record, None where it is half written, or is an earlier holder's."""
    try:
        job = t.cast("Job", json.loads(os.pread(stream.fileno(), 1 << 16, 0)))
        return job if process_start(job["pid"]) == job["process_start"] else None
    except (ValueError, KeyError, TypeError):
        return None

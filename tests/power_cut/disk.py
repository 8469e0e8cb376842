# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk whose writes and flushes are recorded, so that the power can be cut at each of them.

QEMU's storage daemon shows a file as a disk, and records what reaches it in the format of the
kernel's dm-log-writes (drivers/md/dm-log-writes.c). What was written after the last flush was in
the disk's own memory: after a power cut it may be there, or not, or in part.
"""

from __future__ import annotations

import contextlib
import pathlib
import random
import struct
import subprocess
import time
import typing as t

FLUSH, FUA, DISCARD = 1, 2, 4
SECTOR = 512
MAGIC = 0x6A736677736872
#: What becomes of the writes after the last flush.
FATES = ("kept", "lost", "some lost")


class Write(t.NamedTuple):
    """An entry of the record; content: where in the record its bytes are."""

    place: int
    length: int
    flags: int
    content: int


def run(*words: object) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def make(file_system: str, path: pathlib.Path, size: int) -> None:
    with path.open("wb") as stream:
        stream.truncate(size)
    run(f"mkfs.{file_system}", "-F" if file_system == "ext4" else "-f", "-q", path)


@contextlib.contextmanager
def attached(path: pathlib.Path) -> t.Iterator[str]:
    """A block device that is the disk at PATH."""
    loop = run("losetup", "--find", "--show", path)
    try:
        yield loop
    finally:
        run("losetup", "--detach", loop)


@contextlib.contextmanager
def recorded(path: pathlib.Path, record: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """A path that is the disk at PATH, and whose writes go into the record."""
    shown = path.with_suffix(".recorded")
    shown.touch()
    record.touch()
    daemon = subprocess.Popen(
        [
            "qemu-storage-daemon",
            *("--blockdev", f"driver=file,node-name=disk,filename={path},cache.no-flush=on"),
            *("--blockdev", f"driver=file,node-name=record,filename={record},cache.no-flush=on"),
            "--blockdev",
            f"driver=blklogwrites,node-name=both,file=disk,log=record,log-sector-size={SECTOR}",
            *("--export", f"type=fuse,id=shown,node-name=both,mountpoint={shown},writable=on"),
        ]
    )
    try:
        deadline = time.monotonic() + 30
        while shown.stat().st_size != path.stat().st_size:
            assert daemon.poll() is None and time.monotonic() < deadline, "no disk is shown"
            time.sleep(0.05)
        yield shown
    finally:
        daemon.terminate()
        daemon.wait(30)


def read(record: pathlib.Path) -> list[Write]:
    found: list[Write] = []
    with record.open("rb") as stream:
        magic, _version, _count, sector = struct.unpack("<QQQI", stream.read(28))
        assert (magic, sector) == (MAGIC, SECTOR)
        at = SECTOR
        while True:
            stream.seek(at)
            raw = stream.read(32)
            if len(raw) < 32 or not any(raw):
                return found
            place, number, flags, _data = struct.unpack("<QQQQ", raw)
            at += SECTOR
            found.append(Write(place * SECTOR, number * SECTOR, flags, at))
            if not flags & DISCARD:
                at += number * SECTOR


def cut(
    writes: t.Sequence[Write],
    end: int,
    fate: str,
    record: pathlib.Path,
    disk: pathlib.Path,
    chance: random.Random,
) -> None:
    """Bring a copy of the disk as it was before to what a power cut before write END leaves."""
    flushes = [number for number in range(end) if writes[number].flags & FLUSH]
    safe = flushes[-1] if flushes else -1
    with record.open("rb") as source, disk.open("r+b") as target:
        for number, write in enumerate(writes[:end]):
            if write.flags & DISCARD or not write.length:
                continue
            lost = fate == "lost" or (fate == "some lost" and chance.random() < 0.5)
            if lost and number > safe and not write.flags & FUA:
                continue
            source.seek(write.content)
            target.seek(write.place)
            target.write(source.read(write.length))

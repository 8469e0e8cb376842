#!/usr/bin/env python3
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images with everything that a layer can have. Run on the node; docker has them afterwards.

Their layers are written here, to the byte, and loaded, so that whiteouts and opaque directories are
as wanted and not as some builder makes them. Two more are built on top, by docker's two builders.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from typing import Any

BASE = "registry.lab:5000/base:1"
ODD = "home/odd:1"
#: docker takes no image with more (moby, layer/layer_store.go, maxLayerDepth).
MOST_LAYERS = 125
#: cap_net_raw=ep, as setcap writes it (include/uapi/linux/capability.h, revision 2).
CAPABILITY = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
SMALL_FILES = 6000


class Layer:
    def __init__(self) -> None:
        self.buffer = io.BytesIO()
        self.tar = tarfile.TarFile(fileobj=self.buffer, mode="w", format=tarfile.PAX_FORMAT)

    def add(
        self,
        name: str,
        content: bytes = b"",
        kind: bytes = tarfile.REGTYPE,
        mode: int = 0o644,
        **more: Any,
    ) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.size = kind, mode, len(content)
        entry.mtime = more.pop("mtime", 1_600_000_000)
        entry.pax_headers = {
            "SCHILY.xattr." + key: value for key, value in more.pop("xattrs", {}).items()
        }
        for key, value in more.items():
            setattr(entry, key, value)
        self.tar.addfile(entry, io.BytesIO(content))

    def directory(self, name: str, mode: int = 0o755, **more: Any) -> None:
        self.add(name, kind=tarfile.DIRTYPE, mode=mode, **more)

    def finish(self) -> bytes:
        self.tar.close()
        return self.buffer.getvalue()


def odd_layer() -> bytes:
    layer = Layer()
    add = layer.add
    layer.directory("odd", mode=0o2775, uid=1234, gid=5678, mtime=1_234_567_890.123456789)
    add("odd/setuid", b"x", mode=0o4755)
    add("odd/capable", b"x", mode=0o755, xattrs={"security.capability": CAPABILITY})
    add("odd/noted", b"x", xattrs={"user.note": "written by hand"})
    layer.directory("odd/noted.d", xattrs={"user.note": "on a directory"})
    add("odd/nobody's", b"x", uid=65534, gid=65534, mode=0o600)
    add("odd/far", b"x", uid=2_000_000_000, gid=2_000_000_000)
    add("odd/no-rights", b"x", mode=0)
    add("odd/empty", b"")
    add("odd/old", b"x", mtime=1)
    add("odd/to-the-nanosecond", b"x", mtime=1_111_111_111.987654321)
    add("odd/fifo", kind=tarfile.FIFOTYPE, mode=0o640)
    add("odd/null", kind=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)
    add("odd/disk", kind=tarfile.BLKTYPE, mode=0o660, devmajor=7, devminor=200)
    add("odd/dangling", kind=tarfile.SYMTYPE, linkname="/not/there")
    add("odd/long", kind=tarfile.SYMTYPE, linkname="a/" * 500 + "z")
    add("odd/first", b"linked\n", mode=0o640)
    add("odd/second", kind=tarfile.LNKTYPE, linkname="odd/first")
    layer.directory("odd/sub")
    add("odd/sub/third", kind=tarfile.LNKTYPE, linkname="odd/first")
    add("odd/zeros", b"\0" * (8 << 20) + b"end")  # holes are dug into it later
    add("odd/big", os.urandom(1 << 20) * 4)
    for name in ("with space", "new\nline", "-rf", "ünï©ødé", "*?[a]", "q\"'\\", "x" * 255, ".wh"):
        add("odd/" + name, b"named")
    layer.directory("odd/sticky", mode=0o1777)
    layer.directory("odd/bare")
    deep = "odd/" + "/".join(["deep"] * 120)
    layer.directory(deep)
    add(deep + "/end", b"x")
    layer.directory("etc/cron.d")
    add("etc/cron.d/job", b"* * * * * root true\n")
    layer.directory("small")
    for number in range(SMALL_FILES):
        if number % 100 == 0:
            layer.directory("small/%02d" % (number // 100))
        add("small/%02d/%d" % (number // 100, number), b"%d\n" % number)
    # What the next layer takes away.
    for place in ("gone", "gone.d", "opaque", "opaque/below", "twice", "swapped.d", "linked.d"):
        if place != "gone":
            layer.directory(place)
        add(place + "/file" if place != "gone" else place, b"of the first layer\n")
    return layer.finish()


def raw_name_layer() -> bytes:
    """A name that is not UTF-8: only the older format of tar can say it."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape"
    ) as tar:
        entry = tarfile.TarInfo(os.fsdecode(b"odd/not-\xff\xfe-utf8"))
        entry.size, entry.mtime = 4, 1_600_000_000
        tar.addfile(entry, io.BytesIO(b"raw\n"))
    return buffer.getvalue()


def whiteout_layer() -> bytes:
    layer = Layer()
    add = layer.add
    add(".wh.gone")
    add(".wh.gone.d")
    layer.directory("opaque")
    add("opaque/.wh..wh..opq")
    add("opaque/fresh", b"of the second layer\n")
    layer.directory("opaque/below")  # its file is gone with the rest
    layer.directory("twice")
    add("twice/.wh.file")
    add(".wh.swapped.d")
    add("swapped.d", b"a file now\n")
    add(".wh.linked.d")
    add("linked.d", kind=tarfile.SYMTYPE, linkname="opaque")
    layer.directory("odd", mode=0o2775, uid=1234, gid=5678, mtime=1_222_222_222.5)
    add("odd/setuid", b"changed", mode=0o6755)
    return layer.finish()


def back_again_layer() -> bytes:
    """What was taken away is there again, and what is new is taken away."""
    layer = Layer()
    layer.directory("gone.d")
    layer.add("gone.d/other", b"of the third layer\n")
    layer.directory("twice")
    layer.add("twice/file", b"of the third layer\n")
    layer.directory("opaque")
    layer.add("opaque/.wh.fresh")
    return layer.finish()


def step_layer(number: int) -> bytes:
    layer = Layer()
    layer.directory("steps")
    layer.add("steps/%d" % number, b"%d\n" % number)
    if number > 1:
        layer.add("steps/.wh.%d" % (number - 2))
    return layer.finish()


def pointing_layer() -> bytes:
    """What overlayfs writes when it moves a directory, in a layer: never to be linked."""
    layer = Layer()
    layer.add("pointing", b"x", xattrs={"trusted.overlay.redirect": "/elsewhere"})
    return layer.finish()


def base_layer() -> bytes:
    saved = subprocess.run(["docker", "save", BASE], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(saved)) as tar:

        def read(name: str) -> bytes:
            stream = tar.extractfile(name)
            assert stream is not None
            return stream.read()

        (image,) = json.loads(read("manifest.json"))
        (layer,) = image["Layers"]
        return read(layer)


def load(images: dict[str, list[bytes]]) -> None:
    """docker load of images, given as name to layers."""
    buffer, listed = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def write(name: str, content: bytes) -> str:
            if name not in tar.getnames():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            return name

        for name, layers in images.items():
            digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
            config = json.dumps(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "Labels": {"of": name}},
                    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + d for d in digests]},
                    "history": [],
                }
            ).encode()
            listed.append(
                {
                    "Config": write(hashlib.sha256(config).hexdigest() + ".json", config),
                    "RepoTags": [name],
                    "Layers": [
                        write(digest + ".tar", layer)
                        for digest, layer in zip(digests, layers, strict=True)
                    ],
                }
            )
        write("manifest.json", json.dumps(listed).encode())
    subprocess.run(["docker", "load", "--quiet"], input=buffer.getvalue(), check=True)


def build(name: str, recipe: str, buildkit: str) -> None:
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", name, "-"],
        input=recipe.encode(),
        env=os.environ | {"DOCKER_BUILDKIT": buildkit},
        check=True,
    )


def dig_holes() -> None:
    """Make the file of zeros sparse where docker keeps it, as a copy of a sparse file would be."""
    shown = subprocess.run(
        ["docker", "image", "inspect", ODD, "--format", "{{.GraphDriver.Data.LowerDir}}"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout
    for directory in shown.strip().split(":"):
        path = directory + "/odd/zeros"
        if os.path.exists(path):
            found = os.stat(path)
            subprocess.run(["fallocate", "--dig-holes", path], check=True)
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
            assert os.stat(path).st_blocks * 512 < found.st_size


def main() -> None:
    subprocess.run(["docker", "pull", "--quiet", BASE], check=True)
    base = base_layer()
    odd = [base, odd_layer(), raw_name_layer(), whiteout_layer(), back_again_layer()]
    load(
        {
            ODD: odd,
            "home/on-odd:1": [*odd[:2], step_layer(0)],
            "home/deep:1": [base, *(step_layer(n) for n in range(MOST_LAYERS - 1))],
            # The same layer twice, and a layer with nothing in it.
            "home/again:1": [base, step_layer(0), Layer().finish(), step_layer(0)],
            "home/pointing:1": [base, pointing_layer()],
        }
    )
    dig_holes()
    recipe = "FROM %s\nRUN %s\nRUN %s\n" % (
        ODD,
        "rm -rf small/00 opaque && mkdir opaque && echo new > opaque/new && chmod 700 odd/sub",
        "ln odd/first odd/fourth && chown 7:7 odd/big && rm odd/null && mknod odd/null c 1 5",
    )
    build("home/built:1", recipe, "0")
    build("home/built-with-buildkit:1", recipe, "1")
    build("home/nothing:1", "FROM scratch\nLABEL only=labels\n", "0")
    for name in ("home/odd:latest", "registry.lab:5000/home/odd:2", "odd:3"):
        subprocess.run(["docker", "tag", ODD, name], check=True)
    subprocess.run(
        ["docker", "build", "--quiet", "-"],
        input=b"FROM " + BASE.encode() + b"\nLABEL no=name\n",
        check=True,
    )


if __name__ == "__main__":
    main()

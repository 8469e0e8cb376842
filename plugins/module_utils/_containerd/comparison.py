# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare docker's images with containerd's, file by file."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._containerd import (
    client,
    image_names,
)
from ansible_collections.homelab.containerd.plugins.module_utils._docker import layer_store
from ansible_collections.homelab.containerd.plugins.module_utils._docker.api import DockerAPI
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, files

#: Of the snapshot that is made to see which directories containerd mounts; the time follows, as in
#: adopter.KEY.
KEY = "homelab-compare"
#: So many differences of an image are told.
MOST = 20


def is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def facts(path: str, found: os.stat_result, root: bool) -> t.Dict[str, t.Any]:
    """What has to be the same of a file, whoever shows it."""
    attributes = {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
        if name not in layer_store.PASSING
    }
    seen: t.Dict[str, t.Any] = {
        "type and mode": oct(found.st_mode),
        "owner": (found.st_uid, found.st_gid),
        "extended attributes": attributes,
    }
    if not root and not is_whiteout(found):
        seen["modification time"] = found.st_mtime_ns
    if stat.S_ISREG(found.st_mode):
        seen["size"] = found.st_size
    if stat.S_ISLNK(found.st_mode):
        seen["target"] = os.readlink(path)
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        seen["device"] = (os.major(found.st_rdev), os.minor(found.st_rdev))
    return seen


def same_content(ours: str, theirs: str) -> bool:
    with open(ours, "rb") as left, open(theirs, "rb") as right:
        while True:
            chunk = left.read(1 << 20)
            if chunk != right.read(1 << 20):
                return False
            if not chunk:
                return True


class Comparison:
    """Two directories, compared."""

    def __init__(self, docker: str, containerd: str, content: bool) -> None:
        self.tops = (docker, containerd)
        self.content = content
        self.files = self.bytes = 0
        self.differences: t.List[str] = []
        #: For each side, inode to the first name it was met under.
        self.first: t.Tuple[t.Dict[int, str], t.Dict[int, str]] = ({}, {})

    def run(self) -> Comparison:
        pending = [""]
        while pending and len(self.differences) < MOST:
            name = pending.pop()
            places = [top + name for top in self.tops]
            stats = [os.lstat(place) for place in places]
            self.files += 1
            self._compare(name, places, stats)
            if not all(stat.S_ISDIR(found.st_mode) for found in stats):
                continue
            listed = [set(os.listdir(place)) for place in places]
            for side, only in (
                ("docker", listed[0] - listed[1]),
                ("containerd", listed[1] - listed[0]),
            ):
                self.differences += ["only %s has %s/%s" % (side, name, x) for x in sorted(only)]
            pending += [name + "/" + entry for entry in sorted(listed[0] & listed[1])]
        return self

    def _compare(
        self, name: str, places: t.Sequence[str], stats: t.Sequence[os.stat_result]
    ) -> None:
        ours, theirs = (facts(place, found, not name) for place, found in zip(places, stats))
        for key in ours:
            if ours[key] != theirs.get(key):
                self.differences.append(
                    "%s of %s is %s for docker, %s for containerd"
                    % (key, name or "/", ours[key], theirs.get(key))
                )
        if stat.S_ISDIR(stats[0].st_mode):
            return
        links = [first.setdefault(found.st_ino, name) for first, found in zip(self.first, stats)]
        if links[0] != links[1] and not is_whiteout(stats[0]):
            self.differences.append(
                "%s is a link to %s for docker, to %s for containerd" % (name, links[0], links[1])
            )
        if all(stat.S_ISREG(found.st_mode) for found in stats) and links[0] == name:
            self.bytes += stats[0].st_size
            if self.content and not os.path.samestat(*stats) and not same_content(*places):
                self.differences.append("%s has another content" % name)


def layer_differences(docker: str, containerd: str) -> t.List[str]:
    """What differs between two directories of one layer; content too, but for linked files."""
    if not os.path.isdir(containerd):
        return ["%s is missing" % containerd]
    return Comparison(docker, containerd, True).run().differences


@contextlib.contextmanager
def mounted(directory: str, names: t.Sequence[str], empty: str) -> t.Iterator[str]:
    """Layers as a container sees them, but for its writable one; names are below the directory.

    Short names, as both docker and containerd mount them: of 125 layers, the options have to fit
    into a page.
    """
    # One directory alone is no overlay.
    lower = ":".join(list(reversed(names)) + [empty])
    with tempfile.TemporaryDirectory(dir=os.path.dirname(empty)) as target:
        done = subprocess.run(
            ["mount", "-n", "-t", "overlay", "overlay", "-o", "ro,lowerdir=" + lower, target],
            cwd=directory,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode:
            raise commands.NodeError(
                "the layers in %s cannot be mounted: %s" % (directory, done.stderr.strip())
            )
        try:
            yield target
        finally:
            commands.run(["umount", "-n", target])


def containerd_layers(chain: str) -> t.List[str]:
    """The directories that containerd mounts for a container of this chain, the first first."""
    left = [words[0] for words in client.snapshots("Active") if words[0].startswith(KEY)]
    if left:
        client.ctr("snapshots", "delete", *left)
    key = KEY + "-%x" % time.time_ns()
    # A view would do, but ctr does not keep it from the garbage collection.
    mounts = json.loads(client.ctr("snapshots", "prepare", "--mounts", key, chain))
    client.ctr("snapshots", "delete", key)
    for option in mounts[0].get("Options") or []:
        if option.startswith("lowerdir="):
            return list(reversed(option[len("lowerdir=") :].split(":")))
    raise commands.NodeError("containerd does not mount %s as an overlay: %s" % (chain, mounts))


def compare_image(
    api: DockerAPI, docker_root: str, image: t.Dict[str, t.Any], work: str, content: bool
) -> t.Tuple[t.Dict[str, t.Any], t.List[str]]:
    details = api.get("/images/%s/json" % image["id"])
    diffs = details["RootFS"].get("Layers") or []
    chains = image_names.chain_ids(diffs)
    layers = [layer_store.Layer(docker_root, chain, diff, "") for chain, diff in zip(chains, diffs)]
    found = dict(image, layers=len(layers), files=0, bytes=0)
    if not layers:
        return found, []
    overlay2, directories = docker_root + "/overlay2", containerd_layers(chains[-1])
    if len(directories) != len(layers):
        return found, ["docker has %d layers, containerd %d" % (len(layers), len(directories))]
    top = os.path.dirname(os.path.dirname(directories[0]))
    theirs = [os.path.relpath(directory, top) for directory in directories]
    links = ["%s/%s/link" % (overlay2, layer.cache_id) for layer in layers]
    ours = ["l/" + (files.read_text(link) or "").strip() for link in links]
    empty = work + "/empty"
    with mounted(overlay2, ours, empty) as left, mounted(top, theirs, empty) as right:
        merged = Comparison(left, right, content).run()
    differences = list(merged.differences)
    for layer, directory in zip(layers, directories):
        # The content was compared in the image as a whole.
        raw = Comparison(layer.directory, directory, False).run()
        differences += ["layer %s: %s" % (layer.diff[:19], text) for text in raw.differences]
    found.update(files=merged.files, bytes=merged.bytes)
    return found, differences[:MOST]

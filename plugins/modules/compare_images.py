#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compare_images
short_description: Compare the images that docker runs with those that containerd runs, file by file
version_added: "0.2.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Mounts each image as either of the two would for a container, read-only, and compares each file.
    Compared are content, mode, owner, size, modification time, target, device, extended attributes,
    and which names are links of one file.
  - Does the same with each layer's own directory, so that whiteouts and opaque directories are
    compared where they are, in their order.
  - Compares names and image IDs. It fails where anything differs.
  - Both have to run. Nothing is changed; the mounts are the module's own.
  - Not compared are the modification times of an image's root directory and of whiteouts, which are
    when somebody unpacked the layer, and what overlayfs notes for itself.
options:
  docker_socket:
    description: The engine's unix socket.
    type: path
    default: /var/run/docker.sock
  images:
    description: The images to compare, as docker calls them. All that have a name by default.
    type: list
    elements: str
    default: []
  content:
    description: Whether to read and compare the files' content.
    type: bool
    default: true
attributes:
  check_mode:
    description: It only looks, in check mode as always.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: See that containerd runs what docker ran
  homelab.containerd.compare_images:
"""

RETURN = r"""
compared:
  description:
    - The images that were compared, each with C(id), C(names), C(layers), C(files) and C(bytes).
  returned: always
  type: list
  elements: dict
differences:
  description: What differs, a sentence each.
  returned: always
  type: list
  elements: str
"""

import contextlib
import json
import os
import stat
import subprocess
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils import (
    adopter,
    images,
    layer_store,
    node,
)
from ansible_collections.homelab.containerd.plugins.module_utils.docker_api import (
    DockerAPI,
    DockerError,
)

#: The snapshot that is made to see which directories containerd mounts.
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
            if self.content and not same_content(*places):
                self.differences.append("%s has another content" % name)


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
            raise node.NodeError(
                "the layers in %s cannot be mounted: %s" % (directory, done.stderr.strip())
            )
        try:
            yield target
        finally:
            node.run(["umount", "-n", target])


def containerd_layers(chain: str) -> t.List[str]:
    """The directories that containerd mounts for a container of this chain, the first first."""
    node.run(["ctr", "-n", node.NAMESPACE, "snapshots", "delete", KEY], check=False)  # left over
    # A view would do, but ctr does not keep it from the garbage collection.
    mounts = json.loads(node.ctr("snapshots", "prepare", "--mounts", KEY, chain))
    node.ctr("snapshots", "delete", KEY)
    for option in mounts[0].get("Options") or []:
        if option.startswith("lowerdir="):
            return list(reversed(option[len("lowerdir=") :].split(":")))
    raise node.NodeError("containerd does not mount %s as an overlay: %s" % (chain, mounts))


def compare_image(
    api: DockerAPI, docker_root: str, image: t.Dict[str, t.Any], work: str, content: bool
) -> t.Tuple[t.Dict[str, t.Any], t.List[str]]:
    details = api.get("/images/%s/json" % image["id"])
    diffs = details["RootFS"].get("Layers") or []
    chains = images.chain_ids(diffs)
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
    ours = ["l/" + (node.read_text(link) or "").strip() for link in links]
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


def run_module(module: AnsibleModule) -> t.Dict[str, t.Any]:
    api = DockerAPI(module.params["docker_socket"], timeout=120)
    docker_root = api.get("/info")["DockerRootDir"]
    references = node.containerd_images()
    wanted = set(module.params["images"])
    unknown = set(wanted)
    compared: t.List[t.Dict[str, t.Any]] = []
    differences: t.List[str] = []
    layer_store.take_own_mounts()
    work = "/run/homelab-containerd/compare"
    os.makedirs(work + "/empty", exist_ok=True)
    for entry in api.get("/images/json"):
        tags = [tag for tag in entry.get("RepoTags") or [] if "<none>" not in tag]
        digests = [name for name in entry.get("RepoDigests") or [] if "<none>" not in name]
        image = {"id": entry["Id"], "names": tags + digests}
        if not image["names"] or (wanted and not wanted & {entry["Id"], *image["names"]}):
            continue
        unknown -= {entry["Id"], *image["names"]}
        # CRI gives every image a name that is its ID.
        manifest = references.get(entry["Id"], {}).get("digest")
        for name in map(images.normalize, image["names"]):
            if manifest is None or references.get(name, {}).get("digest") != manifest:
                differences.append("%s is not %s in containerd" % (name, entry["Id"]))
        if manifest is None:
            continue
        found, told = compare_image(api, docker_root, image, work, module.params["content"])
        compared.append(found)
        differences += ["%s: %s" % (image["names"][0], text) for text in told]
    differences += ["docker has no image %s" % name for name in sorted(unknown)]
    return {"changed": False, "compared": compared, "differences": differences}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
            "images": {"type": "list", "elements": "str", "default": []},
            "content": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    try:
        with adopter.alone():
            result = run_module(module)
    except (node.NodeError, DockerError, layer_store.Refused) as exc:
        module.fail_json(msg=str(exc))
    except layer_store.Vanished as exc:
        module.fail_json(msg="docker removed layer %s meanwhile; run this again" % exc)
    else:
        if result["differences"]:
            module.fail_json(
                msg="containerd's images differ from docker's: %s"
                % "; ".join(result["differences"][:MOST]),
                **result,
            )
        module.exit_json(**result)


if __name__ == "__main__":
    main()

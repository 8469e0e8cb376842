# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What docker's images are called in containerd, and which are missing there. Pure functions."""

from __future__ import annotations

import hashlib
import re
import typing as t


def normalize(reference: str) -> str:
    """docker's short name as containerd writes it: "app:1" is "docker.io/library/app:1".

    The rule is distribution/reference's (normalize.go, splitDockerDomain): the first part is a
    host when it has a dot, a colon or a capital letter, or is "localhost".
    """
    first, slash, rest = reference.partition("/")
    host = re.search(r"[.:A-Z]", first) or first == "localhost"
    if not slash or not host:
        first, rest = "docker.io", reference
    if first == "index.docker.io":
        first = "docker.io"
    if first == "docker.io" and "/" not in rest:
        rest = "library/" + rest
    return first + "/" + rest


def unregistered_tags(image: t.Mapping[str, t.Any]) -> t.List[str]:
    """The tags of an image under which docker neither pulled it nor pushed it anywhere.

    image: {"tags", "digests"}. A repository that the image has a digest for is in a registry.
    """
    repositories = {digest.split("@")[0] for digest in image["digests"]}
    return [tag for tag in image["tags"] if tag.rpartition(":")[0] not in repositories]


def chain_ids(diff_ids: t.Sequence[str]) -> t.List[str]:
    """The chain ID of each layer (OCI image specification, config.md, "Layer ChainID")."""
    chain: t.List[str] = []
    for diff_id in diff_ids:
        if chain:
            text = (chain[-1] + " " + diff_id).encode()
            chain.append("sha256:" + hashlib.sha256(text).hexdigest())
        else:
            chain.append(diff_id)
    return chain


def missing(
    docker_images: t.Sequence[t.Dict[str, t.Any]],
    present: t.Dict[str, str],
    overwrite: bool = False,
) -> t.Dict[str, t.List[t.Any]]:
    """Which of docker's images are missing in containerd.

    docker_images: [{"id", "tags", "digests"}]. present: containerd's references to image IDs.
    Returns {"carry": images to stream, "tag": [(image, reference to add)], "kept": references
    that name another image in containerd and stay as they are unless overwrite, "dangling":
    IDs without tag or digest, which nothing can run}.
    """
    have = set(present.values())
    found: t.Dict[str, t.List[t.Any]] = {"carry": [], "tag": [], "kept": [], "dangling": []}
    for image in docker_images:
        names = [normalize(name) for name in image["tags"] + image["digests"]]
        if not names:
            found["dangling"].append(image["id"])
            continue
        wanted = []
        for name in names:
            if name not in present or (present[name] != image["id"] and overwrite):
                wanted.append(name)
            elif present[name] != image["id"]:
                found["kept"].append(name)
        if wanted and image["id"] not in have:
            found["carry"].append(image)
        found["tag"].extend((image, name) for name in wanted)
    return found


# The grammar of distribution/reference (reference/regexp.go), with the host optional as docker
# has it and without a digest: a name to publish under has none.
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = r"%s(?:\.%s)*(?::[0-9]+)?" % (_LABEL, _LABEL)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
TAG = re.compile(r"(?:%s/)?%s(?:/%s)*(?::[\w][\w.-]{0,127})?" % (_HOST, _PART, _PART), re.ASCII)


def full_name(tag: str) -> str:
    """normalize() with a tag, as the kubelet looks for it. buildctl takes names as given."""
    name = normalize(tag)
    return name if ":" in name.rpartition("/")[2] else name + ":latest"

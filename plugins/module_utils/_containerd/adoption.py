# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Adopting docker's layers in place: when it can be done, and what containerd is then told.

docker's overlay2 and containerd's overlayfs snapshotter keep the same thing on disk, one directory
per layer in overlayfs's own format (Documentation/filesystems/overlayfs.rst of the kernel). Pure
functions; layer_store.py does what they decide.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        CarryFacts,
        CarryMethod,
        DockerStorage,
        Object,
    )

Facts = t.Dict[str, t.Any]
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
#: As containerd names an uncompressed layer out of `docker save` (core/images/mediatypes.go).
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
NAME_ANNOTATION = "io.containerd.image.name"
#: Without these a hard link either cannot be made or does not mean what it means here.
FILE_SYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs")
#: Directories are made again, all else is linked: less than this of the layers' bytes.
LINKED_SHARE = 0.05
#: A stream leaves blobs and unpacked layers.
STREAMED_SHARE = 2.0


def space_needed(method: str, size: int, to_restore: int) -> t.Dict[str, int]:
    """Bytes that carrying layers of SIZE takes on the file systems of "docker" and "containerd".

    By stream docker spools once; containerd keeps each layer as a blob and unpacked. Adopted, a
    layer costs its directories, and its blob where it is to be restored.
    """
    if method == "adopt":
        return {"docker": 0, "containerd": int(LINKED_SHARE * size) + to_restore}
    return {"docker": size, "containerd": int(STREAMED_SHARE * size)}


def storage(info: Object) -> DockerStorage:
    """What carry_method() asks of docker, out of its answer to GET /info."""
    security = info.get("SecurityOptions") or []
    return {
        "root_dir": info.get("DockerRootDir"),
        "storage_driver": info.get("Driver"),
        "driver_status": {str(pair[0]): str(pair[1]) for pair in info.get("DriverStatus") or []},
        "userns_remap": any("name=userns" in option for option in security),
        "rootless": any("name=rootless" in option for option in security),
    }


def why_not(facts: CarryFacts) -> t.Optional[str]:
    """Why docker's layers cannot be adopted on a node, or None where they can.

    facts: node_runtime_info's, of which it needs docker (storage() above, daemon_json, flags),
    containerd (snapshotter) and disk.
    """
    docker, disk = facts["docker"], facts["disk"]
    status = docker.get("driver_status") or {}
    written = docker["daemon_json"]["value"].get("storage-opts")
    options = list(written) if isinstance(written, list) else []
    options += docker["flags"].get("storage-opt") or []
    used = facts["containerd"]["snapshotter"]
    file_system = disk["docker"].get("file_system")
    if "io.containerd.snapshotter" in status.get("driver-type", ""):
        return "docker keeps its images in containerd's own store"
    if docker.get("storage_driver") != "overlay2":
        return "docker's storage driver is %s, not overlay2" % (
            docker.get("storage_driver") or "unknown"
        )
    if docker.get("userns_remap"):
        return "docker remaps users (userns-remap), so its files belong to other users"
    if docker.get("rootless"):
        return "docker is rootless, so its files belong to other users"
    if any("overlay2.size" in str(option) for option in options):
        return "docker limits layers with a quota (overlay2.size)"
    if status.get("Native Overlay Diff") == "false":
        return "the kernel redirects renamed directories in docker's layers (redirect_dir)"
    if used != "overlayfs":
        return "containerd's snapshotter is %s, not overlayfs" % used
    if disk["docker"]["device"] != disk["containerd"]["device"]:
        return "%s and %s are on different file systems" % (
            disk["docker"]["path"],
            disk["containerd"]["path"],
        )
    if file_system not in FILE_SYSTEMS:
        return "docker's data is on %s, where this was never tried" % (file_system or "an unknown")
    return None


def carry_method(facts: CarryFacts, method: str = "auto") -> CarryMethod:
    """How the images of a node are carried, for a method ("auto", "adopt" or "stream").

    facts: as for why_not(). If "adopt" is not possible, the result is "stream" with the reason; the
    caller has to refuse it.
    """
    if method == "stream":
        return {"method": "stream", "why": "carry_images_method is stream"}
    reason = why_not(facts)
    if reason:
        return {"method": "stream", "why": reason}
    return {
        "method": "adopt",
        "why": "docker's layers and containerd's are overlayfs directories on one file system",
    }


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def content_path(containerd_root: str, digest_: str) -> str:
    """Where containerd keeps a blob (plugins/content/local/store.go)."""
    return "%s/io.containerd.content.v1.content/blobs/%s" % (
        containerd_root,
        digest_.replace(":", "/"),
    )


def content_size(containerd_root: str, digest_: str) -> t.Optional[int]:
    try:
        return os.stat(content_path(containerd_root, digest_)).st_size
    except OSError:
        return None


def is_content(containerd_root: str, digest_: str) -> bool:
    """Whether a blob is there and whole; containerd says so of what a power cut took away."""
    try:
        with open(content_path(containerd_root, digest_), "rb") as stream:
            return digest(stream.read()) == digest_
    except OSError:
        return False


def _json(value: t.Any) -> bytes:
    """As Go's encoding/json writes it."""
    return json.dumps(value, separators=(",", ":")).encode()


def manifest(config: bytes, layers: t.Sequence[t.Tuple[str, int]]) -> bytes:
    """The manifest that containerd makes of an image out of `docker save` (docker up to 24).

    layers: (diff ID, size of the tar stream). The same bytes have the same digest, so whatever
    brings the image again (docker save | ctr images import) finds this one in its place. The form
    is that of containerd's core/images/archive/importer.go, its fields in that order.
    """
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": digest(config), "size": len(config)},
            "layers": [
                {"mediaType": LAYER_TYPE, "digest": diff_id, "size": size}
                for diff_id, size in layers
            ],
        }
    )


def archive(adopted: t.Sequence[t.Tuple[bytes, bytes, t.Sequence[str]]]) -> bytes:
    """An OCI image layout (image-layout.md of its specification) without layers, as a tar.

    adopted: (config, manifest, names in containerd) of each image. `ctr images import` looks for
    the layers' snapshots, finds them all, and asks for no blob.
    """
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"})}
    entries = []
    for config, made, names in adopted:
        for content in (config, made):
            files["blobs/sha256/" + digest(content).split(":")[1]] = content
        for name in names:
            entries.append(
                {
                    "mediaType": MANIFEST_TYPE,
                    "digest": digest(made),
                    "size": len(made),
                    "annotations": {NAME_ANNOTATION: name},
                }
            )
    files["index.json"] = _json({"schemaVersion": 2, "manifests": entries})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def upper_directory(mounts: t.Sequence[t.Dict[str, t.Any]]) -> str:
    """Where a prepared snapshot is written: the upperdir, or the bind mount's source of a first."""
    for mount in mounts:
        for option in mount.get("Options") or []:
            if option.startswith("upperdir="):
                return str(option[len("upperdir=") :])
    return str(mounts[0]["Source"])


def missing_blobs(
    record: Facts, manifests: t.Container[str], blobs: t.Container[str], restore: str
) -> t.Dict[str, t.List[Facts]]:
    """Which adopted images have no blobs for some of their layers.

    record: {"images": {image ID: {"manifest", "names", "local", "layers": [{"diff", "chain",
    "size"}]}}}, what carry_images noted of the images it adopted. manifests, blobs: the digests
    that containerd has images and content for. restore: "never", "local_only" (images that no
    registry has) or "all".

    Returns {"waiting": those that are to be restored, "remaining": those that are not}, each {"id",
    "names", "local", "layers": those it misses, "bytes": of these}. Images that are gone are in
    neither.
    """
    found: t.Dict[str, t.List[Facts]] = {"waiting": [], "remaining": []}
    for identity, image in sorted(record.get("images", {}).items()):
        missing = {layer["diff"]: layer for layer in image["layers"] if layer["diff"] not in blobs}
        if image["manifest"] not in manifests or not missing:
            continue
        wanted = restore == "all" or (restore == "local_only" and image["local"])
        found["waiting" if wanted else "remaining"].append(
            {
                "id": identity,
                "names": image["names"],
                "local": image["local"],
                "layers": list(missing.values()),
                "bytes": sum(layer["size"] for layer in missing.values()),
            }
        )
    return found

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import io
import json
import tarfile

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import adoption
from ansible_collections.homelab.containerd.plugins.module_utils._docker import tar_split
from ansible_collections.homelab.containerd.plugins.module_utils._host import mounts
from hypothesis import given
from hypothesis import strategies as st
from support import RECORDED


@pytest.fixture
def node_facts(facts):
    """The lab's node: overlay2 and overlayfs on one ext4."""
    facts["disk"]["docker"]["file_system"] = facts["disk"]["containerd"]["file_system"] = "ext4"
    facts["disk"]["containerd"]["device"] = facts["disk"]["docker"]["device"]
    return facts


def test_one_file_system_with_overlay2_and_overlayfs_is_adopted(node_facts):
    found = adoption.carry_method(node_facts)
    assert found["method"] == "adopt" and "one file system" in found["why"]
    assert adoption.carry_method(node_facts, "stream")["method"] == "stream"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"docker": {"storage_driver": "btrfs"}}, "btrfs, not overlay2"),
        ({"docker": {"storage_driver": None}}, "unknown, not overlay2"),
        (
            {
                "docker": {
                    "storage_driver": "overlayfs",
                    "driver_status": {"driver-type": "io.containerd.snapshotter.v1"},
                }
            },
            "containerd's own store",
        ),
        ({"docker": {"userns_remap": True}}, "userns-remap"),
        ({"docker": {"rootless": True}}, "rootless"),
        ({"docker": {"flags": {"storage-opt": ["overlay2.size=10G", "x=y"]}}}, "overlay2.size"),
        (
            {"docker": {"daemon_json": {"value": {"storage-opts": ["overlay2.size=10G"]}}}},
            "overlay2.size",
        ),
        ({"docker": {"driver_status": {"Native Overlay Diff": "false"}}}, "redirect_dir"),
        ({"containerd": {"snapshotter": "zfs"}}, "zfs, not overlayfs"),
        ({"disk": {"docker": {"path": "/d", "device": -1}}}, "/d and /var/lib/containerd are on"),
    ],
)
def test_what_cannot_be_adopted_is_streamed_and_says_why(node_facts, change, why):
    for part, values in change.items():
        node_facts[part] = {**node_facts[part], **values}
    assert adoption.carry_method(node_facts)["method"] == "stream"
    assert why in adoption.carry_method(node_facts, "adopt")["why"]


def test_an_unknown_file_system_is_not_tried(node_facts):
    node_facts["disk"]["docker"]["file_system"] = "nfs4"
    assert "nfs4" in adoption.carry_method(node_facts)["why"]


def test_storage_of_the_recorded_docker(recorded):
    found = adoption.storage(recorded("docker-20.10.24/info.json"))
    assert found["storage_driver"] == "overlay2" and found["root_dir"] == "/var/lib/docker"
    assert found["driver_status"]["Native Overlay Diff"] == "true"
    assert found["userns_remap"] is False and found["rootless"] is False


# --- tar-split ---------------------------------------------------------------------------------


def split_lines(stream, files):
    """What docker's tar-split writes of a stream, of which these (name, start, size) are files."""
    lines, place = [], 0

    def segment(end):
        payload = base64.b64encode(stream[place:end]).decode()
        lines.append(b'{"type":2,"payload":"%s","position":0}\n' % payload.encode())

    for name, start, size in files:
        segment(start)
        entry = {"type": 1, "size": size, "payload": "AAAA", "position": 0}
        try:
            entry["name"] = name.decode()
        except UnicodeDecodeError:
            entry["name_raw"] = base64.b64encode(name).decode()
        lines.append(json.dumps(entry).encode() + b"\n")
        place = start + size
    segment(len(stream))
    return lines


@given(st.binary(max_size=2000), st.lists(st.integers(1, 300), max_size=5))
def test_the_parts_make_the_stream_and_its_size_again(stream, steps):
    files, place = [], 0
    for number, step in enumerate(steps):
        size = min(step, len(stream) - place)
        if size <= 0:
            break
        files.append((b"f\xff%d" % number if number % 2 else b"f%d" % number, place, size))
        place += size
    content = {name: stream[start : start + size] for name, start, size in files}
    lines = split_lines(stream, files)
    parts = tar_split.tar_parts(lines)
    made = b"".join(what if kind == "bytes" else content[what] for kind, what, _size in parts)
    assert made == stream
    assert tar_split.stream_size(lines) == len(stream)


def test_empty_files_and_links_have_no_part():
    assert (
        list(tar_split.tar_parts([b'{"type":1,"name":"www/","payload":null,"position":1}'])) == []
    )


# --- what containerd is given ------------------------------------------------------------------


def test_the_manifest_is_containerds_own_to_the_byte():
    """As `docker save | ctr images import` made it of the image with this config."""
    config = (RECORDED / "docker-20.10.24/image-config.json").read_bytes()
    recorded = (RECORDED / "containerd-1.6.20/manifest-of-docker-save.json").read_bytes()
    layers = [(diff_id, 2129920) for diff_id in json.loads(config)["rootfs"]["diff_ids"]]
    assert adoption.manifest(config, layers) == recorded


def test_the_archive_is_an_image_layout_with_each_name():
    made = adoption.manifest(b"{}", [])
    content = adoption.archive([(b"{}", made, ["a:1", "a@sha256:2"])])
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        files = {entry.name: stream.read() for entry in tar if (stream := tar.extractfile(entry))}
    index = json.loads(files["index.json"])
    assert [entry["annotations"] for entry in index["manifests"]] == [
        {"io.containerd.image.name": "a:1"},
        {"io.containerd.image.name": "a@sha256:2"},
    ]
    for entry in index["manifests"]:
        blob = files["blobs/sha256/" + entry["digest"].split(":")[1]]
        assert blob == made and entry["size"] == len(made)
    assert files["blobs/sha256/" + adoption.digest(b"{}").split(":")[1]] == b"{}"
    assert json.loads(files["oci-layout"])["imageLayoutVersion"] == "1.0.0"


def test_where_a_snapshot_is_written():
    first = [{"Type": "bind", "Source": "/s/1/fs", "Options": ["rw", "rbind"]}]
    second = [
        {"Type": "overlay", "Source": "overlay", "Options": ["index=off", "upperdir=/s/2/fs"]}
    ]
    assert adoption.upper_directory(first) == "/s/1/fs"
    assert adoption.upper_directory(second) == "/s/2/fs"


# --- which blobs are missing ---

A, B, C = (
    {"diff": name, "chain": "c" + name, "size": size}
    for name, size in zip("abc", (1, 2, 4), strict=True)
)
RECORD = {
    "images": {
        "i1": {"manifest": "m1", "names": ["x:1"], "local": True, "layers": [A, B]},
        "i2": {"manifest": "m2", "names": ["y:1"], "local": False, "layers": [A, C, C]},
    }
}


def missing(blobs, restore, manifests=("m1", "m2")):
    found = adoption.missing_blobs(RECORD, manifests, blobs, restore)
    return {key: [(e["id"], e["bytes"]) for e in entries] for key, entries in found.items()}


def test_what_lacks_blobs_and_what_shall_have_them():
    assert missing("", "local_only") == {"waiting": [("i1", 3)], "remaining": [("i2", 5)]}
    assert missing("", "all") == {"waiting": [("i1", 3), ("i2", 5)], "remaining": []}
    assert missing("", "never") == {"waiting": [], "remaining": [("i1", 3), ("i2", 5)]}
    assert missing("ab", "all") == {"waiting": [("i2", 4)], "remaining": []}
    assert missing("abc", "all") == {"waiting": [], "remaining": []}


def test_an_image_that_is_gone_lacks_nothing():
    assert missing("", "all", ["m2"]) == {"waiting": [("i2", 5)], "remaining": []}
    assert adoption.missing_blobs({}, [], [], "all") == {"waiting": [], "remaining": []}


# --- mounts ------------------------------------------------------------------------------------


def mount_table(*rows):
    """Rows of (number, device, root, mount point, file system)."""
    lines = [
        "%s 1 %s %s %s rw,relatime shared:1 - %s /dev/x rw" % (row[0], *row[1:4], row[4])
        for row in rows
    ]
    return mounts.read_mounts("\n".join(lines))


ROOT = ("1", "8:1", "/", "/", "ext4")
DATA = "/var/lib/docker/overlay2", "/var/lib/containerd/snapshots"


def test_one_mount_needs_no_other_view():
    assert mounts.common_view(DATA, mount_table(ROOT)) == (None, "/")


def test_what_dockerd_mounts_on_itself_is_seen_through_the_mount_below():
    found = mount_table(ROOT, ("2", "8:1", "/var/lib/docker", "/var/lib/docker", "ext4"))
    assert mounts.common_view(DATA, found) == (["--bind", "/"], "/")
    assert mounts.inner_path(DATA[0], mounts.mount_of(DATA[0], found)) == DATA[0]


def test_two_volumes_of_a_file_system_that_is_mounted_nowhere_whole():
    found = mount_table(
        ("1", "0:9", "/", "/", "overlay"),
        ("2", "8:1", "/v/a/_data", "/var/lib/docker", "ext4"),
        ("3", "8:1", "/v/b/_data", "/var/lib/containerd", "ext4"),
    )
    assert mounts.common_view(DATA, found) == (["-t", "ext4", "/dev/x"], "/")
    assert mounts.inner_path(DATA[1], mounts.mount_of(DATA[1], found)) == ("/v/b/_data/snapshots")


def test_a_mount_that_another_hides_is_no_view():
    found = mount_table(
        ROOT,
        ("2", "8:2", "/", "/data", "xfs"),
        ("3", "0:7", "/", "/data", "tmpfs"),
        ("4", "8:2", "/d", "/var/lib/docker", "xfs"),
        ("5", "8:2", "/c", "/var/lib/containerd", "xfs"),
    )
    assert mounts.common_view(DATA, found) == (["-t", "xfs", "/dev/x"], "/")


def test_names_with_spaces_and_later_mounts_over_earlier():
    found = mount_table(
        ROOT, ("2", "8:1", "/a\\040b", "/m\\040n", "ext4"), ("3", "8:2", "/", "/m\\040n", "xfs")
    )
    assert found[1].root == "/a b" and found[1].point == "/m n"
    assert mounts.mount_of("/m n/x", found).number == "3"

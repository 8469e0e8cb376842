# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gzip
import json
import shutil
import types

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import adopter, blobs
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    lock,
    mounts,
    paths,
    progress,
)
from ansible_collections.homelab.containerd.plugins.modules import restore_blobs

#: 15 % and the reserve have to stay free.
DISK = {"total_bytes": 1000, "free_bytes": 160}
LAYER = {"chain": "sha256:c1", "diff": "sha256:d1", "size": 5}


@pytest.fixture
def adopted(tmp_path, monkeypatch):
    """An adopted image with one layer, a file of 3 bytes between two others."""
    splits, docker = tmp_path / "tar-split", tmp_path / "docker"
    original = docker / "image/overlay2/layerdb/sha256/c1/tar-split.json.gz"
    for directory in (splits, original.parent):
        directory.mkdir(parents=True)
    with gzip.open(original, "wb") as stream:
        stream.write(b'{"type":2,"payload":"Wg==","position":0}\n')
        stream.write(b'{"type":1,"name":"f","size":3,"payload":"AAAA","position":1}\n')
        stream.write(b'{"type":2,"payload":"Wg==","position":2}\n')
    shutil.copy(original, splits / "c1.json.gz")
    for side in (tmp_path / "snapshots", docker / "overlay2/x/diff"):
        side.mkdir(parents=True)
        (side / "f").write_bytes(b"abc")
    record = {
        "restore": "local_only",
        "images": {
            "sha256:i1": {"manifest": "m1", "names": ["a:1"], "local": True, "layers": [LAYER]}
        },
        "snapshots": {"sha256:c1": str(tmp_path / "snapshots")},
        "docker": {"sha256:c1": str(docker / "overlay2/x/diff")},
        "containerd_root": str(tmp_path),
    }
    (tmp_path / "adopted.json").write_text(json.dumps(record))
    monkeypatch.setattr(adopter, "TAR_SPLITS", str(splits))
    monkeypatch.setattr(adopter, "RECORD", str(tmp_path / "adopted.json"))
    return record


def ctr(tmp_path):
    """A ctr that has the image, and the blobs it was given."""
    return """case "$*" in
      *"images list") printf 'REF TYPE DIGEST\\na:1 x m1 - - -\\n';;
      *"content list"*) cat %(dir)s/blobs 2>/dev/null || true;;
      *"content delete sha256:d1"*) rm %(dir)s/blobs;;
      *"content ingest"*) cat > %(dir)s/blob; echo "$*" > %(dir)s/words
        [ "$(cat %(dir)s/blob)" = ZabcZ ] && ! grep sha256:d1 %(dir)s/blobs || exit 1
        echo sha256:d1 >> %(dir)s/blobs; mkdir -p %(content)s; mv %(dir)s/blob %(content)s/d1;;
    esac""" % {"dir": tmp_path, "content": content(tmp_path)}


def content(tmp_path):
    return tmp_path / "io.containerd.content.v1.content/blobs/sha256"


def run(check_mode=False, **params):
    params = {
        "restore": None,
        "reserve_bytes": 0,
        "progress_file": None,
        "containerd_root": "/",
    } | params
    return restore_blobs.run_module(types.SimpleNamespace(params=params, check_mode=check_mode))


@pytest.fixture(autouse=True)
def no_modesty(monkeypatch):
    """What is nice once stays so, and all tests are one process."""
    monkeypatch.setattr(blobs, "lower_priority", lambda: None)
    monkeypatch.setattr(mounts, "disk_facts", lambda path: dict(DISK))
    monkeypatch.setattr(commands, "command_line", lambda name: (None, []))
    monkeypatch.setattr(blobs, "KUBELET_CONFIG", "/nonexistent")


def test_a_blob_is_made_of_the_files_and_what_is_between(adopted, program, tmp_path):
    program("ctr", ctr(tmp_path))
    assert run(check_mode=True)["changed"] and not (tmp_path / "blob").exists()
    result = run()
    assert result["changed"] and result["bytes"] == 5 and result["waiting"][0]["layers"] == 1
    words = (tmp_path / "words").read_text()
    assert "--expected-digest sha256:d1 --expected-size 5" in words
    # It is whole, so there is nothing to remember.
    assert json.loads((tmp_path / "adopted.json").read_text())["images"] == {}
    assert list((tmp_path / "tar-split").iterdir()) == []
    assert not run()["changed"]


def test_docker_s_directory_is_taken_where_containerd_s_is_not_right(adopted, program, tmp_path):
    program("ctr", ctr(tmp_path))
    (tmp_path / "snapshots/f").write_bytes(b"ab")
    assert run()["changed"]
    (tmp_path / "blobs").unlink()


def test_a_blob_that_cannot_be_written_says_why_from_each(adopted, program, tmp_path):
    program("ctr", ctr(tmp_path))
    (tmp_path / "snapshots/f").write_bytes(b"ab")
    (tmp_path / "docker/overlay2/x/diff/f").unlink()
    with pytest.raises(
        commands.NodeError, match=r"1 bytes shorter.*No such file.*docker save"
    ) as told:
        run()
    assert "sha256:d1" in str(told.value)
    assert json.loads((tmp_path / "adopted.json").read_text()) == adopted


def test_a_record_that_a_power_cut_left_short_is_taken_from_docker_again(
    adopted, program, tmp_path, power_cut
):
    program("ctr", ctr(tmp_path))
    power_cut(tmp_path / "tar-split/c1.json.gz")
    assert run()["changed"] and run()["changed"] is False


def test_without_docker_s_own_it_says_so(adopted, program, tmp_path, power_cut):
    program("ctr", ctr(tmp_path))
    power_cut(tmp_path / "tar-split/c1.json.gz")
    power_cut(next((tmp_path / "docker").rglob("tar-split.json.gz")))
    with pytest.raises(commands.NodeError, match=r"damaged, and docker has no other.*docker save"):
        run()


@pytest.fixture(params=["empty", "cut", "garbled"])
def power_cut(request):
    """Leave of a file what a power cut may leave."""

    def leave(path):
        whole = path.read_bytes()
        garbled = whole[:12] + b"\0" * (len(whole) - 12)
        path.write_bytes({"empty": b"", "cut": whole[:-15], "garbled": garbled}[request.param])

    return leave


@pytest.mark.parametrize("left", [None, b"Z"])
def test_a_blob_that_a_power_cut_took_is_written_again(adopted, program, tmp_path, left):
    """containerd lists it, and would not take it."""
    program("ctr", ctr(tmp_path))
    (tmp_path / "blobs").write_text("sha256:d1\n")
    if left:
        content(tmp_path).mkdir(parents=True)
        (content(tmp_path) / "d1").write_bytes(left)
    assert run()["changed"]
    assert (content(tmp_path) / "d1").read_bytes() == b"ZabcZ"


def test_what_is_not_to_be_filled_is_left_and_remembered(adopted, program, tmp_path):
    program("ctr", ctr(tmp_path))
    result = run(restore="never")
    assert not result["changed"] and result["remaining"][0]["names"] == ["a:1"]
    assert json.loads((tmp_path / "adopted.json").read_text()) == adopted


def test_there_has_to_be_space(adopted, program, tmp_path):
    program("ctr", ctr(tmp_path))
    with pytest.raises(commands.NodeError, match=r"Not enough space.*carry_images_reserve_bytes"):
        run(reserve_bytes=1 << 60)


def from_a_registry(adopted, tmp_path):
    """The image is one that a registry has too."""
    adopted["restore"] = "all"
    adopted["images"]["sha256:i1"]["local"] = False
    (tmp_path / "adopted.json").write_text(json.dumps(adopted))


def test_what_a_registry_has_is_completed_while_the_kubelet_collects_no_image(
    adopted, program, tmp_path
):
    program("ctr", ctr(tmp_path))
    from_a_registry(adopted, tmp_path)
    result = run(reserve_bytes=6)
    assert not result["changed"] and result["waiting"] == []
    (warning,) = result["warnings"]
    assert "a:1" in warning and "15 %" in warning and "carry_images_reserve_bytes" in warning
    assert result["remaining"][0]["names"] == ["a:1"]
    assert json.loads((tmp_path / "adopted.json").read_text()) == adopted
    result = run(reserve_bytes=5)
    assert result["changed"] and result["remaining"] == [] and "warnings" not in result


def test_what_no_registry_has_is_completed_all_the_same(adopted, program, tmp_path):
    program("ctr", ctr(tmp_path))
    result = run(reserve_bytes=155)
    assert result["changed"] and "warnings" not in result


def test_a_build_completes_its_bases(adopted, program, tmp_path, monkeypatch):
    program("ctr", ctr(tmp_path))
    monkeypatch.setattr(lock, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(paths, "STATE_DIR", str(tmp_path))
    monkeypatch.setattr(blobs, "RESERVE_BYTES", 0)
    report = progress.Progress(None)
    assert blobs.restore_bases({"sha256:other"}, report) == []
    assert not (tmp_path / "blobs").exists()
    assert blobs.restore_bases({"m1"}, report) == ["a:1"]
    assert (tmp_path / "blobs").read_text() == "sha256:d1\n"


def test_where_nothing_was_adopted_nothing_is_asked(program, monkeypatch, tmp_path):
    monkeypatch.setattr(adopter, "RECORD", str(tmp_path / "none"))
    program("ctr", "exit 1")
    assert not run()["changed"]

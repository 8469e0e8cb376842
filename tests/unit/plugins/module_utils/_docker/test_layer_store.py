# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import gzip
import os

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._docker import layer_store
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands


@pytest.fixture
def layer(tmp_path):
    """A directory with some of what layers have; what only root can make is in molecule/images."""
    top = tmp_path / "diff"
    (top / "etc/cron.d").mkdir(parents=True)
    (top / "etc/cron.d/job").write_text("* * * * * root true\n")
    (top / "etc/passwd").write_text("root\n")
    (top / "etc/passwd").chmod(0o4711)
    os.link(top / "etc/passwd", top / "etc/twin")
    os.symlink("../nowhere", top / "etc/link")
    os.mkfifo(top / "etc/fifo")
    os.makedirs(os.fsencode(top) + b"/odd \xff\n")
    (top / "etc").chmod(0o2751)
    for path in ("etc/cron.d/job", "etc/cron.d", "etc", "."):
        os.utime(top / path, ns=(1_000_000_001, 1_234_567_890_123_456_789))
    return top


def facts(path):
    found = os.lstat(path)
    return (found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns)


def test_a_linked_layer_is_the_same(layer, tmp_path):
    target = tmp_path / "target"
    layer_store.link_layer(str(layer), str(target))
    names = sorted(os.fsencode(p).removeprefix(os.fsencode(layer)) for p in layer.rglob("*"))
    assert names == sorted(
        os.fsencode(p).removeprefix(os.fsencode(target)) for p in target.rglob("*")
    )
    for name in [b"", *names]:
        assert facts(os.fsencode(layer) + name) == facts(os.fsencode(target) + name), name
    assert os.stat(target / "etc/passwd").st_ino == os.stat(layer / "etc/twin").st_ino


def test_a_crontab_keeps_its_one_link(layer, tmp_path):
    layer_store.link_layer(str(layer), str(tmp_path / "target"))
    for top in (layer, tmp_path / "target"):
        assert os.stat(top / "etc/cron.d/job").st_nlink == 1
        assert (top / "etc/cron.d/job").read_text() == "* * * * * root true\n"


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_a_link_that_cannot_be_made_is_refused_and_leaves_nothing(
    layer, tmp_path, monkeypatch, number
):
    def no_link(name, *args, **kwargs):
        raise OSError(number, os.strerror(number), name)

    monkeypatch.setattr(os, "link", no_link)
    with pytest.raises(layer_store.Refused, match=os.strerror(number)):
        layer_store.link_layer(str(layer), str(tmp_path / "target"))
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("path", ["etc", "etc/passwd"])
def test_what_points_into_another_layer_is_refused(layer, tmp_path, monkeypatch, path):
    real = os.listxattr
    inode = os.stat(layer / path).st_ino

    def with_redirect(where, **kwargs):
        if os.stat(where).st_ino == inode:
            return ["trusted.overlay.redirect"]
        return real(where, **kwargs)

    monkeypatch.setattr(os, "listxattr", with_redirect)
    with pytest.raises(layer_store.Refused, match=r"etc.*trusted\.overlay\.redirect"):
        layer_store.link_layer(str(layer), str(tmp_path / "target"))


def test_a_layer_that_goes_away_has_vanished(tmp_path):
    with pytest.raises(layer_store.Vanished):
        layer_store.link_layer(str(tmp_path / "nowhere"), str(tmp_path / "target"))
    with pytest.raises(layer_store.Vanished):
        layer_store.Layer(str(tmp_path), "sha256:1", "sha256:1", "")


def test_a_file_that_became_shorter_is_noticed(tmp_path):
    (tmp_path / "f").write_bytes(b"12")
    with gzip.open(tmp_path / "split.gz", "wb") as stream:
        stream.write(b'{"type":1,"name":"./f","size":3,"payload":"AAAA","position":0}\n')
    with pytest.raises(commands.NodeError, match="1 bytes shorter"):
        list(layer_store.tar_stream(str(tmp_path / "split.gz"), str(tmp_path)))
    (tmp_path / "f").write_bytes(b"123")
    assert list(layer_store.tar_stream(str(tmp_path / "split.gz"), str(tmp_path))) == [b"123"]


@pytest.mark.parametrize("left", [b"", gzip.compress(b'{"type":2,"payload":"Wg=="}\n' * 9)[:-9]])
def test_a_damaged_record_of_a_tar_stream_is_named(tmp_path, left):
    record = tmp_path / "image/overlay2/layerdb/sha256/1"
    record.mkdir(parents=True)
    (record / "cache-id").write_text("x")
    (record / "tar-split.json.gz").write_bytes(left)
    layer = layer_store.Layer(str(tmp_path), "sha256:1", "sha256:1", "")
    with pytest.raises(layer_store.Refused, match=r"damaged.*tar-split.json.gz"):
        layer.stream_size()
    if left:
        with pytest.raises(commands.NodeError, match=r"tar-split.json.gz, is damaged"):
            list(layer_store.tar_stream(layer.tar_split, str(tmp_path)))


def test_a_record_that_cannot_be_read_is_no_layer_that_docker_removed(tmp_path):
    record = tmp_path / "image/overlay2/layerdb/sha256/1"
    record.mkdir(parents=True)
    for make in ((record / "cache-id").touch, (record / "cache-id").mkdir):
        make()
        with pytest.raises(layer_store.Refused, match="layer sha256:1 is damaged .*cache-id"):
            layer_store.Layer(str(tmp_path), "sha256:1", "sha256:1", "")
        if (record / "cache-id").is_file():
            (record / "cache-id").unlink()

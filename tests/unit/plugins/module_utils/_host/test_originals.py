# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import os
import tarfile

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.homelab.containerd.plugins.filter import containerd_config, kubelet_config
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    files,
    originals,
    paths,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.modules import keep_original
from support import SETTINGS

CRICTL = "/etc/crictl.yaml"


def kept(host):
    return host.read_text(originals.original(CRICTL))


def test_the_first_one_is_kept_with_its_mode(tmp_path):
    host = Host(str(tmp_path))
    host.write_text(CRICTL, "the owner's", mode=0o600)
    originals.keep(host, CRICTL)
    host.write_text(CRICTL, "ours", mode=0o644)
    originals.keep(host, CRICTL)
    assert kept(host) == "the owner's"
    assert os.stat(host.path(originals.original(CRICTL))).st_mode & 0o777 == 0o600
    assert os.stat(host.path(paths.ORIGINALS)).st_mode & 0o777 == 0o700


def test_a_file_that_only_we_have_written_is_never_taken_for_the_owners(tmp_path):
    host = Host(str(tmp_path))
    originals.keep(host, CRICTL)
    host.write_text(CRICTL, "ours")
    originals.keep(host, CRICTL)
    assert kept(host) is None and originals.is_kept(host, CRICTL)


def test_what_a_link_leads_to_is_kept(tmp_path):
    host = Host(str(tmp_path))
    host.write_text("/srv/crictl.yaml", "the owner's")
    os.makedirs(host.path("/etc"))
    os.symlink(host.path("/srv/crictl.yaml"), host.path(CRICTL))
    originals.keep(host, CRICTL)
    assert kept(host) == "the owner's"


def test_a_file_that_we_wrote_before_is_not_the_owners(tmp_path):
    """An earlier release did, or the state directory was removed since."""
    host = Host(str(tmp_path))
    ours = {
        paths.CONTAINERD_CONFIG: containerd_config.containerd_config("version = 2\n", SETTINGS),
        "/var/lib/kubelet/config.yaml": kubelet_config.kubelet_config(
            "kind: KubeletConfiguration\n", {"containerLogMaxFiles": 3}, []
        ),
    }
    for path, text in ours.items():
        host.write_text(path, text)
        originals.keep(host, path)
        assert not originals.is_kept(host, path)
        assert originals.missing(host, [path]) == []
        assert not originals.restore(host, path)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_the_original_can_be_put_back_as_it_was(tmp_path):
    host = Host(str(tmp_path))
    path = tmp_path / "etc/crictl.yaml"
    path.parent.mkdir()
    path.write_bytes(b"the owner's \xff")
    os.chmod(path, 0o640)
    os.chown(path, 12, 34)
    os.utime(path, (1e9, 1e9))
    before = path.stat()
    originals.keep(host, CRICTL)
    path.unlink()
    host.write_text(CRICTL, "ours")
    assert originals.restore(host, CRICTL)
    after = path.stat()
    assert path.read_bytes() == b"the owner's \xff"
    for key in ("st_mode", "st_uid", "st_gid", "st_mtime"):
        assert getattr(after, key) == getattr(before, key), key
    assert originals.is_kept(host, CRICTL)


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    """Then there is no copy, no half of one, and an error that says that nothing was changed."""

    def full(_source, target):
        with open(target, "w", encoding="utf-8") as stream:
            stream.write("half")
        raise OSError(28, "No space left on device")

    host = Host(str(tmp_path))
    host.write_text(CRICTL, "the owner's")
    monkeypatch.setattr(files.shutil, "copyfile", full)
    with pytest.raises(commands.NodeError, match=r"/etc/crictl.yaml: .*No space left.*not changed"):
        originals.keep(host, CRICTL)
    assert [found for _dir, _dirs, found in os.walk(host.path(paths.ORIGINALS)) if found] == []
    monkeypatch.undo()
    originals.keep(host, CRICTL)
    assert kept(host) == "the owner's"


def run_module(options, capsys):
    """The module's result, by its own main()."""
    with patch_module_args(options), pytest.raises(SystemExit):
        keep_original.main()
    return json.loads(capsys.readouterr().out)


def test_what_an_archive_would_replace_is_kept(tmp_path, capsys):
    archive, destination = tmp_path / "a.tar.gz", tmp_path / "local"
    with tarfile.open(archive, "w:gz") as stream:
        for name in ("bin/containerd", "./bin/ctr"):
            stream.addfile(tarfile.TarInfo(name), io.BytesIO())
        directory = tarfile.TarInfo("bin")
        directory.type = tarfile.DIRTYPE
        stream.addfile(directory)
    (destination / "bin").mkdir(parents=True)
    (destination / "bin/ctr").write_text("the owner's")
    options = {
        "archive": str(archive),
        "destination": str(destination),
        "directory": str(tmp_path / "kept"),
    }
    check = run_module(dict(options, _ansible_check_mode=True), capsys)
    assert check["changed"] and not (tmp_path / "kept").exists()
    assert run_module(options, capsys)["kept"] == [
        str(destination / "bin/containerd"),
        str(destination / "bin/ctr"),
    ]
    copy = tmp_path / "kept" / str(destination)[1:] / "bin/ctr"
    assert copy.read_text() == "the owner's"
    assert run_module(options, capsys)["changed"] is False

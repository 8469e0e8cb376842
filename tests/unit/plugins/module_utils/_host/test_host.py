# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import http.server
import os
import stat
import threading

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import client
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    files,
    mounts,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from support import RECORDED


def test_a_failure_has_the_command_its_status_and_what_it_printed():
    with pytest.raises(
        commands.NodeError, match=r"^sh -c echo why >&2; exit 3: exit status 3: why$"
    ):
        commands.run(["sh", "-c", "echo why >&2; exit 3"])


def test_a_command_that_does_not_exist():
    with pytest.raises(commands.NodeError, match="no-such-command"):
        commands.run(["no-such-command"])
    assert commands.run(["no-such-command"], check=False).returncode == 127


def test_a_command_that_takes_too_long():
    with pytest.raises(commands.NodeError, match="timed out"):
        commands.run(["sleep", "5"], timeout=0.05)


def test_output_that_is_not_utf_8():
    assert commands.run(["printf", r"a\377b"]).stdout == "a\N{REPLACEMENT CHARACTER}b"


def test_read_text(tmp_path):
    assert files.read_text(str(tmp_path / "missing")) is None
    (tmp_path / "file").write_bytes(b"a\xff")
    assert files.read_text(str(tmp_path / "file")) == "a\N{REPLACEMENT CHARACTER}"


def test_write_text_makes_the_directory_and_keeps_the_mode(tmp_path):
    path = tmp_path / "new/file"
    files.write_text(str(path), "1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    path.chmod(0o600)
    files.write_text(str(path), "2")
    assert path.read_text() == "2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    files.write_text(str(path), "3", mode=0o640)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_text(str(path), "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_containerd_images(program):
    listed = RECORDED / "containerd-1.6.20/images-list.txt"
    program("ctr", 'test "$*" = "-n k8s.io images list" && cat "%s"' % listed)
    found = client.containerd_images()
    assert len(found) == len(listed.read_text().splitlines()) - 1
    assert found["docker.io/home/local-only:1"] == {
        "digest": "sha256:be2dc06588df48f7aa5ff3aad7832d74ebe7784c2a514b52f577e9fceaed2e70",
        "labels": ["io.cri-containerd.image=managed", "io.cri-containerd.pinned=pinned"],
    }
    assert found["registry.lab:5000/base:1"]["labels"] == ["io.cri-containerd.image=managed"]


def test_what_is_there_and_cannot_be_read(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    assert files.read(str(tmp_path / "none")) == (None, None)
    text, why = files.read(str(tmp_path))
    assert text is None and why == "it cannot be opened: Is a directory"
    assert files.read(str(tmp_path / "link"))[1] == "it cannot be opened: No such file or directory"


def test_disk_facts_of_what_is_not_there_yet(tmp_path):
    found = mounts.disk_facts(str(tmp_path / "a/b"))
    assert found["device"] == tmp_path.stat().st_dev
    assert 0 < found["free_bytes"] <= found["total_bytes"]


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 500)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_server_of_this_machine():
    with http.server.HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        port = server.server_port
        assert Host().http_get(port, "/healthz") == (200, "ok")
        assert Host().http_get(port, "/other") == (500, "ok")
        server.shutdown()
    status, why = Host().http_get(port, "/healthz")
    assert status is None and "refused" in why

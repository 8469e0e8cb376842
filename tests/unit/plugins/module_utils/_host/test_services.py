# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service that has not read its files, found by a real process and the times of real files."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import config
from ansible_collections.homelab.containerd.plugins.module_utils._host import paths, services
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host

#: Recorded paths are of this directory in the tests.
UNIT = "containerd.service"


@pytest.fixture
def service(tmp_path, program, recorded, monkeypatch):
    """Starts the service: a process whose systemctl show is the recorded one, below tmp_path."""
    monkeypatch.setattr(services, "UNIT_DIRS", [str(tmp_path / "etc/systemd/system")])
    monkeypatch.setattr(paths, "CONTAINERD_CONFIG", str(tmp_path / "etc/containerd/config.toml"))
    shown = recorded("systemd-252/show-containerd.txt")
    for path in ("usr/bin/containerd", "lib/systemd/system/containerd.service"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    for path in ("environment", "config.toml", "conf.d/mine.toml"):
        (tmp_path / "etc/containerd" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "etc/containerd" / path).write_text('imports = ["conf.d/*.toml"]\n')
    drop_ins = tmp_path / "etc/systemd/system/containerd.service.d"
    drop_ins.mkdir(parents=True)
    (drop_ins / "homelab-containerd.conf").write_text("")
    (drop_ins / "older.conf").write_text("")
    started = []

    def start():
        # A tick of the kernel's clock is 10 ms.
        time.sleep(0.03)
        started.append(subprocess.Popen(["sleep", "600"]))
        lines = shown.replace("=/", "=%s/" % tmp_path).replace(" /", " %s/" % tmp_path)
        lines = "MainPID=%d\n" % started[-1].pid + lines.partition("\n")[2]
        (tmp_path / "shown").write_text(lines)
        time.sleep(0.03)

    program("systemctl", "cat %s" % (tmp_path / "shown"))
    (tmp_path / "shown").write_text("MainPID=0\n")
    yield start
    for process in started:
        process.kill()
        process.wait()


def newer(tmp_path):
    found = config.newer_files(Host())
    return [os.path.relpath(path, tmp_path) for path in found]


@pytest.mark.parametrize(
    "path",
    [
        "etc/containerd/config.toml",
        "etc/containerd/conf.d/mine.toml",
        "etc/containerd/environment",
        "usr/bin/containerd",
        "lib/systemd/system/containerd.service",
        "etc/systemd/system/containerd.service.d/homelab-containerd.conf",
    ],
)
def test_a_file_that_is_written_after_the_start(tmp_path, service, path):
    service()
    assert newer(tmp_path) == []
    (tmp_path / path).write_text("changed")
    # As tar and packages do: the time of the release.
    os.utime(tmp_path / path, (1e9, 1e9))
    assert newer(tmp_path) == [path]
    service()
    assert newer(tmp_path) == []


@pytest.mark.parametrize(
    "path",
    ["etc/containerd/conf.d/mine.toml", "etc/systemd/system/containerd.service.d/older.conf"],
)
def test_a_file_that_is_removed_after_the_start(tmp_path, service, path):
    service()
    (tmp_path / path).unlink()
    assert newer(tmp_path) == [os.path.dirname(path)]
    service()
    assert newer(tmp_path) == []


def test_what_is_read_at_each_pull_needs_no_restart(tmp_path, service):
    service()
    (tmp_path / "etc/containerd/certs.d/docker.io").mkdir(parents=True)
    (tmp_path / "etc/containerd/certs.d/docker.io/hosts.toml").write_text("x")
    assert newer(tmp_path) == []


def test_a_clock_that_was_set_since(tmp_path, service, monkeypatch):
    """The process is as old as before, and so are the files."""
    service()
    now = time.time
    monkeypatch.setattr(Host, "time", lambda _self: now())
    before = services.started(Host(), os.getpid())
    monkeypatch.setattr(Host, "time", lambda _self: now() + 3600)
    assert before is not None
    assert services.started(Host(), os.getpid()) == pytest.approx(before + 3600, abs=1)


def test_a_clock_that_was_set_back(tmp_path, service, monkeypatch):
    """No restart would make the process newer than a file whose time is still to come."""
    now = time.time
    service()
    (tmp_path / "etc/containerd/config.toml").write_text("changed")
    monkeypatch.setattr(Host, "time", lambda _self: now() - 3600)
    assert newer(tmp_path) == []
    # Later, when that time has come, one restart is enough.
    monkeypatch.setattr(Host, "time", lambda _self: now())
    assert newer(tmp_path) == ["etc/containerd/config.toml"]
    service()
    assert newer(tmp_path) == []


def test_a_service_that_does_not_run_reads_its_files_when_it_starts(tmp_path, service):
    assert newer(tmp_path) == []

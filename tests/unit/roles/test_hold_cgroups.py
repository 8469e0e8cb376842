# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On cgroup v1, processes that systemd has moved are back in their container's cgroup."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest
from support import ROOT

SCRIPT = ROOT / "roles/containerd/files/hold-cgroups.sh"
SYSTEMD, DEVICES = (pathlib.Path("/sys/fs/cgroup") / name for name in ("systemd", "devices"))


@pytest.fixture
def slice_name():
    """A cgroup of the test's own, as the node's would be; gone afterwards."""
    name = "hc-unit-%d.slice" % os.getpid()
    try:
        for hierarchy in (SYSTEMD, DEVICES):
            (hierarchy / name).mkdir()
    except OSError as exc:
        pytest.skip("no cgroup v1 to write to: %s" % exc)
    yield name
    for hierarchy in (SYSTEMD, DEVICES):
        for directory, _inner, _files in os.walk(hierarchy / name, topdown=False):
            os.rmdir(directory)


def devices_of(process):
    text = pathlib.Path("/proc/%d/cgroup" % process.pid).read_text()
    return next(line.partition(":devices:")[2] for line in text.split("\n") if ":devices:" in line)


def test_processes_are_put_back_and_others_are_left_alone(slice_name, tmp_path):
    scope = "%s/docker-%s.scope" % (slice_name, "0a" * 32)
    inner, session = scope + "/inner", slice_name + "/session-1.scope"
    # Where systemd has it, and where it was moved to in the hierarchy of the devices.
    placed = {scope: slice_name, inner: slice_name, session: slice_name}
    processes = {}
    try:
        for own, moved in placed.items():
            (SYSTEMD / own).mkdir()
            process = processes[own] = subprocess.Popen(["sleep", "600"])
            (SYSTEMD / own / "cgroup.procs").write_text("%d" % process.pid)
            (DEVICES / moved / "cgroup.procs").write_text("%d" % process.pid)
        # Only the test's own part of the machine.
        text = SCRIPT.read_text()
        assert text.count("find $systemd ") == 1
        copy = tmp_path / "hold-cgroups.sh"
        copy.write_text(text.replace("find $systemd ", "find $systemd/%s " % slice_name))
        for _again in range(2):
            done = subprocess.run(["sh", copy], capture_output=True, text=True, check=True)
            assert done.stderr == ""
            assert devices_of(processes[scope]) == "/" + scope
            assert devices_of(processes[inner]) == "/" + scope
            assert devices_of(processes[session]) == "/" + slice_name
        # The second time there is nothing to do.
        assert done.stdout == ""
    finally:
        for process in processes.values():
            process.kill()
            process.wait()

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node's lock between real processes."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, lock
from ansible_collections.homelab.containerd.plugins.modules import node_job
from support import ROOT

HOLDER = """
import sys, time
from ansible_collections.homelab.containerd.plugins.module_utils._host import lock
lock.LOCK = sys.argv[1]
try:
    with lock.held(sys.argv[2], "anna@laptop", "/run/progress"):
        print("held", flush=True)
        time.sleep(float(sys.argv[3]))
except lock.Held as exc:
    print("refused", flush=True)
"""


class Holders:
    """Processes that try to take the lock."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, kind: str = "carry_images", seconds: float = 60) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, lock.LOCK, kind, str(seconds)],
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=dict(os.environ, PYTHONPATH=str(ROOT / ".collections")),
        )
        self.processes.append(process)
        return process

    def said(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout
        return process.stdout.readline().strip()


@pytest.fixture
def holders(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LOCK", str(tmp_path / "state/lock"))
    started = Holders()
    yield started
    for process in started.processes:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def test_one_of_many_gets_it(holders):
    processes = [holders.start() for _holder in range(6)]
    assert sorted(map(holders.said, processes)) == ["held"] + 5 * ["refused"]


def test_the_refused_learns_who_holds_it(holders):
    process = holders.start("switch_runtime to docker")
    assert holders.said(process) == "held"
    expected = (
        r"switch_runtime to docker, started by anna@laptop, since [-0-9]+ [:0-9]+ UTC "
        r"\(\d+ s ago, process %d\)\. This one has changed nothing\. Wait" % process.pid
    )
    with pytest.raises(commands.NodeError, match=expected), lock.held("carry_images"):
        pass
    found = lock.holder()
    assert found and found["pid"] == process.pid and found["progress_file"] == "/run/progress"
    assert found["process_start"] == lock.process_start(process.pid)


def test_a_killed_process_holds_nothing(holders):
    process = holders.start()
    assert holders.said(process) == "held"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads(pathlib.Path(lock.LOCK).read_text())["pid"] == process.pid
    assert lock.holder() is None
    assert holders.said(holders.start(seconds=0)) == "held"


def test_one_that_ended_holds_nothing(holders):
    process = holders.start(seconds=0)
    process.wait()
    assert lock.holder() is None
    with lock.held("carry_images"):
        pass


def test_what_it_starts_does_not_hold_it(holders):
    with lock.held("carry_images"):
        child = subprocess.Popen(["sleep", "60"])
    try:
        assert holders.said(holders.start(seconds=0)) == "held"
    finally:
        child.kill()
        child.wait()


def test_the_record_of_an_earlier_holder_is_not_this_ones(holders, monkeypatch):
    process = holders.start()
    assert holders.said(process) == "held"
    monkeypatch.setattr(lock, "RECORD_SECONDS", 0.1)
    path = pathlib.Path(lock.LOCK)
    record = json.loads(path.read_text())
    for text in (json.dumps(dict(record, process_start=1)), path.read_text()[:20], "[]", ""):
        path.write_text(text)
        with pytest.raises(lock.Held, match="is not readable") as caught:
            lock.holder()
        assert caught.value.job is None


def test_who_looks_keeps_nobody_from_taking_it(holders):
    lookers = [holders.start(seconds=0)]
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        lock.holder()
        if lookers[-1].poll() is not None:
            assert holders.said(lookers[-1]) == "held"
            lookers.append(holders.start(seconds=0))


def test_what_runs_beside_some_jobs(holders):
    lock.refuse_beside()
    assert holders.said(holders.start("switch_runtime to docker")) == "held"
    lock.refuse_beside("carry_images")
    for modules in ((), ("switch_runtime",)):
        with pytest.raises(lock.Held, match="switch_runtime to docker"):
            lock.refuse_beside(*modules)


def full(*_arguments, **_more):
    raise OSError(28, "No space left on device")


def test_a_record_that_cannot_be_written_stops_nothing(holders, monkeypatch):
    monkeypatch.setattr(os, "pwrite", full)
    with lock.held("carry_images"):
        pass


def test_a_lock_that_cannot_be_opened(holders, monkeypatch):
    pathlib.Path(lock.LOCK).parent.write_text("no directory")
    with (
        pytest.raises(commands.NodeError, match=re.escape("Nothing was changed")),
        lock.held("carry_images"),
    ):
        pass


def test_the_start_of_a_process_whose_name_is_odd(tmp_path):
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to("/bin/sleep")
    plain = subprocess.Popen(["sleep", "60"])
    process = subprocess.Popen([str(odd), "60"])
    try:
        while ")" not in pathlib.Path("/proc/%d/comm" % process.pid).read_text():
            time.sleep(0.01)
        first, second = lock.process_start(plain.pid), lock.process_start(process.pid)
        assert first is not None and second is not None and 0 <= second - first < 1000
    finally:
        for one in (plain, process):
            one.kill()
            one.wait()
    assert lock.process_start(process.pid) is None


def test_each_module_that_changes_a_node_takes_the_lock():
    taken, changing = set(), set()
    for path in (ROOT / "plugins/modules").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "- homelab.containerd.detached" in text:
            changing.add(path.stem)
        if re.search(r"^ +holds=|, holds=", text, re.MULTILINE):
            taken.add(path.stem)
    # Builds run beside one another and beside all but a switch.
    assert changing - taken == {"build"} and taken <= changing
    kinds = {kind.split()[0] for kind in node_job.KINDS}
    assert kinds == taken, "node_job can attach to each of them"


@pytest.mark.parametrize(
    "tasks",
    [
        "roles/containerd/tasks/run.yml",
        "playbooks/migrate.yml",
        "roles/retire_docker/tasks/run.yml",
        "playbooks/rollback.yml",
        "roles/containerd/handlers/main.yml",
    ],
)
def test_tasks_that_change_a_node_look_for_a_job_first(tasks):
    text = (ROOT / tasks).read_text(encoding="utf-8")
    modules = re.findall(r"^ +(?:homelab\.containerd|ansible\.builtin)\.(\w+):", text, re.MULTILINE)
    assert next(name for name in modules if name != "import_playbook") == "node_job"

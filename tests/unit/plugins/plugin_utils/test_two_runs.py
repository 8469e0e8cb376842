# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of ansible-playbook that meet on a node: this machine, with an empty /var/lib and /run."""

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
import yaml
from support import ROOT

#: Seconds: on a busy machine each ansible-playbook needs many to start.
PATIENCE = 200
MODULE = """#!/usr/bin/python
import os, time
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._host import progress

module = AnsibleModule(
    argument_spec={
        "to": {"type": "str", "required": True},
        "until": {"type": "path", "required": True},
        "progress_file": {"type": "path"},
        "started_by": {"type": "str"},
    }
)

def work():
    report = progress.Progress(module.params["progress_file"])
    report.say("working as %d" % os.getpid())
    deadline = time.monotonic() + 600  # in case nobody is left to end it
    while not os.path.exists(module.params["until"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    report.say("done")
    return {"changed": True, "worker": os.getpid()}

progress.finish(module, work, holds="switch_runtime to " + module.params["to"])
"""
ACTION = """
from ansible_collections.homelab.containerd.plugins.plugin_utils import detached_action

detached_action.STATUS_SECONDS = 2

class ActionModule(detached_action.DetachedAction):
    module = "slow_switch"
"""


class Runs:
    """Runs of a playbook with one task, in a mount namespace where /var/lib and /run are empty."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.processes: list[subprocess.Popen[str]] = []
        for folder, text in (("library", MODULE), ("action_plugins", ACTION)):
            (directory / folder).mkdir()
            (directory / folder / "slow_switch.py").write_text(text)
        empty = "mount -t tmpfs none /var/lib && mount -t tmpfs none /run && echo ready && read end"
        self.space = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", empty],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        assert self.space.stdout
        if self.space.stdout.readline() != "ready\n":
            pytest.skip("a mount namespace needs root")

    def start(self, module: str, **arguments: object) -> Run:
        run = Run(self, module, arguments)
        self.processes.append(run.process)
        return run

    def switch(self, to: str = "containerd") -> Run:
        return self.start("slow_switch", to=to, until=str(self.directory / "until"))

    def release(self) -> None:
        (self.directory / "until").touch()


class Run:
    def __init__(self, runs: Runs, module: str, arguments: dict[str, object]) -> None:
        name = "run%d" % len(runs.processes)
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [
                {module: arguments, "register": "result"},
                {"ansible.builtin.debug": {"msg": "RESULT {{ result | to_json }} END"}},
            ],
        }
        playbook = runs.directory / (name + ".yml")
        playbook.write_text(yaml.safe_dump([play]))
        self.log = runs.directory / (name + ".log")
        program = pathlib.Path(sys.executable).with_name("ansible-playbook")
        space = ["nsenter", "--mount=/proc/%d/ns/mnt" % runs.space.pid]
        words = [str(program), "-i", "localhost,", "-c", "local", str(playbook)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                space + words,
                env={
                    "PATH": os.environ["PATH"],
                    # Each with its own records of async jobs, as two users have them.
                    "HOME": str(runs.directory / name),
                    "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
                    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                    # Otherwise what goes to a file is seen at the end.
                    "PYTHONUNBUFFERED": "1",
                    "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
                    "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                encoding="utf-8",
            )

    @property
    def said(self) -> str:
        return " ".join(self.log.read_text().split())

    def wait_for(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = re.search(pattern, self.said)
            if found:
                return found
            assert self.process.poll() is None or re.search(pattern, self.said), self.said
            time.sleep(0.1)
        raise AssertionError(self.said)

    def result(self) -> dict[str, object]:
        assert self.process.wait(timeout=PATIENCE) == 0, self.said
        found = re.search(r"RESULT (.*) END", self.said)
        assert found, self.said
        result: dict[str, object] = json.loads(found.group(1).replace('\\"', '"'))
        return result


@pytest.fixture
def runs(tmp_path):
    made = Runs(tmp_path)
    yield made
    made.release()  # what still works on the node ends
    for process in made.processes:
        process.kill()
        process.wait()
    assert made.space.stdin and made.space.stdout
    made.space.stdin.close()
    made.space.wait()
    made.space.stdout.close()


def test_a_second_run_attaches_and_another_kind_is_refused(runs):
    first = runs.switch()
    worker = first.wait_for(r"working as (\d+)").group(1)
    second, other = runs.switch(), runs.switch("docker")
    refused = runs.start("homelab.containerd.node_job")
    second.wait_for("attached to a job that is running: switch_runtime to containerd, started by ")
    second.wait_for("working as " + worker)
    for run in (other, refused):
        assert run.process.wait(timeout=PATIENCE) == 2
        assert "switch_runtime to containerd, started by" in run.said
        assert "Wait until that job has ended" in run.said
    runs.release()
    assert first.result()["worker"] == second.result()["worker"] == int(worker)


def test_the_job_of_a_killed_run_is_attached_to_and_that_of_a_killed_module_done_again(runs):
    first = runs.switch()
    worker = int(first.wait_for(r"working as (\d+)").group(1))
    os.killpg(first.process.pid, signal.SIGKILL)
    second = runs.switch()
    waits = runs.start("homelab.containerd.node_job", attach=["switch_runtime to containerd"])
    for run in (second, waits):
        run.wait_for("attached to a job")
    os.kill(worker, signal.SIGKILL)
    second.wait_for("this run takes its place")
    runs.release()
    assert second.result()["worker"] != worker
    assert waits.result()["changed"] is False
    left = list(pathlib.Path("/proc/%d/root/run" % runs.space.pid).glob("homelab-containerd/*"))
    assert len(left) == 1  # the killed one's is removed

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import types

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.homelab.containerd.plugins.module_utils._host import lock
from ansible_collections.homelab.containerd.plugins.plugin_utils import detached_action


class Job(detached_action.DetachedAction):
    """The watching alone, over answers that a test gives."""

    module = "homelab.containerd.switch_runtime"

    def __init__(self, answers, states):
        self.answers = answers
        self.states = states
        self.asked = []
        self._task = types.SimpleNamespace(no_log=False)

    def _low_level_execute_command(self, command):
        self.asked.append(command)
        answer = self.answers.pop(0) if self.answers else ""
        if isinstance(answer, Exception):
            raise answer
        return {"stdout": answer, "rc": 0}

    def _status(self, record, mode, task_vars):
        assert record == "/a/17.1"
        return {} if mode == "cleanup" else self.states.pop(0)


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    lines = []
    monkeypatch.setattr(detached_action, "POLL_SECONDS", 0)
    monkeypatch.setattr(
        detached_action,
        "display",
        types.SimpleNamespace(
            display=lambda text, color: lines.append(text),
        ),
    )
    return lines


def watch(job):
    watched = detached_action.Watched("/run/x.jsonl", record="/a/17.1")
    return job._watch(watched, {"inventory_hostname": "machine1"})


def attach(job):
    watched = detached_action.Watched("/run/x.jsonl", process=(17, 4))
    return job._watch(watched, {"inventory_hostname": "machine1"})


END = '{"ended": true}\n'
DONE = {"finished": 1, "changed": True, "ansible_job_id": "17.1", "results_file": "/x"}


def test_each_line_is_shown_once_and_the_result_is_the_modules(shown):
    job = Job(['{"text": "one"}\n', '{"text": "two"}\n' + END], [DONE])
    assert watch(job) == {"changed": True}
    assert shown == ["    machine1  one", "    machine1  two"]
    assert job.asked == [
        "tail -n +1 /run/x.jsonl 2>/dev/null",
        "tail -n +2 /run/x.jsonl 2>/dev/null",
    ]


def test_a_line_that_is_half_written_is_read_again(shown):
    job = Job(['{"text": "one"}\n{"te', '{"text": "two"}\n' + END], [DONE])
    watch(job)
    assert shown == ["    machine1  one", "    machine1  two"]
    assert "+2" in job.asked[1]


def test_a_connection_that_drops_is_waited_for(shown):
    job = Job([AnsibleConnectionFailure("gone"), '{"text": "one"}\n' + END], [DONE])
    assert watch(job) == {"changed": True}
    assert shown[0].startswith("    machine1  does not answer, its job goes on: gone")
    assert shown[1] == "    machine1  one"


def test_a_connection_that_stays_away_is_an_error(monkeypatch):
    monkeypatch.setattr(detached_action, "UNREACHABLE_SECONDS", -1)
    with pytest.raises(AnsibleConnectionFailure, match="goes on there.*attaches.*gone"):
        watch(Job([AnsibleConnectionFailure("gone")], []))


def test_a_job_that_died_without_a_last_line_is_found(monkeypatch):
    monkeypatch.setattr(detached_action, "STATUS_SECONDS", 0)
    failed = dict(DONE, failed=True, msg="killed")
    assert watch(Job(["", ""], [{"finished": 0}, failed]))["msg"] == "killed"


class DeadJob(Job):
    def _alive(self, record, process):
        return False


def test_a_job_that_ended_between_two_questions_was_not_killed(monkeypatch):
    monkeypatch.setattr(detached_action, "STATUS_SECONDS", 0)
    assert watch(DeadJob(["", END], [{"finished": 0}, DONE])) == {"changed": True}


def test_a_job_without_a_process_and_without_an_end_was_killed(monkeypatch):
    monkeypatch.setattr(detached_action, "STATUS_SECONDS", 0)
    with pytest.raises(detached_action.Killed):
        watch(DeadJob([], [{"finished": 0}] * (detached_action.MISSED_POLLS_LIMIT + 1)))


RESULT = '{"ended": true, "result": {"changed": true, "delta": 3}}\n'


def test_the_result_is_in_the_progress_where_the_record_is_never_finished():
    job = Job([RESULT], [{"finished": 0}] * (detached_action.MISSED_POLLS_LIMIT + 1))
    assert watch(job) == {"changed": True, "delta": 3}


def test_who_is_attached_reads_the_result_and_no_record(shown):
    job = Job(['{"text": "one"}\n', RESULT], [])
    assert attach(job) == {"changed": True, "delta": 3}
    assert shown == ["    machine1  one"]


def test_who_is_attached_to_a_job_that_left_no_result_learns_it(monkeypatch):
    monkeypatch.setattr(detached_action, "STATUS_SECONDS", 0)
    with pytest.raises(detached_action.Killed):
        attach(DeadJob([], []))


def test_a_line_that_a_full_disk_cut_hides_no_other(shown):
    job = Job(['{"text": "one"}\n\n{"te\n{"text": "two"}\n' + END], [DONE])
    assert watch(job) == {"changed": True}
    assert shown == ["    machine1  one", "    machine1  two"]


def test_a_task_with_no_log_shows_nothing(shown):
    job = Job(['{"text": "one"}\n' + END], [DONE])
    job._task.no_log = True
    assert watch(job) == {"changed": True}
    assert shown == []


class Shell(detached_action.DetachedAction):
    """Its commands alone, in this machine's shell."""

    def __init__(self) -> None:
        pass

    def _low_level_execute_command(self, command):
        return {"rc": subprocess.run(["sh", "-c", command], check=False).returncode}


def test_a_process_is_known_by_its_number_and_its_start():
    process = subprocess.Popen(["sleep", "60"])
    start = lock.process_start(process.pid)
    assert start is not None
    try:
        assert Shell()._alive(None, (process.pid, start))
        assert not Shell()._alive(None, (process.pid, start - 1))
    finally:
        process.kill()
        process.wait()
    assert not Shell()._alive(None, (process.pid, start))


def test_a_job_that_has_said_nothing_yet_is_known_by_its_id():
    with subprocess.Popen(["sh", "-c", "read line", "j4711"], stdin=subprocess.PIPE) as process:
        assert Shell()._alive("/a/j4711.17", None)
        assert not Shell()._alive("/a/j4712.17", None)
        process.kill()
        process.wait()
    assert not Shell()._alive("/a/j4711.17", None)

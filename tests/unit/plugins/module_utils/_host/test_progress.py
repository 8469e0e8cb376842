# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Progress that informs and never stops the work, and how a watched module ends."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import types

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    lock,
    progress,
)


class Ended(BaseException):
    """exit_json or fail_json."""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LOCK", str(tmp_path / "lock"))

    def end(failed):
        def ended(**result):
            raise Ended(dict(result, failed=failed))

        return ended

    return types.SimpleNamespace(
        check_mode=False,
        params={"progress_file": str(tmp_path / "run/job-1.jsonl"), "started_by": "anna@laptop"},
        exit_json=end(False),
        fail_json=end(True),
    )


def finish(module, work, *failures, holds="job"):
    with pytest.raises(Ended) as ended:
        progress.finish(module, work, *failures, holds=holds)
    return ended.value.args[0]


def lines(path):
    return [json.loads(text) for text in pathlib.Path(path).read_text().splitlines() if text]


def test_the_last_line_has_the_result(module):
    def work():
        progress.Progress(module.params["progress_file"]).say("one")
        held = lock.holder()
        assert held and held["kind"] == "job" and held["started_by"] == "anna@laptop"
        return {"changed": True}

    result = finish(module, work)
    assert result["changed"] and result["delta"] >= 0 and not result["failed"]
    first, said, last = lines(module.params["progress_file"])
    assert "text" not in first and said["text"] == "one" and said["time"] > 0
    assert first["pid"] == os.getpid()
    assert first["process_start"] == lock.process_start(os.getpid())
    assert last["ended"] and last["result"] == {"changed": True, "delta": result["delta"]}
    assert pathlib.Path(module.params["progress_file"]).stat().st_mode & 0o777 == 0o600


class Mine(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (commands.NodeError("no disk"), {"msg": "no disk"}),
        (Mine("mine"), {"msg": "mine"}),
        (progress.Failed("back", rolled_back=True), {"msg": "back", "rolled_back": True}),
    ],
)
def test_a_failure_is_told_with_what_belongs_to_it(module, error, expected):
    def work():
        raise error

    result = finish(module, work, Mine)
    assert result.pop("failed") and result.pop("delta") >= 0 and result == expected
    last = lines(module.params["progress_file"])[-1]["result"]
    assert last["failed"] and expected.items() <= last.items()


@pytest.mark.parametrize("error", [KeyError("key"), SystemExit(1)])
def test_a_fault_of_ours_ends_it_for_others_too(module, error):
    def work():
        raise error

    with pytest.raises(type(error)):
        progress.finish(module, work, holds="job")
    assert lines(module.params["progress_file"])[-1]["result"]["failed"]


def test_a_second_job_attaches_or_is_refused(module):
    def work():
        first = dict(module.params)
        module.params["progress_file"] += "2"
        same = finish(module, lambda: pytest.fail("it ran"))
        assert same["attach"]["progress_file"] == first["progress_file"] and not same["changed"]
        other = finish(module, lambda: pytest.fail("it ran"), holds="other")
        assert other["failed"] and "job, started by anna@laptop" in other["msg"]
        # Without a lock, and in check mode.
        assert finish(module, lambda: {"changed": True}, holds=None)["changed"]
        module.check_mode = True
        assert finish(module, lambda: {"changed": True}, holds="other")["changed"]
        module.check_mode, module.params = False, first
        return {"changed": True}

    assert finish(module, work)["changed"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB, in memory as /run is."""
    place = tmp_path / "run"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=8", "tmpfs", str(place)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    yield place
    # The processes of this test may still have a file of it open.
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place):
    with (place / "filler").open("wb", buffering=0) as stream, pytest.raises(OSError):
        while True:
            stream.write(bytes(4096))


def test_a_full_disk_stops_nothing(module, small_disk):
    report = progress.Progress(module.params["progress_file"])

    def work():
        report.say("one")
        fill(small_disk)
        for number in range(100):
            report.say("lost %d, %s" % (number, 300 * "x"))
        return {"changed": True}

    assert finish(module, work)["changed"]
    (small_disk / "filler").unlink()
    report.say("there is room again")
    texts = pathlib.Path(module.params["progress_file"]).read_text().splitlines()
    assert json.loads(texts[-1])["text"] == "there is room again"


@pytest.mark.parametrize("what", ["blocks", "inodes"])
def test_a_disk_that_is_full_at_the_start(module, small_disk, what):
    if what == "blocks":
        fill(small_disk)
    else:
        with pytest.raises(OSError):
            for number in range(100):
                (small_disk / str(number)).touch()
    assert finish(module, lambda: {"changed": True})["changed"]


def test_a_line_that_was_cut_takes_no_other_with_it(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"text": "cut of')
    progress.Progress(str(path)).say("whole")
    assert json.loads(path.read_text().splitlines()[-1])["text"] == "whole"


def test_files_of_runs_that_have_ended_are_removed(module, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "job-killed.jsonl").touch()
    (run / "other-1.jsonl").touch()
    (run / "job-1.secrets").touch()
    running = run / "job-running.jsonl"
    code = "import sys, fcntl; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_SH)"
    code += "; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        ["python3", "-c", code, str(running)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        finish(module, lambda: {"changed": False})
        names = sorted(path.name for path in run.iterdir())
        assert names == ["job-1.jsonl", "job-1.secrets", "job-running.jsonl", "other-1.jsonl"]
        process.kill()
    module.params["progress_file"] = str(run / "job-2.jsonl")
    finish(module, lambda: {"changed": False})
    assert not running.exists()


def test_nobody_watches():
    progress.Progress(None).begin()
    progress.Progress(None).say("to nobody")
    progress.Progress(None).end(None)

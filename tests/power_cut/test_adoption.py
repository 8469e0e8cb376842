# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The power is cut while docker's images are adopted. The same command again has to finish it.

One run on a disk that records its writes gives as many cuts as wanted. After each, what containerd
says is committed has to be whole, before anything is run again.
"""

from __future__ import annotations

import json
import pathlib
import random
import shutil
import subprocess
import sys
import typing as t

import disk
import pytest

INSIDE = pathlib.Path(__file__).with_name("inside.py")
SIZE = 2 << 30


def node(path: pathlib.Path, *steps: str) -> dict[str, t.Any]:
    """Run steps on a node whose docker and containerd keep their data on a disk."""
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with disk.attached(path) as device:
        done = subprocess.run(
            [*words, sys.executable, str(INSIDE), device, *steps],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith('["')]
    return dict(json.loads(line) for line in lines)


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
    disk.run("cp", "--sparse=always", source, target)


def problems(found: dict[str, t.Any]) -> list[str]:
    """What is wrong after a cut and the same command again."""
    wrong = ["committed, but " + text for text in found["broken"]]
    for step in ("carry", "carry again", "compare", "restore"):
        if found[step].get("failed"):
            wrong.append("%s failed: %s" % (step, found[step]["msg"][-600:]))
    if found["carry again"].get("changed"):
        wrong.append("a second run changed something")
    wrong += ["incomplete: " + line for line in found["incomplete"]]
    return wrong + ["left over: " + name for name in found["left over"]]


class Trial:
    """A run that was recorded on a file system, and what power cuts leave of it."""

    def __init__(self, file_system: str, directory: pathlib.Path, seed: int) -> None:
        if not shutil.which("mkfs." + file_system):
            pytest.skip("mkfs.%s is not installed" % file_system)
        self.file_system, self.seed = file_system, seed
        self.chance = random.Random(seed)
        self.before, self.work, self.record = (
            directory / name for name in ("before", "work", "record")
        )

    def run(self, step: str) -> None:
        disk.make(self.file_system, self.before, SIZE)
        node(self.before, "load")
        copy(self.before, self.work)
        with disk.recorded(self.work, self.record) as shown:
            # With the start of the daemons: a cut may come at any moment of a node's life.
            first = node(shown, step)[step]
        assert first.get("changed") and first["method"] == "adopt", first
        self.writes = disk.read(self.record)
        print(f"\n{self.file_system}, {step}: seed {self.seed}, {len(self.writes)} writes")

    def cut(self, end: int, fate: str) -> dict[str, t.Any]:
        """The results of the steps after a power cut before a write."""
        copy(self.before, self.work)
        disk.cut(self.writes, end, fate, self.record, self.work, self.chance)
        steps = ("broken", "carry", "compare", "restore", "incomplete", "carry again", "left over")
        found = node(self.work, *steps)
        told = "; ".join(problems(found)) or "whole, and whole again after the same command"
        print(f"  before write {end}, unflushed writes {fate}: {told}", flush=True)
        return found


@pytest.fixture(params=("ext4", "xfs", "btrfs"))
def trial(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, pytestconfig: pytest.Config
) -> Trial:
    return Trial(request.param, tmp_path, pytestconfig.getoption("--seed"))


def test_nothing_is_lost_when_the_power_is_cut(trial: Trial, pytestconfig: pytest.Config) -> None:
    trial.run("carry")
    failures = []
    for number in range(pytestconfig.getoption("--cuts")):
        end = trial.chance.randrange(len(trial.writes) + 1)
        failures += problems(trial.cut(end, disk.FATES[number % len(disk.FATES)]))
    assert not failures


def test_what_was_lost_without_the_sync_is_carried_again(
    trial: Trial, pytestconfig: pytest.Config
) -> None:
    """It also shows that these tests see what is lost."""
    trial.run("carry without sync")
    failures, lost = [], 0
    for _number in range(max(2, pytestconfig.getoption("--cuts") // 4)):
        # While layers are committed.
        end = trial.chance.randrange(len(trial.writes) // 2, len(trial.writes) * 4 // 5)
        found = trial.cut(end, "lost")
        lost += len(found.pop("broken"))
        failures += problems(found | {"broken": []})
    assert lost
    assert not failures

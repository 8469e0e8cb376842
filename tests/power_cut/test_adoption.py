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

FILE_SYSTEMS = ("ext4", "xfs", "btrfs")
INSIDE = pathlib.Path(__file__).with_name("inside.py")
SIZE = 2 << 30


def node(directory: pathlib.Path, *steps: str) -> dict[str, t.Any]:
    """Run steps on a node whose docker and containerd keep their data in a directory."""
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run(
        [*words, sys.executable, str(INSIDE), str(directory), *steps],
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


@pytest.mark.parametrize("file_system", FILE_SYSTEMS)
def test_nothing_is_lost_when_the_power_is_cut(
    file_system: str, tmp_path: pathlib.Path, pytestconfig: pytest.Config
) -> None:
    if not shutil.which("mkfs." + file_system):
        pytest.skip("mkfs.%s is not installed" % file_system)
    seed, count = pytestconfig.getoption("--seed"), pytestconfig.getoption("--cuts")
    before, work, record = (tmp_path / name for name in ("before", "work", "record"))
    target = tmp_path / "mounted"
    disk.make(file_system, before, SIZE)
    with disk.mounted(before, target):
        node(target, "load")
    copy(before, work)
    with disk.recorded(work, record) as shown, disk.mounted(shown, target):
        # In one run with the daemons' start: a cut may come at any moment of a node's life.
        first = node(target, "carry")["carry"]
    assert first["changed"] and first["method"] == "adopt", first
    writes = disk.read(record)
    chance = random.Random(seed)
    print(f"\n{file_system}: seed {seed}, {len(writes)} writes, {count} cuts")
    failures = []
    for number in range(count):
        end, fate = chance.randrange(len(writes) + 1), disk.FATES[number % len(disk.FATES)]
        copy(before, work)
        disk.cut(writes, end, fate, record, work, random.Random(seed + number))
        with disk.mounted(work, target):
            found = node(
                target,
                *("broken", "carry", "compare", "restore", "incomplete", "carry again"),
                "left over",
            )
        wrong = problems(found)
        failures += wrong
        after = "whole" if not wrong else "; ".join(wrong)
        print(f"  before write {end}, unflushed writes {fate}: {after}", flush=True)
    assert not failures

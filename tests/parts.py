# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the parts of the test suite for the Makefile, and remembers which passed for which content.

`run` honours two variables: with ONLY=a,b all other parts are skipped, with RESUME=1 those that
passed for this very content. What passed is kept in a file in the cache directory.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "lab"))
from cache import CACHE  # noqa: E402

PASSED = CACHE / "passed-parts.jsonl"
#: What no scenario reads. The other parts check these files as well.
NOT_READ = ("*.md", "*.svg", "bench/*", "changelogs/*", "tests/*")


def content(command: list[str]) -> str:
    """A hash of the files that matter to a part, and of its command; "" outside of git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        return ""
    total = hashlib.sha256(shlex.join(command).encode())
    every = sorted(set(os.fsdecode(listed.stdout).split("\0")) - {""})
    scenarios = scenarios_of(command[-1], every) if "molecule" in command else set()
    for name in every:
        if scenarios and any(fnmatch.fnmatch(name, pattern) for pattern in NOT_READ):
            continue
        if scenarios and name.startswith("molecule/") and name.split("/")[1] not in scenarios:
            continue
        path = ROOT / name
        if path.is_file():  # else it was deleted, or is a link to a directory
            mode = "x" if os.access(path, os.X_OK) else "-"
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{name}\0{mode}{digest}\0".encode())
    return total.hexdigest()


def scenarios_of(scenario: str, every: list[str]) -> set[str]:
    """The directories of molecule/ that a scenario reads: its own, and those that it names."""
    found: set[str] = set()
    new = {scenario, "shared"}
    while new:
        name = new.pop()
        found.add(name)
        for path in every:
            if path.startswith(f"molecule/{name}/") and (ROOT / path).is_file():
                text = (ROOT / path).read_text(encoding="utf-8")
                new |= set(re.findall(r"\.\./([\w-]+)/", text)) - found
    return found


def earlier(part: str, now: str) -> dict[str, Any] | None:
    """The last time that a part passed for this content."""
    lines = PASSED.read_text(encoding="utf-8").splitlines() if PASSED.exists() else []
    records = [json.loads(line) for line in lines]
    found = [record for record in records if record["part"] == part and record["content"] == now]
    return found[-1] if now and found else None


def when(record: dict[str, Any]) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(record["time"]))


def names(text: str) -> list[str]:
    """The parts that ONLY names."""
    return [name for name in re.split(r"[,\s]+", text) if name]


def run(part: str, command: list[str]) -> int:
    only = names(os.environ.get("ONLY", ""))
    if only and part not in only:
        return 0
    before = content(command)
    passed = earlier(part, before)
    note = f"passed for this content on {when(passed)}" if passed else "not run with this content"
    if passed and os.environ.get("RESUME", "") not in ("", "0"):
        print(f"=== {part}: skipped, {note} ({passed['seconds']} s)", flush=True)
        return 0
    print(f"=== {part} ({note})", flush=True)
    start = time.time()
    code = subprocess.run(command, check=False).returncode
    seconds = round(time.time() - start)
    print(f"=== {part}: {seconds} s" + (f", FAILED (exit code {code})" if code else ""), flush=True)
    # What was edited meanwhile has not been tested.
    if code == 0 and before and before == content(command):
        CACHE.mkdir(parents=True, exist_ok=True)
        record = {"part": part, "content": before, "time": start, "seconds": seconds}
        with PASSED.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    return code


def parts(dry_run: str) -> list[tuple[str, list[str]]]:
    """Name and command of each part, from what `make --dry-run` would run."""
    found = []
    for line in dry_run.splitlines():
        _before, is_part, words = line.partition("tests/parts.py run ")
        if is_part:
            name, *command = shlex.split(words)
            found.append((name, command))
    return found


def check(known: list[tuple[str, list[str]]], wanted: list[str]) -> int:
    """Refuse a name in ONLY that is no part."""
    every = [name for name, _command in known]
    wrong = [name for name in wanted if name not in every]
    if wrong:
        print(
            f"ONLY names {', '.join(wrong)}, which is no part of this target. Its parts are: "
            f"{', '.join(every)}.",
            file=sys.stderr,
        )
    return 1 if wrong else 0


def status(known: list[tuple[str, list[str]]]) -> int:
    print(f"{'part':<24}{'passed for this content':<26}{'seconds':>7}")
    for name, command in known:
        record = earlier(name, content(command))
        shown = when(record) if record else "no"
        print(f"{name:<24}{shown:<26}{record['seconds'] if record else '':>7}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="parts.py", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("run", help="run one part")
    verb.add_argument("part")
    verb.add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("status", help="show what passed; reads the output of make --dry-run")
    verb = verbs.add_parser("check", help="refuse unknown parts; reads the same")
    verb.add_argument("only")
    arguments = parser.parse_args()
    if arguments.verb == "run":
        return run(arguments.part, arguments.command)
    known = parts(sys.stdin.read())
    if arguments.verb == "check":
        return check(known, names(arguments.only))
    return status(known)


if __name__ == "__main__":
    sys.exit(main())

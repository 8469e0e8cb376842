# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every benchmark here needs: a cluster of its own, a quiet moment, medians, the last line."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "lab"))
from cache import CACHE  # noqa: E402

LABEL = "bench"


class Failure(Exception):
    """Something a person has to read."""


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def output(*words: str | Path, stdin: str | None = None, timeout: float = 900) -> str:
    """What a program prints; a Failure with all of it when it fails."""
    done = subprocess.run(
        [str(word) for word in words],
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        shown = " ".join(str(word) for word in words)
        raise Failure(f"exit code {done.returncode} from {shown}\n{done.stdout}{done.stderr}")
    return done.stdout


def ansible_env() -> dict[str, str]:
    """The environment in which Ansible finds this checkout's collection."""
    return os.environ | {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    }


class Cluster:
    """A single node from the lab, and its services."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.node = f"hc-{name}-node1"
        self.inventory = CACHE / "run" / name / "inventory.yml"

    def lab(self, verb: str, *words: str) -> None:
        output(sys.executable, ROOT / "lab/lab.py", verb, *words, timeout=7200)

    def inside(self, *words: str, stdin: str | None = None, timeout: float = 900) -> str:
        flags = ["-i"] if stdin is not None else []
        return output("docker", "exec", *flags, self.node, *words, stdin=stdin, timeout=timeout)

    def bash(self, script: str) -> str:
        return self.inside("bash", "-euo", "pipefail", "-s", stdin=script)

    def playbook(self, name: str, *words: str) -> str:
        command = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(self.inventory), name]
        done = subprocess.run(
            [*command, *words],
            env=ansible_env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Failure(f"{name} failed on {self.name}\n{done.stdout[-6000:]}{done.stderr}")
        return done.stdout

    def versions(self) -> dict[str, str]:
        found = self.bash(
            "kubelet --version; docker version -f '{{.Server.Version}}'; containerd --version"
        )
        kubelet, docker, containerd = found.splitlines()
        return {
            "kubelet": kubelet.split()[-1],
            "docker": docker,
            "containerd": next(w for w in containerd.split() if re.match(r"v?\d", w)),
            "kernel": platform.release(),
            "cpus": str(os.cpu_count()),
        }


@contextmanager
def cluster(name: str) -> Iterator[Cluster]:
    """A fresh cluster with the lab's workloads; gone afterwards, whatever happens."""
    made = Cluster(name)
    made.lab("down", "--cluster", name)
    started = time.monotonic()
    try:
        made.lab("up", "--cluster", name, "--label", LABEL)
        made.lab("workloads", "--cluster", name)
        say(f"{name} is up with its workloads ({time.monotonic() - started:.0f} s)")
        yield made
    finally:
        made.lab("down", "--cluster", name)


def wait_quiet(limit: float, longest: float = 180) -> float:
    """Wait until the machine has little to do; returns its load of the last seconds.

    Load is the share of the CPUs' time that was not idle: 0 to 1.
    """
    deadline = time.monotonic() + longest
    while True:
        load = busy(4)
        if load <= limit or time.monotonic() > deadline:
            return round(load, 2)
        say(f"waiting for a quiet machine: {load:.0%} busy, limit {limit:.0%}")
        time.sleep(4)


def busy(seconds: float) -> float:
    def read() -> tuple[int, int]:
        fields = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return fields[3] + fields[4], sum(fields)

    idle, total = read()
    time.sleep(seconds)
    idle_after, total_after = read()
    return 1 - (idle_after - idle) / max(1, total_after - total)


def spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "n": len(values),
    }


def shown(values: Sequence[float], unit: str) -> str:
    found = spread(values)
    return f"{found['median']:.1f} {unit} ({found['min']:.1f} .. {found['max']:.1f})"


def last_line(name: str, **found: Any) -> None:
    """The result as one line of JSON, the last thing that is printed."""
    print(json.dumps({"name": name, **found}, sort_keys=True), flush=True)

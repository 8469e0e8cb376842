#!/usr/bin/env python3
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a second run of migrate with nothing to do costs, compared with Ansible's ping of the node.

--against DIR compares with another checkout (its `make setup` done), on a cluster of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from common import ROOT, Cluster, Failure, cluster, last_line, say, shown, spread, wait_quiet

#: Actions that run on the controller alone: no module goes to a node for them.
ON_CONTROLLER = {
    "add_host",
    "assert",
    "check_options",
    "debug",
    "fail",
    "group_by",
    "include_role",
    "include_tasks",
    "include_vars",
    "import_role",
    "meta",
    "set_fact",
    "show_report",
    "validate_argument_spec",
}


def run(root: Path, node: Cluster, *words: str, counted: bool = False) -> tuple[float, str]:
    """Seconds and output of a program of that checkout's environment, against the node."""
    environment = os.environ | {
        "ANSIBLE_COLLECTIONS_PATH": str(root / ".collections"),
        "ANSIBLE_CONFIG": str(root / "ansible.cfg"),
    }
    if counted:
        environment["ANSIBLE_STDOUT_CALLBACK"] = "ansible.posix.json"
    command = [str(root / ".venv/bin" / words[0]), "-i", str(node.inventory), *words[1:]]
    started = time.monotonic()
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    took = time.monotonic() - started
    if done.returncode:
        shown_words = " ".join(words)
        raise Failure(f"{shown_words} failed on {node.name}\n{done.stdout[-5000:]}{done.stderr}")
    return took, done.stdout


def migrate(root: Path, node: Cluster, counted: bool = False) -> tuple[float, str]:
    words = ("ansible-playbook", "homelab.containerd.migrate", "-e", "migrate_verify=false")
    return run(root, node, *words, counted=counted)


def count(printed: str) -> tuple[dict[str, int], Counter[str]]:
    """Tasks that were shown, and modules that ran on a node, by name; a Failure if one changed.

    printed: what the callback ansible.posix.json prints, after the report's own lines.
    """
    found: dict[str, Any] = json.loads(printed[printed.index("{\n") :])
    tasks = [task for play in found["plays"] for task in play["tasks"]]
    modules: Counter[str] = Counter()
    for task in tasks:
        for result in task["hosts"].values():
            action = str(result.get("action", "")).rsplit(".", 1)[-1]
            if not result.get("skipped") and action not in ON_CONTROLLER:
                modules[action] += len(result.get("results", [None]))
    changed = sum(stats["changed"] for stats in found["stats"].values())
    if changed:
        raise Failure(f"the second run changed {changed} things")
    return {"tasks": len(tasks), "modules": sum(modules.values())}, modules


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout of this collection")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quiet", type=float, default=0.33, help="share of the CPUs in use")
    arguments = parser.parse_args()
    sides = {"this": ROOT}
    if arguments.against:
        sides["against"] = arguments.against.resolve()
    try:
        with ExitStack() as stack:
            nodes = {side: stack.enter_context(cluster(f"bench-{side}")) for side in sides}
            counts: dict[str, dict[str, int]] = {}
            for side, root in sides.items():
                migrate(root, nodes[side])
                counts[side], modules = count(migrate(root, nodes[side], counted=True)[1])
                say(f"{side}: {counts[side]}; on the node: {dict(modules.most_common())}")
            pings: dict[str, list[float]] = {side: [] for side in sides}
            runs: dict[str, list[float]] = {side: [] for side in sides}
            for number in range(arguments.rounds):
                order = list(sides.items())
                for side, root in order if number % 2 else reversed(order):
                    wait_quiet(arguments.quiet, longest=30)
                    ping = ("ansible", "-m", "ansible.builtin.ping", nodes[side].node)
                    pings[side].append(run(root, nodes[side], *ping)[0])
                    runs[side].append(migrate(root, nodes[side])[0])
                    say(
                        f"round {number + 1}, {side}: ping {pings[side][-1]:.1f} s, "
                        f"second run {runs[side][-1]:.1f} s"
                    )
            ratios = {
                f"{side}/ping": [a / b for a, b in zip(runs[side], pings[side], strict=True)]
                for side in sides
            }
            if arguments.against:
                pairs = zip(runs["this"], runs["against"], strict=True)
                ratios["this/against"] = [a / b for a, b in pairs]
            for side in sides:
                print(f"{side:8}  {counts[side]['tasks']} tasks, {counts[side]['modules']} modules")
                print(f"  ping        {shown(pings[side], 's')}")
                print(f"  second run  {shown(runs[side], 's')}")
            for name, values in ratios.items():
                print(f"{name:16} {shown(values, 'times')}")
            last_line(
                "rerun",
                unit="s",
                figures={
                    f"{side} {name}": spread(values)
                    for name, found in (("ping", pings), ("second run", runs))
                    for side, values in found.items()
                },
                counts=counts,
                ratios={name: spread(values) for name, values in ratios.items()},
                versions=nodes["this"].versions(),
            )
    except Failure as failure:
        print(f"bench/rerun.py: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

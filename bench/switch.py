#!/usr/bin/env python3
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a node is away: the collection's switch against the documented one, in one run."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from typing import IO, Any

from common import (
    LABEL,
    ROOT,
    Cluster,
    Failure,
    cluster,
    last_line,
    output,
    say,
    shown,
    spread,
    wait_quiet,
)

# What bench/observe.py tells; seconds from the stop of the kubelet, but for the last.
WORDS = {
    "node_ready": "node Ready",
    "node_steady": "node Ready, and stayed so",
    "workloads_running": "workloads' pods running",
    "pods_running": "all pods running",
    "pods_ready": "all pods ready",
    "api_away": "longest silence of the API",
}
EVENTS = ("node_ready", "workloads_running", "pods_running", "pods_ready")
UNITS = {"socket": "docker.service docker.socket", "literal": "docker.service"}
OBSERVER = "/root/observe.py"


class Observer:
    """bench/observe.py in the node, and what it said."""

    def __init__(self, made: Cluster, limit: float) -> None:
        output("docker", "cp", ROOT / "bench/observe.py", f"{made.node}:{OBSERVER}")
        command = ["docker", "exec", "-i", made.node, "python3", "-u", OBSERVER, "node1"]
        self.process = subprocess.Popen(
            [*command, str(limit)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.found: dict[str, Any] = {}
        self.watching = threading.Event()
        assert self.process.stdout is not None
        self.reader = threading.Thread(target=self.read, args=[self.process.stdout], daemon=True)
        self.reader.start()
        if not self.watching.wait(30):
            raise Failure("the observer does not start")

    def read(self, stream: IO[str]) -> None:
        for line in stream:
            told = json.loads(line)
            event = told.pop("event")
            if event in EVENTS or event == "started":
                self.found[event] = told["seconds"]
                say(f"  {told['seconds']:5.1f} s  {event.replace('_', ' ')}")
            elif event == "end":
                self.found.update(told)
            elif event == "waiting":
                say(
                    f"  {told['seconds']:5.1f} s  waiting for {', '.join(told['pods']) or 'nobody'}"
                )
            self.watching.set()

    def wait(self) -> dict[str, Any]:
        """Until everything is reached."""
        self.process.wait()
        self.reader.join()
        missing = [event for event in EVENTS if event not in self.found]
        if missing:
            raise Failure(f"not seen in time: {', '.join(missing)}")
        return self.found

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.terminate()


def carry_by_hand(made: Cluster) -> None:
    """The images, before the clock starts: the documentation does not describe local ones."""
    made.bash(
        "docker images --format '{{.Repository}}:{{.Tag}}' | grep -v '<none>' |"
        " xargs docker save | ctr -n k8s.io images import - >/dev/null"
    )


def by_hand(made: Cluster, units: str) -> dict[str, Any]:
    script = (ROOT / "bench/by_hand.sh").read_text(encoding="utf-8")
    made.inside("env", f"BY_HAND_UNITS={units}", "bash", "-s", stdin=script)
    return {}


def ours(made: Cluster) -> dict[str, Any]:
    """The whole playbook, and what the module itself measured."""
    made.playbook(
        "homelab.containerd.migrate", "-e", "migrate_verify=false", "-e", "migrate_buildkit=false"
    )
    journal = json.loads(made.inside("cat", "/var/lib/homelab-containerd/switch.json"))
    times = [step["start"] for step in journal["steps"]] + [journal["end"]]
    steps = {
        step["name"]: round(times[index + 1] - times[index], 2)
        for index, step in enumerate(journal["steps"])
    }
    # What the module calls the outage: until the end of its first wait for Ready.
    ready = times[list(steps).index("wait for Ready") + 1]
    return {"steps": steps, "module_node_ready": round(ready - journal["start"], 2)}


def measure(side: str, number: int, arguments: argparse.Namespace) -> dict[str, Any]:
    with cluster(f"bench-{side}") as made:
        if side == "hand":
            carry_by_hand(made)
        versions = made.versions()
        # Nothing of what was just brought up is to be written back, or started, in the timed part.
        made.bash("sync")
        load = wait_quiet(arguments.quiet)
        say(f"round {number}, {side}: start, {load:.0%} busy")
        observer = Observer(made, arguments.limit)
        try:
            found = ours(made) if side == "ours" else by_hand(made, UNITS[arguments.units])
            found |= observer.wait()
        finally:
            observer.close()
        return found | {"busy_before": load, "versions": versions}


def report(results: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> None:
    figures, ratios = {}, {}
    print(f"\n{'':34}{'by hand':>26}{'ours':>26}   ours/by hand", flush=True)
    for event, words in WORDS.items():
        sides = {side: [float(one[event]) for one in results[side]] for side in ("hand", "ours")}
        figures[event] = {side: spread(values) for side, values in sides.items()}
        # Round by round: what disturbed the machine then disturbed both sides.
        pairs = [b / a for a, b in zip(sides["hand"], sides["ours"], strict=True)]
        ratios[event] = {
            "of_medians": round(
                figures[event]["ours"]["median"] / figures[event]["hand"]["median"], 3
            ),
            "min": round(min(pairs), 3),
            "max": round(max(pairs), 3),
        }
        ratio = ratios[event]
        print(
            f"{words:34}{shown(sides['hand'], 's'):>26}{shown(sides['ours'], 's'):>26}"
            f"   {ratio['of_medians']:.2f} ({ratio['min']:.2f} .. {ratio['max']:.2f})",
            flush=True,
        )
    names = list(results["ours"][0]["steps"])
    steps = {name: [one["steps"][name] for one in results["ours"]] for name in names}
    print("ours, step by step: " + ", ".join(f"{n} {shown(v, 's')}" for n, v in steps.items()))
    last_line(
        "switch",
        unit="s",
        figures=figures,
        ratios=ratios,
        steps={name: spread(values) for name, values in steps.items()},
        module_node_ready=spread([one["module_node_ready"] for one in results["ours"]]),
        by_hand=arguments.units,
        rounds=arguments.rounds,
        busy_before=[one["busy_before"] for one in results["hand"] + results["ours"]],
        versions=results["ours"][0]["versions"],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="of both sides, alternating")
    parser.add_argument(
        "--units",
        choices=sorted(UNITS),
        default="literal",
        help="what is disabled by hand: docker.service alone as documented (literal), or "
        "docker.socket too (socket)",
    )
    parser.add_argument("--limit", type=float, default=600, help="seconds until a side has failed")
    parser.add_argument(
        "--quiet", type=float, default=0.35, help="start below this share of busy CPU (waits 3 min)"
    )
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {"hand": [], "ours": []}
    started = time.monotonic()
    try:
        for number in range(1, arguments.rounds + 1):
            for side, found in results.items():
                done = sum(map(len, results.values()))
                left = ""
                if done:
                    each = (time.monotonic() - started) / done
                    left = f", about {each * (2 * arguments.rounds - done) / 60:.0f} min to go"
                say(f"round {number} of {arguments.rounds}, {side}{left}")
                found.append(measure(side, number, arguments))
    except (Failure, subprocess.SubprocessError) as failure:
        print(f"bench/switch.py: {failure}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        Cluster("").lab("down", "--label", LABEL)
    report(results, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())

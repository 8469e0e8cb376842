#!/usr/bin/env python3
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long node_runtime_info takes on a full node, compared with Ansible's ping of that node."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from common import (
    ROOT,
    Cluster,
    Failure,
    ansible_env,
    cluster,
    last_line,
    say,
    shown,
    spread,
    wait_quiet,
)

# Images that differ, so that none is another's name; containers that run, as pods' do.
FILL = """
base=registry.lab:5000/base:1
docker pull -q "$base" >/dev/null
for number in $(seq "$1"); do
  printf 'FROM %s\\nLABEL number=%s\\n' "$base" "$number" |
    docker build -q -t "bench/image:$number" - >/dev/null
done
for number in $(seq "$2"); do
  docker run -d --name "bench-$number" --network none "bench/image:$number" \\
    /bin/sh -c 'sleep 100000' >/dev/null
done
docker image ls -q | wc -l
docker ps -q | wc -l
"""


def seconds(node: Cluster, module: str) -> float:
    command = [str(ROOT / ".venv/bin/ansible"), "-i", str(node.inventory), "-m", module, node.node]
    started = time.monotonic()
    done = subprocess.run(command, env=ansible_env(), capture_output=True, text=True, check=False)
    took = time.monotonic() - started
    if done.returncode:
        raise Failure(f"{module} failed on {node.node}\n{done.stdout[-3000:]}{done.stderr}")
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--containers", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quiet", type=float, default=0.33, help="share of the CPUs in use")
    arguments = parser.parse_args()
    try:
        with cluster("bench-look") as node:
            say(f"making {arguments.images} images and {arguments.containers} containers")
            words = ("bash", "-euo", "pipefail", "-s")
            counts = (str(arguments.images), str(arguments.containers))
            images, containers = node.inside(*words, *counts, stdin=FILL).split()
            looks, pings = [], []
            for number in range(arguments.rounds):
                wait_quiet(arguments.quiet, longest=30)
                pings.append(seconds(node, "ansible.builtin.ping"))
                looks.append(seconds(node, "homelab.containerd.node_runtime_info"))
                say(f"round {number + 1}: ping {pings[-1]:.2f} s, look {looks[-1]:.2f} s")
            work = [look - ping for look, ping in zip(looks, pings, strict=True)]
            ratios = [look / ping for look, ping in zip(looks, pings, strict=True)]
            print(f"\n{images} images, {containers} running containers, {len(looks)} rounds")
            print(f"ansible ping          {shown(pings, 's')}")
            print(f"node_runtime_info     {shown(looks, 's')}")
            print(f"  of which its work   {shown(work, 's')}")
            print(f"look / ping           {shown(ratios, 'times')}")
            last_line(
                "look",
                unit="s",
                figures={"ping": spread(pings), "look": spread(looks), "work": spread(work)},
                ratios={"look/ping": spread(ratios)},
                versions=node.versions(),
            )
    except Failure as failure:
        print(f"bench/look.py: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

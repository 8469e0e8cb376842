#!/usr/bin/env python3
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How fast images go from docker to containerd, against reading the same layers with cat."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from common import (
    Cluster,
    Failure,
    cluster,
    last_line,
    say,
    shown,
    spread,
    wait_quiet,
)

# Layers as images have them: a few large files, and thousands of small ones. Half of every file
# is random, so that what compresses and what does not are both there.
GENERATOR = """
import os, pathlib, sys
layers, size = int(sys.argv[1]), int(sys.argv[2]) * 1000000
top = pathlib.Path("/root/bench-layers")
text = (b"The quick brown fox jumps over the lazy dog. " * 100)[:4096]
for number in range(layers):
    layer = top / f"layer{number}"
    for index in range(3):
        place = layer / "lib"
        place.mkdir(parents=True, exist_ok=True)
        with open(place / f"large{index}.so", "wb") as stream:
            for _ in range(size // 4 // 8192):
                stream.write(os.urandom(4096) + text)
    small = size // 4 // 8192
    for index in range(small):
        place = layer / "share" / f"{index % 50}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file{index}").write_bytes(os.urandom(4096) + text)
recipe = ["FROM registry.lab:5000/base:1"]
recipe += [f"COPY layer{number} /bench/{number}" for number in range(layers)]
(top / "Dockerfile").write_text("\\n".join(recipe) + "\\n")
"""
# The layer directories of the images that carry_images will carry, each once.
LAYERS = """
docker image inspect $(docker image ls -q --no-trunc | sort -u) -f \
  '{{.GraphDriver.Data.UpperDir}}:{{.GraphDriver.Data.LowerDir}}' |
  tr : '\\n' | grep ^/ | sort -u > /root/bench-diffs
"""
# Both sides find the page cache in the same state, with all of the layers read once.
CAT = """
find $(cat /root/bench-diffs) -xdev -type f -print0 > /root/bench-files
read_all() { xargs -0 cat < /root/bench-files | wc -c; }
read_all > /dev/null
start=$(date +%s.%N); bytes=$(read_all); end=$(date +%s.%N)
echo "$bytes $start $end"
"""
EMPTY = """
ctr -n k8s.io images list -q | xargs -r ctr -n k8s.io images rm --sync > /dev/null
"""
PREPARE = """
- hosts: kube_control_plane
  gather_facts: true
  tasks:
    - ansible.builtin.include_role:
        name: homelab.containerd.assess
    - ansible.builtin.include_role:
        name: homelab.containerd.containerd
      vars:
        containerd_cgroup_driver: "{{ assess_plan.cgroup_driver }}"
        containerd_sandbox_image: "{{ assess_plan.sandbox_image }}"
        containerd_registries: "{{ assess_plan.registries }}"
        containerd_cni_bin_dirs: "{{ assess_plan.cni_bin_dirs }}"
        containerd_cni_conf_dir: "{{ assess_plan.cni_conf_dir }}"
"""
CARRY = """
- hosts: kube_control_plane
  gather_facts: false
  tasks:
    - homelab.containerd.carry_images:
        overwrite: true
      register: carried
    - ansible.builtin.copy:
        content: "{{ carried | to_json }}"
        dest: /root/bench-carried.json
        mode: "0644"
"""


def cat(made: Cluster) -> tuple[int, float]:
    made.bash(LAYERS)
    size, start, end = made.bash(CAT).split()
    return int(size), float(end) - float(start)


def play(made: Cluster, text: str) -> None:
    place = made.inventory.parent / "bench-carry.yml"
    place.write_text(text, encoding="utf-8")
    made.playbook(str(place))


def carry(made: Cluster) -> tuple[int, float, int]:
    made.bash(EMPTY)
    play(made, CARRY)
    found = json.loads(made.inside("cat", "/root/bench-carried.json"))
    if not found["carried"]:
        raise Failure("nothing was carried")
    return int(found["bytes"]), float(found["seconds"]), len(found["carried"])


def measure(arguments: argparse.Namespace) -> None:
    with cluster("bench-carry") as made:
        say(f"building an image of {arguments.layers} layers of {arguments.megabytes} MB")
        made.inside(
            *("python3", "-", str(arguments.layers), str(arguments.megabytes)), stdin=GENERATOR
        )
        made.bash("docker build -q -t home/bench:1 /root/bench-layers && rm -r /root/bench-layers")
        play(made, PREPARE)
        rates: dict[str, list[float]] = {"cat": [], "carry": []}
        ratios, count, size = [], 0, 0
        for number in range(1, arguments.rounds + 1):
            made.bash("sync")
            load = wait_quiet(arguments.quiet)
            read, read_seconds = cat(made)
            size, seconds, count = carry(made)
            rates["cat"].append(read / read_seconds / 1e6)
            rates["carry"].append(size / seconds / 1e6)
            # A ratio of times for the same layers: how many cats one carrying is.
            ratios.append(seconds / read_seconds)
            say(
                f"round {number}: cat {read / 1e6:.0f} MB in {read_seconds:.2f} s, carry "
                f"{size / 1e6:.0f} MB in {seconds:.2f} s ({load:.0%} busy before)"
            )
        versions = made.versions()
    print(
        f"\n{count} images, {size / 1e6:.0f} MB of layers\n"
        f"cat of the layer files   {shown(rates['cat'], 'MB/s')}\n"
        f"carry_images             {shown(rates['carry'], 'MB/s')}\n"
        f"carry / cat, in time     {shown(ratios, '')}",
        flush=True,
    )
    last_line(
        "carry",
        unit="MB/s",
        figures={side: spread(values) for side, values in rates.items()},
        ratios={"carry_seconds_to_cat_seconds": spread(ratios)},
        images=count,
        bytes=size,
        versions=versions,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=6, help="of the image that is built")
    parser.add_argument("--megabytes", type=int, default=100, help="of each layer")
    parser.add_argument(
        "--quiet", type=float, default=0.35, help="start below this share of busy CPU (waits 3 min)"
    )
    try:
        measure(parser.parse_args())
    except (Failure, subprocess.SubprocessError) as failure:
        print(f"bench/carry.py: {failure}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

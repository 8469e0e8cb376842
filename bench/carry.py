#!/usr/bin/env python3
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How fast docker's images are carried: adopted, in one stream, by a tar each; and cat of them."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from typing import Any

from common import (
    Cluster,
    Failure,
    cluster,
    last_line,
    output,
    say,
    spread,
    wait_quiet,
)

# Layers as images have them: a few large files, and thousands of small ones, a file to 25 kB or so
# (Debian's with Python or Node.js are like that). Half of every file is random, so that what
# compresses and what does not are both there. Three families of images,
# each member one layer longer than the one before: what is unique is less than half of the sum.
GENERATOR = """
import os, pathlib, shutil, subprocess, sys
name, size, members = sys.argv[1], int(float(sys.argv[2]) * 1000000), int(sys.argv[3])
text = (b"The quick brown fox jumps over the lazy dog. " * 100)[:4096]
top = pathlib.Path("/root/bench-layer")
for family in range(3):
    for member in range(members):
        shutil.rmtree(top, ignore_errors=True)
        place = top / "layer" / f"{family}-{member}"
        (place / "lib").mkdir(parents=True)
        for index in range(2):
            with open(place / "lib" / f"large{index}.so", "wb") as stream:
                for _ in range(size // 4 // 8192):
                    stream.write(os.urandom(4096) + text)
        for index in range(max(10, size // 2 // 8192)):
            (place / f"{index % 50}").mkdir(exist_ok=True)
            (place / f"{index % 50}" / f"file{index}").write_bytes(os.urandom(4096) + text)
        base = f"{name}{family}:{member - 1}" if member else "registry.lab:5000/base:1"
        (top / "Dockerfile").write_text(f"FROM {base}\\nCOPY layer /bench/\\n")
        tag = f"{name}{family}:{member}"
        subprocess.run(["docker", "build", "-q", "-t", tag, str(top)], check=True)
shutil.rmtree(top)
"""
# The layer directories of the images that will be carried, each once.
LAYERS = """
docker image inspect $(docker image ls -q --no-trunc | sort -u) -f \
  '{{.GraphDriver.Data.UpperDir}}:{{.GraphDriver.Data.LowerDir}}' |
  tr : '\\n' | grep ^/ | sort -u > /root/bench-diffs
"""
# All ways find the page cache in the same state, with all of the layers read once.
CAT = """
find $(cat /root/bench-diffs) -xdev -type f -print0 > /root/bench-files
read_all() { xargs -0 cat < /root/bench-files | wc -c; }
read_all > /dev/null
start=$(date +%s.%N); bytes=$(read_all); end=$(date +%s.%N)
inodes=$(find $(cat /root/bench-diffs) -xdev | wc -l)
echo "$bytes $start $end $inodes $(wc -l < /root/bench-diffs)"
"""
EMPTY = """
ctr -n k8s.io images list -q | xargs -r ctr -n k8s.io images rm --sync > /dev/null
rm -rf /var/lib/homelab-containerd/{adopted.json,tar-split} /root/tars
for _ in $(seq 100); do
  [ -z "$(ctr -n k8s.io snapshots list | sed 1d; ctr -n k8s.io content list -q)" ] && break
  sleep 0.3
done
sync
"""
# kURL's way (scripts/common/docker.sh, "docker save" of each image, then "ctr images import").
KURL = """
mkdir /root/tars
start=$(date +%s.%N)
n=0
for image in $(docker image ls --format '{{.Repository}}:{{.Tag}}' | grep -v none); do
  n=$((n + 1)); docker save "$image" -o /root/tars/$n.tar
done
for tar in /root/tars/*.tar; do ctr -n k8s.io images import "$tar" > /dev/null; done
end=$(date +%s.%N)
echo "$start $end $(du -sB1 /root/tars | cut -f1)"
rm -r /root/tars
"""
# One du, so that what both have (by hard links) counts once.
DISK = """
du -xscB1 /var/lib/docker/overlay2 /var/lib/containerd /var/lib/homelab-containerd 2>/dev/null |
  tail -1 | cut -f1
"""
# Few files, so it can be asked often: docker's spool, containerd's blobs, the tars.
TRANSIENT = """
du -xscB1 /var/lib/docker/tmp /var/lib/containerd/io.containerd.content.v1.content /root/tars \
  2>/dev/null | tail -1 | cut -f1 || true
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
        method: %s
        overwrite: true
        pin: never
      register: carried
    - ansible.builtin.copy:
        content: "{{ carried | to_json }}"
        dest: /root/bench-carried.json
        mode: "0644"
"""
COMPARE = """
- hosts: kube_control_plane
  gather_facts: false
  tasks:
    - homelab.containerd.compare_images:
      register: compared
    - ansible.builtin.copy:
        content: "{{ compared.compared | to_json }}"
        dest: /root/bench-compared.json
        mode: "0644"
"""
WAYS = ("adopt", "stream", "kurl")
Figures = dict[str, float]


def play(made: Cluster, text: str) -> None:
    place = made.inventory.parent / "bench-carry.yml"
    place.write_text(text, encoding="utf-8")
    made.playbook(str(place))


def cpu(made: Cluster) -> float:
    """Seconds of CPU that the node has used so far, with all that runs in it."""
    told = output(
        *("curl", "-s", "--unix-socket", "/var/run/docker.sock"),
        f"http://x/containers/{made.node}/stats?stream=false&one-shot=true",
    )
    return int(json.loads(told)["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


class Peak:
    """The maximum size of spool, blobs and tars together, checked twice a second."""

    def __init__(self, made: Cluster) -> None:
        self.made, self.bytes = made, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            self.bytes = max(self.bytes, int(self.made.bash(TRANSIENT) or 0))

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def cat(made: Cluster) -> Figures:
    made.bash(LAYERS)
    before = cpu(made)
    size, start, end, inodes, layers = made.bash(CAT).split()
    return {
        "seconds": float(end) - float(start),
        # It reads them twice, and the first time counts as much.
        "cpu": (cpu(made) - before) / 2,
        "bytes": int(size),
        "inodes": int(inodes),
        "layers": int(layers),
    }


def carry(made: Cluster, way: str) -> Figures:
    made.bash(EMPTY)
    disk, before, tars = int(made.bash(DISK)), cpu(made), 0
    with Peak(made) as peak:
        if way == "kurl":
            start, end, tars_text = made.bash(KURL).split()
            seconds, tars = float(end) - float(start), int(tars_text)
        else:
            play(made, CARRY % way)
            found = json.loads(made.inside("cat", "/root/bench-carried.json"))
            if not found["carried"] or found["method"] != way:
                raise Failure(f"not carried by the expected method: {found}")
            seconds = float(found["delta"])
    used = cpu(made) - before
    at_end = int(made.bash(DISK)) - disk
    return {
        "seconds": seconds,
        "cpu": used,
        "disk_end": at_end,
        # What is there at the end besides was there as well when the tars still were.
        "disk_peak": max(peak.bytes, at_end + tars),
    }


def compare(made: Cluster) -> tuple[int, int]:
    """Every file of every image is the same; how many there were, and bytes."""
    play(made, COMPARE)
    images = json.loads(made.inside("cat", "/root/bench-compared.json"))
    return sum(image["files"] for image in images), sum(image["bytes"] for image in images)


def build(made: Cluster, name: str, megabytes: float, members: int) -> None:
    say(f"building {3 * members} images with layers of {megabytes:g} MB")
    made.inside(*("python3", "-", name, str(megabytes), str(members)), stdin=GENERATOR)


def growth(made: Cluster, ways: list[str], members: int, megabytes: float) -> dict[str, Figures]:
    """The same layers under many images and under few, and many bytes to a layer and few."""

    def remove(numbers: range) -> None:
        made.bash(
            "docker rmi "
            + " ".join(f"bench{family}:{number}" for family in range(3) for number in numbers)
        )

    found = {}
    for label in ("many images", "few images", "small layers"):
        if label == "few images":
            remove(range(members - 1))  # the last is built on them, so their layers stay
        if label == "small layers":
            remove(range(members - 1, members))
            build(made, "bench", megabytes / 10, members)
        read = cat(made)
        found[label] = {"bytes": read["bytes"], "layers": read["layers"], "cat": read["seconds"]}
        for way in ways:
            found[label][way] = carry(made, way)["seconds"]
        say(f"{label}: " + ", ".join(f"{key} {value:.1f}" for key, value in found[label].items()))
    return found


def line(label: str, values: list[float], unit: float = 1, digits: int = 1) -> str:
    found = spread([value / unit for value in values])
    median, least, most = (f"{found[key]:.{digits}f}" for key in ("median", "min", "max"))
    return f"{label}{median} ({least} .. {most})"


def measure(arguments: argparse.Namespace) -> None:
    with cluster("bench-carry") as made:
        build(made, "bench", arguments.megabytes, arguments.members)
        play(made, PREPARE)
        ways = arguments.ways
        figures: dict[str, list[Figures]] = {way: [] for way in ("cat", *ways)}
        for number in range(1, arguments.rounds + 1):
            load = wait_quiet(arguments.quiet)
            figures["cat"].append(cat(made))
            for way in ways:
                figures[way].append(carry(made, way))
                if way == "adopt" and number == 1:
                    files, size = compare(made)
                    say(f"compared: {files} files, {size / 1e6:.0f} MB, all the same")
            told = ", ".join(f"{way} {figures[way][-1]['seconds']:.2f} s" for way in figures)
            say(f"round {number}: {told} ({load:.0%} busy before)")
        grown = (
            growth(made, ways, arguments.members, arguments.megabytes) if arguments.growth else {}
        )
        versions = made.versions()
        count = len(made.bash("docker image ls -q --no-trunc | sort -u").split())

    def of(way: str, key: str) -> list[float]:
        return [figure[key] for figure in figures[way]]

    def ratio(way: str, other: str, key: str = "seconds") -> list[float]:
        return [a / b for a, b in zip(of(way, key), of(other, key), strict=True)]

    first = figures["cat"][0]
    print(
        f"\n{count} images, {first['layers']:.0f} layers, {first['inodes']:.0f} inodes, "
        f"{first['bytes'] / 1e6:.0f} MB unique; median (least .. most of {arguments.rounds})"
    )
    ratios: dict[str, Any] = {}
    for way in figures:
        print(line(f"{way:<7} seconds ", of(way, "seconds"), digits=2), end="")
        print(line("   CPU seconds ", of(way, "cpu")), end="")
        if way in ways:
            print(line("   MB at the end ", of(way, "disk_end"), 1e6, 0), end="")
            print(line("   at most ", of(way, "disk_peak"), 1e6, 0), end="")
        print()
    compared = (("adopt", "cat"), ("adopt", "stream"), ("adopt", "kurl"), ("stream", "kurl"))
    for way, other in compared:
        if not {way, other} <= set(figures):
            continue
        ratios[f"{way}_to_{other}"] = spread(ratio(way, other))
        print(line(f"{way} / {other}: ", ratio(way, other), digits=3))
    if "adopt" in figures:
        ends = [end / first["bytes"] for end in of("adopt", "disk_end")]
        ratios["adopt_disk_to_bytes"] = spread(ends)
        print(line("adopt, extra disk / bytes of the layers: ", ends, digits=4))
    for label, values in grown.items():
        print(f"{label}: " + ", ".join(f"{key} {value:.1f}" for key, value in values.items()))
    last_line(
        "carry",
        unit="s",
        figures={way: {key: spread(of(way, key)) for key in figures[way][0]} for way in figures},
        growth=grown,
        ratios=ratios,
        images=count,
        versions=versions,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--members", type=int, default=5, help="of each of three families of images"
    )
    parser.add_argument("--megabytes", type=int, default=100, help="of each layer")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--growth", action=argparse.BooleanOptionalAction, default=True)
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

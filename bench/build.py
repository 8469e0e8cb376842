#!/usr/bin/env python3
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long builds take: docker's two builders, ours and buildah, in one run on one node."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import ROOT, Cluster, Failure, cluster, last_line, output, say, spread, wait_quiet

BASE = "registry.lab:5000/node:1"
IMAGE = "registry.lab:5000/bench/api"
APP = "/root/bench-app"
#: What the registries' certificates are checked with, where this host has a CA of its own.
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
NPMRC = "cafile=/app/ca.crt\nbuild_from_source=true\nnodedir=/usr\nupdate-notifier=false\n"

#: Two clients of large services' APIs: 250 MB of modules.
LARGER = {"aws-sdk": "2.1692.0", "googleapis": "137.1.0"}

# Each prints what it does to stderr; {file}, {tag} and {base} are filled in.
BUILD = {
    "legacy": "DOCKER_BUILDKIT=0 docker build --network=host --build-arg BASE={base}"
    " -f {file} -t {tag} .",
    "embedded": "DOCKER_BUILDKIT=1 docker build --network=host --progress=plain"
    " --build-arg BASE={base} -f {file} -t {tag} .",
    "ours": "buildctl build --progress=plain --frontend=dockerfile.v0 --local=context=."
    " --local=dockerfile=. --opt=filename={file} --opt=build-arg:BASE={base}"
    " --opt=image-resolve-mode=local"
    " --output=type=image,name={tag},unpack=true,compression=uncompressed",
    "ours, gzip": "buildctl build --progress=plain --frontend=dockerfile.v0 --local=context=."
    " --local=dockerfile=. --opt=filename={file} --opt=build-arg:BASE={base}"
    " --opt=image-resolve-mode=local --output=type=image,name={tag},unpack=true",
    "buildah": "buildah build --isolation=chroot --layers --build-arg BASE={base}"
    " -f {file} -t {tag} .",
}
#: Empties the build cache. The base image stays as each builder has it: BuildKit 0.34 unpacks it
#: for itself when it is first built on, and the case "first on the node" has that.
PRUNE = {
    # Each leaves the other's cache alone: stages of the first are images, of the second are not.
    "legacy": "docker images -q '{image}:pulled-*' | xargs -r docker image rm -f;"
    " docker image rm -f {image}:legacy; docker image prune -f",
    "embedded": "docker image rm -f {image}:embedded; docker builder prune -af",
    "ours": "ctr -n k8s.io images ls -q | grep ^{image} | xargs -r ctr -n k8s.io images rm --sync;"
    # And what containerd then collects, now and not in the middle of the next build.
    " buildctl prune --all; ctr -n k8s.io leases create --id bench;"
    " ctr -n k8s.io leases rm --sync bench",
    "buildah": "buildah rmi -a -f; buildah pull docker-daemon:{base}",
}
UNPACK = (
    "buildctl build --no-cache --frontend=dockerfile.v0 --local=dockerfile=/root/bench-base"
    " --local=context=/root/bench-base --opt=image-resolve-mode=local"
)
PRUNE["ours, gzip"] = PRUNE["ours"]
STORES = {
    "legacy": "/var/lib/docker/overlay2 /var/lib/docker/image /var/lib/docker/buildkit",
    "embedded": "/var/lib/docker/overlay2 /var/lib/docker/image /var/lib/docker/buildkit",
    "ours": "/var/lib/containerd /var/lib/buildkit",
    "buildah": "/var/lib/docker/bench-containers",
}
STORES["ours, gzip"] = STORES["ours"]
DAEMONS = {
    "legacy": ["dockerd", "containerd"],
    "embedded": ["dockerd", "containerd"],
    "ours": ["buildkitd", "containerd"],
    "ours, gzip": ["buildkitd", "containerd"],
    "buildah": [],
}
SIDES = ("legacy", "embedded", "ours", "buildah")
PREPARE = """
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends buildah >/dev/null
mkdir -p /etc/containers
# Its overlay wants a real file system below it, as the node's volumes are.
mkdir -p /var/lib/docker/bench-containers
ln -sfn /var/lib/docker/bench-containers /var/lib/containers
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json
mkdir -p /root/bench-base
printf 'FROM BASE\nRUN true\n' >/root/bench-base/Dockerfile
# As a base image is: in a registry. A push of what is built on it sends only what is on top.
docker push -q BASE
# Not -q: it would end the pipe before ctr has written all.
ctr -n k8s.io images ls -q | grep -x BASE >/dev/null
"""
# Runs one build and prints: seconds, the client's CPU, the daemons' CPU, MB the store grew.
MEASURE = """
import json, os, resource, subprocess, sys, time
stores, daemons, command = json.loads(sys.stdin.read())
def size():
    done = subprocess.run(["du", "-scx", "--block-size=1"] + stores.split(),
                          capture_output=True, text=True)
    return int(done.stdout.split()[-2])
def cpu():
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open("/proc/%s/stat" % pid).read()
        except OSError:
            continue
        name = words[words.index("(") + 1:words.rindex(")")]
        if name in daemons:
            fields = words[words.rindex(")") + 2:].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
os.chdir("/root/bench-app")
subprocess.run(["sync"])
before, used = size(), cpu()
start = time.monotonic()
done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True)
seconds = time.monotonic() - start
if done.returncode:
    sys.exit(command + "\\n" + done.stdout[-3000:] + done.stderr[-3000:])
own = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"seconds": seconds, "client_cpu": own.ru_utime + own.ru_stime,
                  "daemon_cpu": cpu() - used, "mb": (size() - before) / 1e6}))
"""
POD = """
kubectl delete pod bench-api --ignore-not-found --grace-period=0 --force >/dev/null 2>&1
kubectl run bench-api --image={tag} --image-pull-policy={policy} --restart=Never >/dev/null
until kubectl get pod bench-api -o 'jsonpath={{.status.phase}}' | grep -q Running; do
  sleep 0.1
done
"""

Figures = dict[str, list[dict[str, Any]]]


class Bench:
    def __init__(self, made: Cluster, arguments: argparse.Namespace) -> None:
        self.made = made
        self.arguments = arguments
        #: Case and side to what was measured, one entry a round.
        self.found: dict[str, Figures] = {}
        #: What each change writes; the application as it is says 1.
        self.serial = 1

    def context(self) -> None:
        """The application on the node, with what this host's registries need."""
        self.made.bash(f"rm -rf {APP}")
        output("docker", "cp", ROOT / "bench/app", f"{self.made.node}:{APP}")
        output("docker", "cp", "-L", BUNDLE, f"{self.made.node}:{APP}/ca.crt")
        self.made.bash(f"printf '{NPMRC}' >{APP}/.npmrc")

    def change(self, what: str) -> None:
        """Something new in a source file, or in package.json."""
        self.serial += 1
        if what == "source":
            text = f"""echo 'export const release = "{self.serial}";' >{APP}/src/release.ts"""
        else:
            text = (
                f"""sed -i 's/"version": ".*"/"version": "1.0.{self.serial}"/' {APP}/package.json"""
            )
        self.made.bash(text)

    def prune(self, side: str, unpack: bool = True) -> None:
        # What is not there cannot be removed, and need not be.
        self.made.inside("bash", "-c", PRUNE[side].format(image=IMAGE, base=BASE) + "; true")
        if unpack and side.startswith("ours"):
            self.made.bash(UNPACK + " 2>/dev/null")

    def build(self, case: str, side: str, file: str = "Dockerfile") -> None:
        tag = f"{IMAGE}:{side.split(',')[0]}"
        command = BUILD[side].format(file=file, tag=tag, base=BASE)
        self.run(case, side, command)

    def run(self, case: str, side: str, command: str) -> None:
        given = json.dumps([STORES[side], DAEMONS[side], command])
        load = wait_quiet(self.arguments.quiet, self.arguments.patience)
        # The measuring program is an argument, so that its input is free for what it is given.
        got = self.made.inside("python3", "-c", MEASURE, stdin=given, timeout=1800)
        found = json.loads(got.strip().splitlines()[-1]) | {"busy_before": load}
        self.found.setdefault(case, {}).setdefault(side, []).append(found)
        say(f"  {case}, {side}: {found['seconds']:.1f} s ({load:.0%} busy before)")

    def first(self) -> None:
        """The first build on the node, with what a builder does once for a base image."""
        for side in SIDES:
            self.prune(side, unpack=False)
            self.build("first on the node", side)

    def everyday(self, case: str, sides: Sequence[str], file: str = "Dockerfile") -> None:
        """A source file changes, and each builds that; several times."""
        for _ in range(self.arguments.changes):
            self.change("source")
            for side in sides:
                self.build(case, side, file)

    def round(self, number: int) -> None:
        sides = list(SIDES) if number % 2 else list(reversed(SIDES))
        for side in sides:
            self.prune(side)
            self.build("cold", side)
        for side in sides:
            self.build("again, nothing changed", side)
        self.everyday("a source file changed", sides)
        self.change("package")
        for side in sides:
            self.build("package.json changed", side)
        self.prune("ours")
        self.build("cold", "ours, gzip")
        for side in sides:
            self.prune(side)
            self.build("two branches, cold", side, "Dockerfile.parallel")
        # What a Dockerfile for BuildKit gives: cache mounts, and the order of stages.
        self.prune("ours")
        self.build("better Dockerfile, cold", "ours", "Dockerfile.better")
        better = "better Dockerfile, a source file changed"
        self.everyday(better, ["ours"], "Dockerfile.better")
        self.change("package")
        self.build("better Dockerfile, package.json changed", "ours", "Dockerfile.better")
        self.to_pod()

    def larger(self) -> None:
        """The same with modules as large as those of an older application."""
        package = json.loads((ROOT / "bench/app/package.json").read_text(encoding="utf-8"))
        package["dependencies"] |= LARGER
        text = json.dumps(package, indent=2)
        self.made.inside("tee", f"{APP}/package.json", stdin=text)
        for side in SIDES:
            self.prune(side)
            self.build("larger, cold", side)
        case = "larger, a source file changed"
        self.everyday(case, SIDES)
        self.build("(larger, better Dockerfile)", "ours", "Dockerfile.better")
        self.everyday(f"better Dockerfile, {case}", ["ours"], "Dockerfile.better")
        self.to_pod("larger, ")
        self.context()

    def to_pod(self, prefix: str = "") -> None:
        """From a change to a running pod: build, push and pull against build."""
        for side in ("legacy", "ours"):
            self.prune(side)
        self.change_and_run(f"{prefix}cold, to the running pod", "source")
        # From here on the registry and the kubelet know all that is not changed.
        case = f"{prefix}a source file changed, to the running pod"
        for _ in range(self.arguments.changes):
            self.change_and_run(case, "source")
        self.change_and_run(f"{prefix}package.json changed, to the running pod", "package")
        self.run_ours("(better Dockerfile, to the running pod)", "Dockerfile.better")
        for _ in range(self.arguments.changes):
            self.change("source")
            self.run_ours(f"better Dockerfile, {case}", "Dockerfile.better")

    def change_and_run(self, case: str, what: str) -> None:
        self.change(what)
        tag = f"{IMAGE}:pulled-{self.serial}"
        build = BUILD["legacy"].format(file="Dockerfile", tag=tag, base=BASE)
        pod = POD.format(tag=tag, policy="Always")
        self.run(case, "legacy", f"{build}\ndocker push {tag}\n{pod}")
        self.run_ours(case, "Dockerfile")

    def run_ours(self, case: str, file: str) -> None:
        tag = f"{IMAGE}:local-{self.serial}"
        build = BUILD["ours"].format(file=file, tag=tag, base=BASE)
        pod = POD.format(tag=tag, policy="Never")
        self.run(case, "ours", f"{build}\n{pod}")


def ratio(mine: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, float]:
    """The ratio of medians, and its minimum and maximum by round, where both had the same noise."""
    pairs = [a["seconds"] / b["seconds"] for a, b in zip(mine, other, strict=False)]
    medians = [statistics.median(one["seconds"] for one in side) for side in (mine, other)]
    return {
        "of_medians": round(medians[0] / medians[1], 3),
        "min": round(min(pairs), 3),
        "max": round(max(pairs), 3),
        "n": len(pairs),
    }


def report(found: dict[str, Figures], versions: dict[str, str], svg: Path | None) -> None:
    figures: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    print("\n| case | builder | seconds | of legacy | client CPU s | daemon CPU s | MB |")
    print("|---|---|---|---|---|---|---|")
    for case, sides in found.items():
        if case.startswith("("):
            continue
        # A better Dockerfile is compared with legacy and the Dockerfile as it was.
        baseline = found[case.removeprefix("better Dockerfile, ")].get("legacy")
        for side, values in sides.items():
            seconds = spread([one["seconds"] for one in values])
            figures.setdefault(case, {})[side] = {
                key: spread([one[key] for one in values])
                for key in ("seconds", "client_cpu", "daemon_cpu", "mb")
            }
            text = ""
            if baseline and values is not baseline:
                compared = ratio(values, baseline)
                ratios.setdefault(case, {})[side] = compared
                text = f"{compared['of_medians']:.2f}"
                if compared["n"] > 1:
                    text += f" ({compared['min']:.2f} – {compared['max']:.2f})"
            told = f"{seconds['median']:.1f}"
            if seconds["n"] > 1:
                told += f" ({seconds['min']:.1f} – {seconds['max']:.1f})"
            middle = {
                key: figures[case][side][key]["median"]
                for key in ("client_cpu", "daemon_cpu", "mb")
            }
            print(
                f"| {case} | {side} | {told} | {text or '1'} | {middle['client_cpu']:.1f}"
                f" | {middle['daemon_cpu']:.1f} | {middle['mb']:.0f} |",
                flush=True,
            )
    if svg:
        svg.write_text(plot(figures), encoding="utf-8")
        say(f"plot in {svg}")
    last_line("build", unit="s", figures=figures, ratios=ratios, versions=versions)


def plot(figures: dict[str, Any]) -> str:
    """Bars of the medians, a group a case, as an SVG."""
    colours = {
        "legacy": "#7f8c8d",
        "embedded": "#5dade2",
        "ours": "#1e8449",
        "ours, gzip": "#82c99b",
        "buildah": "#d68910",
    }
    bars = [
        (case if not index else "", side, sides[side]["seconds"]["median"])
        for case, sides in figures.items()
        for index, side in enumerate(sides)
    ]
    most = max(seconds for _, _, seconds in bars)
    rows, y = [], 10
    for case, side, seconds in bars:
        if case:
            y += 24
            rows.append(f'<text x="10" y="{y}" font-weight="bold">{case}</text>')
            y += 6
        width = max(1, round(seconds / most * 440))
        rows.append(f'<rect x="110" y="{y}" width="{width}" height="14" fill="{colours[side]}"/>')
        rows.append(f'<text x="104" y="{y + 11}" text-anchor="end">{side}</text>')
        rows.append(f'<text x="{116 + width}" y="{y + 11}">{seconds:.1f} s</text>')
        y += 18
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {y + 10}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="640" height="{y + 10}" fill="white"/>{"".join(rows)}</svg>\n'
    )


def measure(arguments: argparse.Namespace) -> None:
    with cluster("bench-build") as made:
        made.lab("image", "node", "--cluster", made.name)
        say("migrating: docker, containerd and BuildKit are on one node then")
        made.playbook("homelab.containerd.migrate", "-e", "migrate_verify=false")
        bench = Bench(made, arguments)
        made.bash(PREPARE.replace("BASE", BASE))
        bench.context()
        if "small" in arguments.parts:
            bench.first()
        started = time.monotonic()
        for number in range(1, arguments.rounds + 1):
            left = ""
            if number > 1:
                each = (time.monotonic() - started) / (number - 1)
                left = f", about {each * (arguments.rounds - number + 1) / 60:.0f} min to go"
            say(f"round {number} of {arguments.rounds}{left}")
            if "small" in arguments.parts:
                bench.round(number)
            if "large" in arguments.parts:
                bench.larger()
        told = made.bash("buildctl --version; buildah --version; nodejs --version || true")
        versions = made.versions() | {"tools": " | ".join(told.splitlines())}
    report(bench.found, versions, arguments.svg)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("small", "large")
    parser.add_argument(
        "--parts", nargs="+", choices=parts, default=parts, help="which application"
    )
    parser.add_argument("--rounds", type=int, default=1, help="of everything (about 20 min each)")
    parser.add_argument("--changes", type=int, default=3, help="changes of a source file a round")
    parser.add_argument("--svg", type=Path, help="where to write the plot")
    parser.add_argument("--quiet", type=float, default=0.35, help="start below this share of CPU")
    parser.add_argument("--patience", type=float, default=20, help="seconds to wait for that")
    try:
        measure(parser.parse_args())
    except (Failure, subprocess.SubprocessError) as failure:
        print(f"bench/build.py: {failure}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node of its own for docker, containerd and the modules: inside.py DEVICE STEP…

Runs as the first process of PID and mount namespaces of its own, so that nobody else holds the
mount of the device, on which is all that the three keep. Prints the result of each step as JSON.
"""

from __future__ import annotations

import gzip
import json
import os
import pathlib
import subprocess
import sys
import time
import typing as t
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "molecule/images/files"))
import odd_images  # noqa: E402

STATE = pathlib.Path("/var/lib/homelab-containerd")
SOCKET = "/run/containerd/containerd.sock"
MODULES = "ansible_collections.homelab.containerd.plugins.modules."


def ctr(*words: str) -> str:
    return run("ctr", "-n", "k8s.io", *words)


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit("%s: %s%s" % (" ".join(words), done.stdout, done.stderr))
    return done.stdout


DISK = pathlib.Path("/run/disk")
NAMES = ("docker", "containerd", "homelab-containerd")


def own_directories(device: str) -> None:
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    DISK.mkdir()
    # Its journal is replayed, as at any boot.
    run("mount", device, str(DISK))
    for path in ("/etc/docker", "/etc/containerd"):
        os.makedirs(path, exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", path)
    for name in NAMES:
        (DISK / name).mkdir(exist_ok=True)
        os.makedirs("/var/lib/" + name, exist_ok=True)
        run("mount", "--bind", str(DISK / name), "/var/lib/" + name)


def start(log: pathlib.Path) -> list[subprocess.Popen[bytes]]:
    """containerd, and docker on it; the last to stop first."""
    docker = ["dockerd", "--containerd", SOCKET, "--bridge=none", "--iptables=false"]
    started: list[subprocess.Popen[bytes]] = []
    for words, answers in (
        (["containerd"], ["ctr", "version"]),
        ([*docker, "--storage-driver=overlay2"], ["docker", "version"]),
    ):
        with log.open("ab") as stream:
            started.insert(0, subprocess.Popen(words, stdout=stream, stderr=stream))
        deadline = time.monotonic() + 120
        while subprocess.run(answers, capture_output=True, check=False).returncode:
            if time.monotonic() > deadline or started[0].poll() is not None:
                raise SystemExit("%s does not answer: %s" % (words[0], log.read_text()[-3000:]))
            time.sleep(0.1)
    return started


def load() -> None:
    """Images with everything that a layer can have, and one of as many layers as docker takes.

    containerd has had images before, as on a node where it ran: its databases do not start empty.
    """
    odd_images.SMALL_FILES = 300
    odd = [odd_images.odd_layer(), odd_images.raw_name_layer(), odd_images.whiteout_layer()]
    steps = [odd_images.step_layer(number) for number in range(odd_images.MOST_LAYERS)]
    odd_images.load(
        {
            "home/odd:1": [*odd, odd_images.back_again_layer()],
            "home/on-odd:1": [*odd[:1], steps[0]],
            "home/deep:1": steps,
            "home/beside:1": [steps[1], *steps[3:30]],
            "home/had:1": [steps[1]],
        }
    )
    saved = subprocess.run(["docker", "save", "home/had:1"], stdout=subprocess.PIPE, check=True)
    subprocess.run(["ctr", "-n", "k8s.io", "images", "import", "-"], input=saved.stdout, check=True)


def module(name: str, **arguments: t.Any) -> dict[str, t.Any]:
    """A module's result, as it is on a node; "failed" where it failed."""
    given = pathlib.Path("/run/arguments.json")
    given.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
    done = subprocess.run(
        [sys.executable, "-m", MODULES + name, str(given)],
        env=dict(os.environ, PYTHONPATH=str(ROOT / ".collections")),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return t.cast("dict[str, t.Any]", json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError):
        return {"failed": True, "msg": done.stdout + done.stderr}


def carry_without_sync() -> dict[str, t.Any]:
    """As if nothing had been synced: what is then lost shows what the sync is for."""
    directory = pathlib.Path("/run/no-sync")
    directory.mkdir()
    (directory / "sync").symlink_to("/bin/true")
    path = os.environ["PATH"]
    os.environ["PATH"] = "%s:%s" % (directory, path)
    try:
        return module("carry_images", method="adopt")
    finally:
        os.environ["PATH"] = path


def entries(top: str) -> dict[str, t.Any]:
    """What of a layer's directory can be told without reading it."""
    found: dict[str, t.Any] = {}
    for place, directories, files in os.walk(os.fsencode(top)):
        for name in [*directories, *files]:
            path = os.path.join(place, name)
            stat = os.lstat(path)
            size = 0 if name in directories else stat.st_size
            found[repr(path[len(top) :])] = (stat.st_mode, stat.st_uid, stat.st_gid, size)
    return found


def broken() -> list[str]:
    """What containerd, or the collection's notes, say is there and is not whole."""
    docker = "/var/lib/docker"
    rows = [line.split() for line in ctr("snapshots", "list").splitlines()[1:]]
    committed = {row[0]: row[1] for row in rows if row[-1] == "Committed" and len(row) == 3}
    committed |= {row[0]: "" for row in rows if row[-1] == "Committed" and len(row) == 2}
    found = []
    seen: set[str] = set()
    for leaf in sorted(set(committed) - set(committed.values())):
        # One below another, the topmost first; a directory of its own for what is written.
        try:
            mounts = json.loads(ctr("snapshots", "prepare", "--mounts", "test-look", leaf))
        except SystemExit as exc:
            found.append(str(exc))
            continue
        ctr("snapshots", "delete", "test-look")
        (lower,) = (o[9:] for o in mounts[0]["Options"] if o.startswith("lowerdir="))
        chain = leaf
        for directory in lower.split(":"):
            record = "%s/image/overlay2/layerdb/sha256/%s" % (docker, chain.split(":")[1])
            if chain not in seen and os.path.isdir(record):
                cache_id = pathlib.Path(record, "cache-id").read_text()
                theirs = entries("%s/overlay2/%s/diff" % (docker, cache_id))
                if not os.path.isdir(directory):
                    found.append("%s has no directory" % chain)
                elif entries(directory) != theirs:
                    same = entries(directory).items() & theirs.items()
                    found.append("%s has %d of %d entries" % (chain, len(same), len(theirs)))
            seen.add(chain)
            chain = committed[chain]
    splits = list((STATE / "tar-split").glob("*.json.gz"))
    damaged = 0
    for split in splits:
        chain = split.name.split(".")[0]
        source = "%s/image/overlay2/layerdb/sha256/%s/tar-split.json.gz" % (docker, chain)
        try:
            with gzip.open(split) as ours, gzip.open(source) as original:
                whole = ours.read() == original.read()
        except (EOFError, OSError, zlib.error):
            whole = False
        damaged += not whole
    if damaged:
        found.append("%d of %d records of tar streams are not docker's" % (damaged, len(splits)))
    for note in STATE.glob("*.json"):
        try:
            json.loads(note.read_text())
        except ValueError:
            found.append("%s is no JSON" % note)
    return found


def left_over() -> list[str]:
    """What an adoption that ended well leaves behind: nothing but what it made."""
    found = [str(path) for path in (STATE / "adopting.json",) if path.exists()]
    found += [str(p) for p in pathlib.Path("/var/lib/containerd").glob("homelab-adopt")]
    for line in ctr("snapshots", "list").splitlines()[1:]:
        name = line.split()[0]
        if "homelab" in name or "gc.root" in ctr("snapshots", "info", name):
            found.append(name)
    return found


def incomplete() -> list[str]:
    lines = ctr("images", "check").splitlines()[1:]
    return [line for line in lines if "incomplete" in line or not line.rstrip().endswith("true")]


STEPS: dict[str, t.Callable[[], t.Any]] = {
    "load": load,
    "broken": broken,
    "carry": lambda: module("carry_images", method="adopt"),
    "carry without sync": carry_without_sync,
    "carry again": lambda: module("carry_images", method="adopt"),
    "compare": lambda: module("compare_images"),
    "restore": lambda: module("restore_blobs", restore="all"),
    "incomplete": incomplete,
    "left over": left_over,
}


def main() -> None:
    own_directories(sys.argv[1])
    daemons = start(pathlib.Path("/run/daemons.log"))
    # Not on standard output: programs write there.
    for step in sys.argv[2:]:
        print(json.dumps([step, STEPS[step]()]), file=sys.stderr, flush=True)
    for daemon in daemons:
        daemon.terminate()
        daemon.wait(60)
    # The end of a mount namespace gives its mounts back a moment later: too late for who copies.
    for path in (*("/var/lib/" + name for name in NAMES), str(DISK)):
        run("umount", path)


if __name__ == "__main__":
    main()

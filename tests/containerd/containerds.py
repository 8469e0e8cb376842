# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks real containerds, in containers of the lab's node image."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest
import stages

#: The node's own, which is Debian's.
OF_THE_NODE = "1.6.20"
VERSIONS = [OF_THE_NODE, stages.CONTAINERD_1_7, stages.CONTAINERD]
BOOTED, INVALID = "containerd successfully booted", "invalid plugin config"

#: In the container: dump each configuration, then start containerd with it until it has booted.
SCRIPT = f"""
for file in /work/in/*.toml; do
  name=$(basename $file .toml)
  $1 --config $file config dump >/work/out/$name.dump 2>/work/out/$name.dump.err
  echo $? >/work/out/$name.rc
  $1 --config $file --root /tmp/$name --state /tmp/$name/state --address /tmp/$name.sock \
    >/work/out/$name.log 2>&1 &
  for _try in $(seq 300); do
    grep -q '{BOOTED}' /work/out/$name.log && break
    kill -0 $! 2>/dev/null || break
    sleep 0.1
  done
  kill $!; wait $!
done
chown -R $2 /work/out
"""

#: In the container: pull an image of each registry, through its directory with a hosts.toml.
PULL_SCRIPT = f"""
$1 --root /tmp/root --state /tmp/state --address /tmp/c.sock >/work/out/log 2>&1 &
for _try in $(seq 300); do
  grep -q '{BOOTED}' /work/out/log && break
  sleep 0.1
done
for directory in /work/in/*; do
  registry=$(ls $directory)
  $(dirname $1)/ctr --address /tmp/c.sock images pull --hosts-dir $directory \\
    $registry/image:1 >/work/out/$(basename $directory).pull 2>&1
done
kill $!; wait $!
chown -R $2 /work/out
"""


class Answers:
    """What a containerd made of a batch of configurations, by their names."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory

    def dump(self, name: str) -> str:
        """What `containerd config dump` printed; fails where it did not take the file."""
        error = (self.directory / f"{name}.dump.err").read_text(encoding="utf-8")
        code = (self.directory / f"{name}.rc").read_text(encoding="ascii").strip()
        assert code == "0", error
        return (self.directory / f"{name}.dump").read_text(encoding="utf-8")

    def pull(self, name: str) -> str:
        """What ctr said of a pull; it fails, since there is no network."""
        return (self.directory / f"{name}.pull").read_text(encoding="utf-8")

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(encoding="utf-8")


def versions_of(config: pytest.Config) -> list[str]:
    """Those that the command line asks for."""
    versions = str(config.getoption("--containerds"))
    return VERSIONS if versions == "all" else versions.split(",")


def ask(containerd: str, work: pathlib.Path, texts: dict[str, str]) -> Answers:
    """Give configurations to a containerd: texts by their names."""
    (work / "in").mkdir()
    for name, text in texts.items():
        (work / "in" / f"{name}.toml").write_text(text, encoding="utf-8")
    return _run(containerd, work, SCRIPT)


def ask_hosts(containerd: str, work: pathlib.Path, texts: dict[str, tuple[str, str]]) -> Answers:
    """Give hosts.toml files to a containerd: (registry, text) by their names."""
    for name, (registry, text) in texts.items():
        directory = work / "in" / name / registry
        directory.mkdir(parents=True)
        (directory / "hosts.toml").write_text(text, encoding="utf-8")
    return _run(containerd, work, PULL_SCRIPT)


def _run(containerd: str, work: pathlib.Path, script: str) -> Answers:
    plan = stages.Plan()
    if not plan.node.ready():
        pytest.exit("The lab is not built: run `make configs`.", returncode=2)
    program = "/usr/bin/containerd"
    if containerd != OF_THE_NODE:
        stage = plan.containerds[containerd]
        if not stage.ready():
            pytest.exit("The lab lacks containerd %s: run `make configs-all`." % containerd, 2)
        # Not with tarfile: bookworm's Python 3.11.2 has no filters yet, and newer ones want one.
        tarball = next(stage.path.glob("*.tar.gz"))
        subprocess.run(["tar", "-xf", tarball, "-C", work, "bin"], check=True)
        program = "/work/bin/containerd"
    (work / "out").mkdir()
    command = ["docker", "run", "--rm", "--network=none", "-v", f"{work}:/work"]
    command += ["--entrypoint=sh", plan.node.image, "-c", script, "sh", program]
    done = subprocess.run(
        [*command, f"{os.getuid()}:{os.getgid()}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Answers(work / "out")

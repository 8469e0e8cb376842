# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node with docker's images and containerd beside it, and what the tests do to both."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from testinfra.host import Host

PLAYBOOK = Path(__file__).parents[1] / "carry.yml"
#: Overlayfs may not show a file that says of itself where its content is; the two differ in that.
POINTING = "home/pointing:1"
STAGING = "/var/lib/containerd/homelab-adopt"
JOURNAL = "/var/lib/homelab-containerd/adopting.json"


class Node:
    def __init__(self, host: Host, inventory: str, directory: Path) -> None:
        self.host, self.inventory, self.directory = host, inventory, directory

    def sh(self, script: str) -> str:
        done = self.host.run("bash -euo pipefail -c %s", script)
        assert done.rc == 0, f"{script}\n{done.stdout}{done.stderr}"
        return str(done.stdout).strip()

    def ok(self, script: str) -> bool:
        return bool(self.host.run("bash -euo pipefail -c %s", script).rc == 0)

    def ctr(self, words: str) -> str:
        return self.sh("ctr -n k8s.io " + words)

    # --- the collection's modules ---

    def begin(self, what: str, **more: Any) -> subprocess.Popen[str]:
        self.outcome = self.directory / "outcome.json"
        self.outcome.unlink(missing_ok=True)
        variables = {"what": what, "outcome": str(self.outcome), **more}
        return subprocess.Popen(
            ["ansible-playbook", "-i", self.inventory, PLAYBOOK, "-e", json.dumps(variables)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"ANSIBLE_FORCE_COLOR": "0"},
        )

    def end(self, running: subprocess.Popen[str]) -> tuple[int, str]:
        said = running.communicate(timeout=600)[0]
        return running.returncode, " ".join(said.split())

    def interrupt(self, what: str, moment: str, script: str) -> tuple[int, str]:
        """Run it, and the script on the node as soon as the moment's condition holds.

        The node itself waits: seen over a connection, a short moment is over.
        """
        running = self.begin(what)
        try:
            self.sh(
                f"set +o pipefail; until {{ {moment}; }}; do test $SECONDS -lt 400; sleep 0.02;"
                f" done; {script}"
            )
        finally:
            ended = self.end(running)
        return ended

    def do(self, what: str, **more: Any) -> Any:
        """Run it, and return its result; the test fails where it does."""
        code, said = self.end(self.begin(what, **more))
        assert code == 0, said
        return json.loads(self.outcome.read_text()) if self.outcome.exists() else None

    def refused(self, what: str, **more: Any) -> str:
        code, said = self.end(self.begin(what, **more))
        assert code != 0, said
        return said

    # --- the state ---

    def forget(self) -> None:
        """Take from containerd all images, and from the node what we noted of them."""
        self.sh(
            "ctr -n k8s.io images list -q | xargs -r ctr -n k8s.io images rm --sync;"
            "rm -rf /var/lib/homelab-containerd/{adopted.json,adopting.json,tar-split}"
        )
        self.collect()
        self.wait(lambda: self.ctr("snapshots list | sed 1d") == "", "no snapshot is left")

    def collect(self) -> None:
        """Run containerd's garbage collection, now."""
        self.ctr("leases create --id test-gc")
        self.ctr("leases rm --sync test-gc")

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{seconds} s were not enough until {what}"
            time.sleep(0.05)

    def images(self) -> list[str]:
        """Those that docker has a name for, and containerd can show as docker does."""
        listed = json.loads(
            self.sh("curl -s --unix-socket /var/run/docker.sock http://x/images/json")
        )
        return [
            image["Id"]
            for image in listed
            if any(name not in ("<none>:<none>", POINTING) for name in image["RepoTags"] or ())
        ]

    def compare(self) -> Any:
        """Every image that docker has is the same in containerd, file by file."""
        compared = self.do("compare", images=self.images())["compared"]
        assert compared
        return compared

    def assert_clean(self) -> None:
        """Nothing of an adoption is left but what it made."""
        assert not self.host.file(STAGING).exists
        assert not self.host.file(JOURNAL).exists
        assert "homelab-adopt" not in self.ctr("snapshots list")
        marked = self.sh(
            "ctr -n k8s.io snapshots list | awk 'NR > 1 {print $1}' |"
            " xargs -r -n1 -P4 ctr -n k8s.io snapshots info | grep -c gc.root || true"
        )
        assert marked == "0"

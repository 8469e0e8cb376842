# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""buildctl on a machine: builds at once or in the background, for the scenarios' tests."""

from __future__ import annotations

import re
import secrets
import shlex
import time

from nodes import Node, Output

SOCKET = "unix:///run/buildkit/buildkitd.sock"
BASE = "registry.lab:5000/base:1"


class Builds:
    def __init__(self, node: Node) -> None:
        self.node = node

    def command(
        self, dockerfile: str, name: str = "", options: str = "", address: str = SOCKET
    ) -> str:
        """buildctl's command line for a Dockerfile, with a context of its own."""
        directory = "/tmp/build-" + secrets.token_hex(4)
        self.node.sh(
            f"mkdir {directory} && printf %s {shlex.quote(dockerfile)} >{directory}/Dockerfile"
        )
        output = f"--output=type=image,name={name},unpack=true" if name else ""
        return (
            f"buildctl --addr={address} {options} build --progress=plain --frontend=dockerfile.v0"
            f" --local=context={directory} --local=dockerfile={directory}"
            f" --opt=image-resolve-mode=local {output}"
        )

    def run(
        self, dockerfile: str, name: str = "", options: str = "", address: str = SOCKET
    ) -> Output:
        return self.node.run(self.command(dockerfile, name, options, address) + " 2>&1")

    def succeed(self, dockerfile: str, name: str = "", options: str = "") -> Output:
        output = self.run(dockerfile, name, options)
        self.node.check(output.rc == 0, "a build that succeeds", output, "buildkit", "containerd")
        return output

    def start(self, dockerfile: str, name: str = "") -> Background:
        return Background(self.node, self.command(dockerfile, name))


class Background:
    """A build that goes on while the test does something else."""

    def __init__(self, node: Node, command: str) -> None:
        self.node = node
        self.log = f"/tmp/log-{secrets.token_hex(4)}"
        node.sh(f"setsid sh -c '{command}; echo rc=$?' >{self.log} 2>&1 </dev/null &")

    def wait_for(self, pattern: str, seconds: float = 60) -> str:
        """Wait until the log has the pattern; answers the log."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, text := self.node.text(self.log) or ""):
            self.node.check(
                time.monotonic() < deadline, f"{pattern} in the log", text, "buildkit", "containerd"
            )
            time.sleep(0.2)
        return text

    def end(self, seconds: float = 150) -> Output:
        text = self.wait_for(r"(?m)^rc=\d+$", seconds)
        return Output("the build", int(text.rsplit("rc=", 1)[1]), text, "")


def slow(token: str, seconds: int = 8) -> str:
    """A Dockerfile with a step that says when it begins, and takes a while."""
    return f"FROM {BASE}\nRUN echo begin-{token}; sleep {seconds}; echo end-{token} >/done\n"

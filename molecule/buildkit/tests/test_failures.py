# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What breaks in the middle of a build is said, leaves nothing behind, and the next build works."""

from __future__ import annotations

import time

from buildctl import BASE, Builds, slow
from nodes import Node


def left_behind(node: Node) -> str:
    """What steps of builds leave in containerd when nobody cleans up after them."""
    return node.sh(
        "ctr -n k8s.io containers list -q 2>/dev/null;"
        " pgrep --full --list-full [c]ontainerd-shim || true"
    )


def wait_until_clean(node: Node, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while left := left_behind(node):
        node.check(time.monotonic() < deadline, "nothing left in containerd", left, "buildkit")
        time.sleep(0.5)


def used(node: Node, path: str) -> int:
    return int(node.sh(f"df --output=used --block-size=1M {path}").split()[-1])


def test_restart_of_buildkitd_waits_for_the_build(node: Node, builds: Builds, token: str) -> None:
    build = builds.start(slow(token))
    build.wait_for(f"[0-9.]+ begin-{token}")
    # Both return only when the build in flight is done; the second client waits at the socket.
    node.sh("systemctl restart --no-block buildkit.service")
    later = builds.start(f"FROM {BASE}\nRUN echo later-{token}\n")
    for ended in (build.end(), later.end()):
        node.check(ended.rc == 0, "a build that is not disturbed", ended, "buildkit")
    wait_until_clean(node)


def test_restart_of_containerd_waits_for_the_build(node: Node, builds: Builds, token: str) -> None:
    build = builds.start(slow(token))
    build.wait_for(f"[0-9.]+ begin-{token}")
    node.sh("systemctl restart containerd.service", "containerd")
    ended = build.end()
    node.check(ended.rc == 0, "a build that is not disturbed", ended, "buildkit", "containerd")
    builds.succeed(f"FROM {BASE}\nRUN echo next-{token}\n")
    wait_until_clean(node)


def test_buildkitd_is_killed(node: Node, builds: Builds, token: str) -> None:
    build = builds.start(slow(token, 600))
    build.wait_for(f"[0-9.]+ begin-{token}")
    node.sh("systemctl kill --kill-who=main --signal=KILL buildkit.service")
    ended = build.end()
    node.check(ended.rc != 0, "a client that notices", ended)
    assert "error reading from server: EOF" in ended.stdout, ended
    builds.succeed(f"FROM {BASE}\nRUN echo next-{token}\n")
    wait_until_clean(node)


def test_containerd_is_killed(node: Node, builds: Builds, token: str) -> None:
    build = builds.start(slow(token, 600))
    build.wait_for(f"[0-9.]+ begin-{token}")
    node.sh("systemctl kill --kill-who=main --signal=KILL containerd.service")
    # Not after the time that a drain may take: nothing can come of this build any more.
    ended = build.end(30)
    node.check(ended.rc != 0, "a client that notices", ended)
    assert "error reading from server: EOF" in ended.stdout, ended
    # Everything comes back by itself: containerd after its RestartSec, buildkitd with it.
    builds.succeed(f"FROM {BASE}\nRUN echo next-{token}\n")
    wait_until_clean(node)


def test_disk_is_full(node: Node, builds: Builds, token: str) -> None:
    before = used(node, "/var/lib/containerd")
    output = builds.run(
        f"FROM {BASE}\nRUN echo {token}; dd if=/dev/zero of=/big bs=1M count=4000 && echo fits\n"
    )
    node.check(output.rc != 0, "a build that does not fit", output)
    assert "No space left on device" in output.stdout, output
    assert "Dockerfile:2" in output.stdout, output
    builds.succeed(f"FROM {BASE}\nRUN echo next-{token}\n")
    wait_until_clean(node)
    deadline = time.monotonic() + 30
    while (now := used(node, "/var/lib/containerd")) > before + 50:
        node.check(time.monotonic() < deadline, f"{before} MB, as before", f"{now} MB")
        time.sleep(1)

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image to build from that no registry has outlives what the kubelet's image GC does to it."""

from __future__ import annotations

from buildctl import BASE, Builds
from nodes import Node, forget_image

NAME = "docker.io/home/kept-base:1"
KEEP = "systemctl start homelab-keep-images.service"


def pinned(node: Node) -> bool:
    listed = node.sh(f"ctr -n k8s.io images list name=={NAME} 2>/dev/null")
    return "io.cri-containerd.pinned=pinned" in listed


def test_kept_image(node: Node, builds: Builds, token: str) -> None:
    node.sh("systemctl is-active homelab-keep-images.timer")
    builds.succeed(f"FROM {BASE}\nRUN echo {token} >/token\n", NAME)
    node.sh(KEEP, "homelab-keep-images")
    assert pinned(node)

    # The same name again: the exporter drops the label.
    builds.succeed(f"FROM {BASE}\nRUN echo {token}2 >/token\n", NAME)
    assert not pinned(node)
    node.sh(KEEP, "homelab-keep-images")
    assert pinned(node)

    # What a kubelet that does not support pinning does: all names, and the layers with them.
    forget_image(node, NAME)
    node.sh("buildctl --addr=unix:///run/buildkit/buildkitd.sock prune --all")
    lost = builds.run(f"FROM {NAME}\nRUN grep {token}2 /token\n")
    node.check(lost.rc != 0, "a build that finds no base", lost)
    node.sh(KEEP, "homelab-keep-images")
    assert pinned(node)
    builds.succeed(f"FROM {NAME}\nRUN grep {token}2 /token\n")

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache outlives buildkitd and containerd; see also the tests after the restart."""

from __future__ import annotations

import pytest
from buildctl import BASE, Builds
from nodes import Node


@pytest.mark.parametrize("unit", ["buildkit.service", "containerd.service"])
def test_cache_survives_a_restart(node: Node, builds: Builds, token: str, unit: str) -> None:
    recipe = f"FROM {BASE}\nRUN echo {token} >/x\n"
    builds.succeed(recipe)
    node.sh(f"systemctl restart {unit}", unit)
    output = builds.succeed(recipe)
    node.check("CACHED" in output.stdout, "the step is CACHED", output, "buildkit")


def test_build_what_the_restart_has_to_leave(builds: Builds) -> None:
    builds.succeed(f"FROM {BASE}\nRUN echo survivor >/x\n", "docker.io/home/survivor:1")

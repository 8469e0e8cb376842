# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a restart of the machine: BuildKit runs, and has its cache."""

from __future__ import annotations

from buildctl import BASE, Builds


def test_cache_survived(builds: Builds) -> None:
    output = builds.succeed(f"FROM {BASE}\nRUN echo survivor >/x\n", "docker.io/home/survivor:1")
    builds.node.check("CACHED" in output.stdout, "the step is CACHED", output, "buildkit")

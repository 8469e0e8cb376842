# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Power cuts while images are adopted: make power-cut."""

from __future__ import annotations

import pathlib
import random
import shutil

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ("qemu-storage-daemon", "containerd", "ctr", "dockerd", "docker", "losetup", "unshare")
if not (ROOT / ".collections/ansible_collections/homelab/containerd").exists():
    pytest.exit("There is no .collections in this checkout: run `make setup` first.", returncode=2)
missing = [name for name in PROGRAMS if not shutil.which(name)]
if missing:
    pytest.exit("Not installed: %s. Run `make power-cut`." % ", ".join(missing), returncode=2)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cuts", type=int, default=8, help="power cuts on each file system")
    parser.addoption(
        "--seed",
        type=int,
        default=random.SystemRandom().randrange(10**6),
        help="repeats the choice of a run that printed it",
    )

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real containerds, in containers of the lab's node image: make configs."""

from __future__ import annotations

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
if not (ROOT / ".collections/ansible_collections/homelab/containerd").exists():
    pytest.exit("There is no .collections in this checkout: run `make setup` first.", returncode=2)
sys.path[:0] = [str(ROOT / ".collections"), str(ROOT / "lab"), str(ROOT / "tests/unit")]

from containerds import OF_THE_NODE, VERSIONS  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--containerds",
        default=OF_THE_NODE,
        help="versions to ask, separated by commas, or all of %s" % ", ".join(VERSIONS),
    )

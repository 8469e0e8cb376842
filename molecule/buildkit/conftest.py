# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the scenario's own tests."""

from __future__ import annotations

import pathlib
import secrets
import sys

import pytest
from testinfra.host import Host

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "verify"), str(ROOT / "molecule/shared")]

from buildctl import Builds  # noqa: E402
from nodes import Node  # noqa: E402


@pytest.fixture
def node(host: Host) -> Node:
    return Node(host, host.backend.hostname)


@pytest.fixture
def builds(node: Node) -> Builds:
    return Builds(node)


@pytest.fixture
def token() -> str:
    """Nothing that was built before has it."""
    return secrets.token_hex(8)

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the parts of the report share: types, phases, and reading of loose data."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import Phase, Severity

#: In the order of a migration. All nodes are in "prepare" and in "buildkit" at once; "switch" is a
#: batch of nodes after the other; "verify" goes from node to node.
PHASES: tuple[Phase, ...] = ("prepare", "switch", "buildkit", "verify")
SEVERITIES: tuple[Severity, ...] = ("blocker", "warning", "overridden")
Map = Mapping[str, t.Any]
Object = dict[str, t.Any]


def read_list(value: Map, key: str) -> list[t.Any]:
    return list(value.get(key) or [])


def read_count(value: t.Any, otherwise: int = 0) -> int:
    return value if isinstance(value, int) else otherwise


def read_number(value: t.Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0

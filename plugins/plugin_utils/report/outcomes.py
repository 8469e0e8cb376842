# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of each node after a migration, from the variables of the play's hosts."""

from __future__ import annotations

import base64
import json
import typing as t
from collections.abc import Mapping, Sequence

Variables = Mapping[str, t.Any]


def _records(host: Variables) -> tuple[t.Any, t.Any]:
    """before.json and switch.json, {} where the node has none."""
    results = (host.get("__report_records") or {}).get("results") or []
    texts = [base64.b64decode(result.get("content") or "e30=") for result in results]
    before, journal = [json.loads(text) for text in texts] or ({}, {})
    return before, journal


def report_outcomes(hosts: Sequence[Variables], now: float) -> list[dict[str, t.Any]]:
    """The option `outcomes` of show_report, from the variables of the play's hosts.

    The start of a node's phase is the end of the phase before it, on whichever node: the
    plays run one after the other.
    """
    carries = [host.get("carry_images_result") or {} for host in hosts]
    switches = [host.get("switch_runtime_result") or {} for host in hosts]
    carried = [float(carry["end"]) for carry in carries if carry.get("end")]
    switched = [
        float(switch["end"]) for switch in switches if switch.get("end") and switch.get("changed")
    ]
    outcomes = []
    for host, carry, switch in zip(hosts, carries, switches, strict=True):
        before, journal = _records(host)
        start = switch.get("start")
        times = host.get("verify_times") or {}
        earlier = [at for at in carried + switched if start and at <= start]
        marks = {
            "prepare": host.get("assess_time"),
            "prepared": carry.get("start"),
            "switch": max(earlier, default=None),
            "buildkit": max(switched, default=None),
            "verify": times.get("start") or now,
            "end": times.get("end"),
        }
        outcomes.append(
            {
                "node": host["inventory_hostname"],
                "before": before,
                "journal": journal,
                "buildkit": bool((host.get("__report_buildkit") or {})["stat"]["exists"]),
                "marks": {name: at for name, at in marks.items() if at},
                "carry": dict(carry),
                "switch": dict(switch),
                "verify": list(host.get("verify_results") or []),
            }
        )
    return outcomes

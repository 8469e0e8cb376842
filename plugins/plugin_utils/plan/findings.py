# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings: what stands against a migration (HC1xx, blockers) or has to be known (HC2xx).

A finding is {"code", "text", "evidence": {"node", "file", "key", "value"}, "remedy"}; codes are
stable, and docs/codes.md has a section for each.
"""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.sanitize import clean

Finding = dict[str, t.Any]


class Findings:
    def __init__(self, node: str) -> None:
        self.node = node
        self.blockers: list[Finding] = []
        self.warnings: list[Finding] = []

    def add(
        self,
        code: str,
        text: str,
        remedy: str,
        file: str | None = None,
        key: str | None = None,
        value: t.Any = None,
        node: str | None = None,
    ) -> None:
        finding = {
            "code": code,
            "text": text,
            "evidence": {"node": node or self.node, "file": file, "key": key, "value": value},
            "remedy": remedy,
        }
        (self.blockers if code.startswith("HC1") else self.warnings).append(finding)

    def result(self, overrides: t.Container[str]) -> dict[str, list[Finding]]:
        """{"warnings", "blockers", "overridden"}: a blocker is overridden by its own code alone."""
        return {
            "warnings": self.warnings,
            "blockers": [entry for entry in self.blockers if entry["code"] not in overrides],
            "overridden": [entry for entry in self.blockers if entry["code"] in overrides],
        }


def describe(finding: Finding) -> str:
    """A finding as the one paragraph that a person reads, fit for a terminal."""
    finding = clean(finding)
    evidence = finding["evidence"]
    place = ", ".join(
        "%s %s" % (name, evidence[name])
        for name in ("node", "file", "key", "value")
        if evidence.get(name) not in (None, "")
    )
    return "%s: %s (%s). %s" % (finding["code"], finding["text"], place, finding["remedy"])

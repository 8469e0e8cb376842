# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings: what blocks a migration (HC1xx, blockers) or has to be known (HC2xx, warnings).

Codes are stable; codes.yml says what each means and what to do about it.
"""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host.sanitize import shown
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
    Finding,
    FoundFindings,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan import codes


class Findings:
    def __init__(self, node: str) -> None:
        self.node = node
        self.blockers: list[Finding] = []
        self.warnings: list[Finding] = []

    def add(
        self,
        code: str,
        text: str,
        *,
        remedy: str | None = None,
        file: str | None = None,
        key: str | None = None,
        value: object = None,
        node: str | None = None,
    ) -> None:
        """remedy: where the one of codes.yml does not fit this case."""
        finding: Finding = {
            "code": code,
            "text": text,
            "evidence": {"node": node or self.node, "file": file, "key": key, "value": value},
            "remedy": remedy or codes.remedy(code),
        }
        (self.blockers if code.startswith("HC1") else self.warnings).append(finding)

    def result(self, overrides: t.Container[str]) -> FoundFindings:
        """A blocker is overridden by its own code alone."""
        return {
            "warnings": self.warnings,
            "blockers": [entry for entry in self.blockers if entry["code"] not in overrides],
            "overridden": [entry for entry in self.blockers if entry["code"] in overrides],
        }


def describe(finding: Finding) -> str:
    """A finding as the one paragraph that a person reads, fit for a terminal."""
    finding = shown(finding)
    evidence = finding["evidence"]
    parts = {
        "node": evidence["node"],
        "file": evidence["file"],
        "key": evidence["key"],
        "value": evidence["value"],
    }
    place = ", ".join(
        "%s %s" % (name, value) for name, value in parts.items() if value not in (None, "")
    )
    return "%s: %s (%s). %s" % (finding["code"], finding["text"], place, finding["remedy"])

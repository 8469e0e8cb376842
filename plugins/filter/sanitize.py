# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters for what tasks show."""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import sanitize


def shown(text: t.Any) -> str:
    """A program's output without secrets and without control characters, in its lines."""
    return sanitize.shown_lines(str(text))


def has_secrets(text: t.Any, form: str) -> bool:
    """Whether a file may not be shown in a diff: module_utils/_host/sanitize.py decides."""
    return sanitize.has_secrets(str(text), form)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "has_secrets": has_secrets,
            "shown": shown,
        }

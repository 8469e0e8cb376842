# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the report needs of the hosts' variables; see the .yml file beside this one."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

from ansible_collections.homelab.containerd.plugins.plugin_utils.report import outcomes


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"report_outcomes": outcomes.report_outcomes}

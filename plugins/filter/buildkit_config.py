# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters of the role buildkit; see the .yml files beside this one for each."""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.plugin_utils import (
    buildkit_config,
    buildkit_plan,
)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "buildkitd_toml": buildkit_config.buildkitd_toml,
            "buildkit_plan": buildkit_plan.decide,
        }

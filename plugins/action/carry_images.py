# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.homelab.containerd.plugins.plugin_utils.detached_action import (
    DetachedAction,
)


class ActionModule(DetachedAction):
    module = "homelab.containerd.carry_images"

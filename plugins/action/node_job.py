# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.plugin_utils.detached_action import (
    DetachedAction,
    Killed,
)


class ActionModule(DetachedAction):
    """Waits for the job that the module of this name finds, and fails as it does."""

    module = "homelab.containerd.node_job"

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        task_vars = task_vars or {}
        found = dict(self._execute_module(module_name=self.module, task_vars=task_vars))
        if found.get("failed") or not found.get("job") or self._task.check_mode:
            return found
        try:
            result = self._attach(found["job"], task_vars)
        except Killed:
            return found  # it holds no lock any more, and this run does what it has not done
        return dict(found, **{key: result[key] for key in ("failed", "msg") if key in result})

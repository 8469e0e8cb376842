# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bounds of the switch's options that are numbers of seconds."""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import commands

LIMITS = {"ready_timeout": (0, 3600), "pods_timeout": (0, 86400), "grace_seconds": (0, 3600)}


def check(params: t.Dict[str, t.Any]) -> None:
    for name, (least, most) in LIMITS.items():
        if not least <= params[name] <= most:
            raise commands.NodeError(
                "%s is %d: it has to be from %d to %d. Nothing was changed."
                % (name, params[name], least, most)
            )

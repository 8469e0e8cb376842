# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What depends on a version of Kubernetes; see the .yml files beside this one."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import versions


def has_dockershim(version: str | None) -> bool:
    """Whether a kubelet of this version has dockershim built in; without a kubelet it is false."""
    parsed = versions.parse_version(version)
    return parsed is not None and versions.has_dockershim(parsed)


def drain_arguments(arguments: list[str], version: str) -> list[str]:
    """Arguments of kubectl drain, as a cluster of this version calls them."""
    return versions.drain_arguments(arguments, versions.parse_version(version) or (1, 37))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"drain_arguments": drain_arguments, "has_dockershim": has_dockershim}

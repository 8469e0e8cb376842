# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""containerd's directories of registries; see registry_directories.yml."""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.filter.containerd_config import (
    containerd_config_paths,
    containerd_registries,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.registry_directories import (
    changes,
    merge_registries,
)


def registry_directories(
    found: list[dict[str, t.Any]],
    registries: list[dict[str, t.Any]],
    config: str,
    certs_dir: str,
) -> dict[str, list[dict[str, str]]]:
    """What to write and to link, from the text of config.toml."""
    return changes(
        found,
        merge_registries(registries, containerd_registries(config)),
        containerd_config_paths(config),
        certs_dir.rstrip("/"),
    )


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"registry_directories": registry_directories}

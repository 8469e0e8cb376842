# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters that write what containerd reads of registries."""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config import registries


def docker_certificates(paths: list[str]) -> dict[str, t.Any]:
    """Files below /etc/docker/certs.d by their registry (plugin_utils/docker_config)."""
    found: dict[str, list[str]] = {}
    for path in paths:
        directory, _slash, name = path.rpartition("/")
        found.setdefault(directory, []).append(name)
    return {
        directory.rpartition("/")[2]: registries.certificates(directory, names)
        for directory, names in found.items()
    }


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "docker_certificates": docker_certificates,
            "hosts_toml": registries.hosts_toml,
        }

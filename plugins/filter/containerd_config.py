# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters that read and write containerd's configuration."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import versions
from ansible_collections.homelab.containerd.plugins.plugin_utils import toml
from ansible_collections.homelab.containerd.plugins.plugin_utils.containerd_config import (
    Settings,
    config_paths_of,
    merge_settings,
    problem,
    registries_of,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.result import (
    Registry,
)

HEADER = "# Ansible managed: homelab.containerd sets the CRI keys here and keeps the others."


def containerd_config(existing: str, settings: dict[str, t.Any]) -> str:
    """config.toml with our settings in it: plugin_utils/containerd_config.py over tomlkit."""
    try:
        document = toml.parse(existing or "")
        merge_settings(document, t.cast(Settings, settings))
    except ValueError as exc:
        raise AnsibleFilterError("containerd's config.toml: %s" % exc) from exc
    text = toml.dump(document)
    return text if text.startswith(HEADER) else HEADER + "\n" + text


def containerd_registries(existing: str) -> list[Registry]:
    """The registries of a config.toml's CRI, which containerd_config removes from it."""
    document = toml.parse(existing or "").unwrap()
    return [] if problem(document) else registries_of(document)


def containerd_config_paths(existing: str) -> list[str]:
    """The directories that a config.toml's CRI reads hosts.toml files from."""
    document = toml.parse(existing or "").unwrap()
    return [] if problem(document) else config_paths_of(document)


def containerd_config_version(containerd: str) -> int:
    version = versions.parse_version(containerd)
    if version is None:
        raise AnsibleFilterError("not a version of containerd: %r" % containerd)
    return versions.config_version(version)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "containerd_config": containerd_config,
            "containerd_config_paths": containerd_config_paths,
            "containerd_config_version": containerd_config_version,
        }

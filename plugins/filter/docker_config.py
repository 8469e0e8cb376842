# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters that translate docker's configuration."""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._docker import daemon_config
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config import translation
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.result import (
    Translated,
)


def translate_daemon_json(
    daemon_json: t.Any,
    flags: t.Any = (),
    certs_d: dict[str, t.Any] | None = None,
    environment: dict[str, str] | str | None = None,
    path: str = daemon_config.DAEMON_JSON,
) -> Translated:
    """What becomes of docker's configuration, from its text (plugin_utils/docker_config).

    flags and environment may also be texts as /proc/PID/cmdline and /proc/PID/environ have them.
    """
    if isinstance(flags, str):
        words = [word for word in flags.split("\0") if word]
    elif isinstance(flags, dict):
        words = ["--%s=%s" % item for item in flags.items()]
    else:
        words = [str(word) for word in flags] if isinstance(flags, (list, tuple)) else []
    if isinstance(environment, str):
        pairs = [pair.partition("=") for pair in environment.split("\0")]
        environment = {name: value for name, _equals, value in pairs}
    value, error = daemon_json, None
    duplicates: list[str] = []
    if isinstance(daemon_json, str):
        value, error, duplicates = daemon_config.parse(daemon_json)
    elif not isinstance(daemon_json, dict):
        value, error = (
            {},
            "a JSON object is expected, found %s" % daemon_config.type_of(daemon_json),
        )
    found = translation.translate(
        value, words, certs_d, environment, path=path, duplicates=duplicates
    )
    if error:
        found["problems"].insert(0, {"key": "", "text": error})
    return found


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "translate_daemon_json": translate_daemon_json,
        }

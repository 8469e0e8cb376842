# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of the operating system."""

from __future__ import annotations

import os
import platform
import shutil
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import files

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        OsFacts,
    )


def os_facts() -> OsFacts:
    release = {}
    for line in (files.read_text("/etc/os-release") or "").splitlines():
        key, separator, value = line.partition("=")
        if separator:
            release[key] = value.strip('"')
    return {
        "id": release.get("ID"),
        "pretty_name": release.get("PRETTY_NAME"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cgroup_version": 2 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1,
        "systemd": os.path.isdir("/run/systemd/system"),
    }


def find_program(*names: str) -> t.Optional[str]:
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/opt/bin"
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    return None


def environment(pid: int) -> t.Dict[str, str]:
    """A process's environment as it was started with."""
    words = (files.read_text("/proc/%d/environ" % pid) or "").split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)

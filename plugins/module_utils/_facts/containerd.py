# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of containerd."""

from __future__ import annotations

import mmap
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._containerd import client, config
from ansible_collections.homelab.containerd.plugins.module_utils._facts.host import find_program
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    files,
    paths,
    sanitize,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        ContainerdFacts,
        ImportedConfig,
    )


def containerd_imports(text: str) -> t.List[ImportedConfig]:
    """The files that a config.toml imports."""
    return [
        {"path": path, "text": sanitize.blank_toml(files.read_text(path) or "")}
        for path in config.imported(text)
    ]


def supports_image_pinning(binary: str) -> bool:
    """Whether CRI marks pinned images: the label is in the program from 1.6.22 and 1.7.3 on.

    Distributions backport, so the program itself is asked rather than a table of versions.
    """
    try:
        with open(binary, "rb") as stream:
            # 50 MB: searched in place, not copied.
            program = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return program.find(b"io.cri-containerd.pinned") >= 0
    except (OSError, ValueError):
        return False


def running_tasks(listed: str) -> t.Dict[str, int]:
    """Container ID to process ID, out of what "ctr tasks list" prints."""
    rows = [line.split() for line in listed.splitlines()]
    return {
        row[0]: int(row[1])
        for row in rows
        if len(row) == 3 and row[2] != "STOPPED" and row[1].isdigit()
    }


def containerd_facts() -> ContainerdFacts:
    binary = find_program("containerd")
    text, why = files.read(paths.CONTAINERD_CONFIG)
    effective = config.effective(binary)
    found: ContainerdFacts = {
        "binary": binary,
        "version": None,
        "active": commands.unit_active("containerd.service"),
        "config_path": paths.CONTAINERD_CONFIG,
        "config_text": None if text is None else sanitize.blank_toml(text),
        "config_error": why,
        "cri_ready": False,
        "pins_images": False,
        "images": [],
        "root": config.root(effective),
        "snapshotter": config.snapshotter(effective),
        "imports": containerd_imports(text or ""),
        "newer_files": config.newer_files(Host()),
        "docker_tasks": {},
    }
    if not binary:
        return found
    words = commands.run([binary, "--version"], check=False).stdout.split()
    found["version"] = words[2] if len(words) > 2 else None
    found["pins_images"] = supports_image_pinning(binary)
    if found["active"]:
        plugins = commands.run(["ctr", "plugins", "list"], check=False).stdout
        found["cri_ready"] = client.cri_ready(plugins)
        images = commands.run(
            ["ctr", "-n", client.NAMESPACE, "images", "list", "-q"], check=False
        ).stdout
        found["images"] = [line for line in images.splitlines() if line]
        tasks = commands.run(["ctr", "-n", "moby", "tasks", "list"], check=False).stdout
        found["docker_tasks"] = running_tasks(tasks)
    return found

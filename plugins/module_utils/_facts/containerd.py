# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of containerd."""

from __future__ import annotations

import glob
import os
import re
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._containerd import client
from ansible_collections.homelab.containerd.plugins.module_utils._facts.host import find_program
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, files, paths


def toml_without_credentials(text: t.Optional[str]) -> t.Optional[str]:
    if text is None:
        return None
    return re.sub(
        r"(?im)^(\s*\"?(?:password|auth|identitytoken|username)\"?\s*=).*$", r'\1 "***"', text
    )


def containerd_imports(text: str) -> t.List[t.Dict[str, t.Any]]:
    """The files that a config.toml imports: [{"path", "text"}] (containerd-config.toml(5))."""
    written = re.search(r"(?ms)^imports\s*=\s*\[(.*?)\]", text)
    patterns = re.findall(r"[\"']([^\"']+)[\"']", written.group(1)) if written else []
    directory = os.path.dirname(paths.CONTAINERD_CONFIG)
    found = [path for pattern in patterns for path in glob.glob(os.path.join(directory, pattern))]
    return [
        {"path": path, "text": toml_without_credentials(files.read_text(path)) or ""}
        for path in sorted(set(found))
    ]


def containerd_facts() -> t.Dict[str, t.Any]:
    binary = find_program("containerd")
    written, why = files.read(paths.CONTAINERD_CONFIG)
    text = toml_without_credentials(written)
    found = {
        "binary": binary,
        "version": None,
        "active": commands.unit_active("containerd.service"),
        "config_path": paths.CONTAINERD_CONFIG,
        "config_text": text,
        "config_error": why,
        "cri_ready": False,
        "pins_images": False,
        "images": [],
        "root": "/var/lib/containerd",
        "imports": [],
    }  # type: t.Dict[str, t.Any]
    root = re.search(r"(?m)^root\s*=\s*[\"']([^\"']+)", text or "")
    if root:
        found["root"] = root.group(1)
    found["imports"] = containerd_imports(text or "")
    if not binary:
        return found
    words = commands.run([binary, "--version"], check=False).stdout.split()
    found["version"] = words[2] if len(words) > 2 else None
    try:
        with open(binary, "rb") as stream:
            # The label is in the program's text from 1.6.22 and 1.7.3 on; distributions
            # backport, so the program itself is asked rather than a table.
            found["pins_images"] = b"io.cri-containerd.pinned" in stream.read()
    except OSError:
        pass
    if found["active"]:
        plugins = commands.run(["ctr", "plugins", "list"], check=False).stdout
        found["cri_ready"] = bool(
            re.search(r"^io\.containerd\.grpc\.v1\s+cri\s.*\bok\b", plugins, re.M)
        )
        images = commands.run(
            ["ctr", "-n", client.NAMESPACE, "images", "list", "-q"], check=False
        ).stdout
        found["images"] = [line for line in images.splitlines() if line]
    return found

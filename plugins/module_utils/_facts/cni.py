# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of CNI."""

from __future__ import annotations

import json
import os
import shutil
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, files

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        CniConfiguration,
        CniFacts,
    )


def cni_facts(flags: t.Dict[str, str]) -> CniFacts:
    conf_dir = flags.get("cni-conf-dir", "/etc/cni/net.d")
    configurations: t.List[CniConfiguration] = []
    if os.path.isdir(conf_dir):
        for name in sorted(os.listdir(conf_dir)):
            if name.endswith((".conf", ".conflist", ".json")):
                path = os.path.join(conf_dir, name)
                entry: CniConfiguration = {"path": path, "cni_version": None, "error": None}
                try:
                    entry["cni_version"] = json.loads(files.read_text(path) or "").get("cniVersion")
                except (ValueError, AttributeError) as exc:
                    entry["error"] = str(exc)
                configurations.append(entry)
    bin_dirs = flags.get("cni-bin-dir", "/opt/cni/bin").split(",")
    loopback = shutil.which("loopback", path=os.pathsep.join(bin_dirs))
    return {
        "conf_dir": conf_dir,
        "configurations": configurations,
        "bin_dirs": bin_dirs,
        "loopback_supports": supported_versions(loopback) if loopback else [],
        "plugins": sorted(
            {name for path in bin_dirs if os.path.isdir(path) for name in os.listdir(path)}
        ),
    }


def supported_versions(plugin: str) -> t.List[str]:
    """The CNI versions that a plugin says it supports (CNI specification, "VERSION")."""
    done = commands.run(["env", "CNI_COMMAND=VERSION", plugin], timeout=10, check=False)
    try:
        return [str(version) for version in json.loads(done.stdout)["supportedVersions"]]
    except (ValueError, KeyError, TypeError):
        return []

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""containerd's config.toml as nested mappings: what to set where, for each config version.

Works on any MutableMapping, so that tomlkit documents keep the owner's comments and order.
Sources: containerd docs/cri/config.md, RELEASES.md ("Daemon Configuration").
"""

from __future__ import annotations

import typing as t

#: Every name under which a config disables CRI; Docker's packages ship the first one, without a
#: version (docker/containerd-packaging common/containerd.toml).
CRI_PLUGINS = (
    "cri",
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
)

Mapping = t.MutableMapping[str, t.Any]


def problem(document: t.Mapping[str, t.Any]) -> t.Optional[str]:
    """Why our settings cannot be merged into this config without losing the owner's, or None."""
    for key, attribute in (("plugins", "items"), ("disabled_plugins", "append")):
        if key in document and not hasattr(document[key], attribute):
            return "%s is of the wrong type (%s)" % (key, type(document[key]).__name__)
    version = document.get("version", 1)
    plugins = document.get("plugins") or {}
    short = [
        str(name)
        for name in document.get("disabled_plugins") or []
        if "." not in str(name) and name not in CRI_PLUGINS
    ]
    if version == 1 and short:
        return (
            "it is of version 1 and names plugins in its short form (disabled_plugins: %s), which "
            "later versions refuse; write io.containerd.x.vN.name" % ", ".join(short)
        )
    if version == 1 and plugins:
        return (
            "it is of version 1 and configures plugins (%s); rewrite it as version 2 "
            "(containerd config default)" % ", ".join(sorted(plugins))
        )
    for name, table in plugins.items():
        registry = table.get("registry") or {} if hasattr(table, "get") else {}
        if registry.get("mirrors") or registry.get("configs"):
            return (
                "[plugins.%r.registry] has mirrors or configs, which exclude config_path; move "
                "them to hosts.toml files (containerd docs/hosts.md)" % str(name)
            )
    return None


def merge_settings(document: Mapping, settings: t.Dict[str, t.Any]) -> None:
    """Set what the kubelet needs, in place, and leave everything else as it is.

    settings: config_version (of the installed containerd), cgroup_driver ("systemd" |
    "cgroupfs"), sandbox_image, config_path (directories with a hosts.toml for each registry,
    separated by colons), cni_bin_dirs (list), cni_conf_dir, overrides (nested dict, merged last).
    Raises ValueError as problem() says.
    """
    trouble = problem(document)
    if trouble:
        raise ValueError(trouble)
    version = document.get("version", 1)
    if version == 1:
        version = settings["config_version"]
        document["version"] = version
    disabled = [name for name in document.get("disabled_plugins") or [] if name not in CRI_PLUGINS]
    if disabled:
        document["disabled_plugins"] = disabled
    else:
        document.pop("disabled_plugins", None)
    plugins = document.setdefault("plugins", {})
    build = _cri_v2 if version == 2 else _cri_v3
    _merge(plugins, build(settings))
    _merge(document, settings.get("overrides") or {})


def _runtimes(settings: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    # A runtime's table replaces the built-in one as a whole, so its type has to be said too.
    systemd = settings["cgroup_driver"] == "systemd"
    return {
        "runtimes": {
            "runc": {
                "runtime_type": "io.containerd.runc.v2",
                "options": {"SystemdCgroup": systemd},
            }
        }
    }


def _cri_v2(settings: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    return {
        "io.containerd.grpc.v1.cri": {
            "sandbox_image": settings["sandbox_image"],
            "registry": {"config_path": settings["config_path"]},
            "cni": {
                # One directory is all that version 2 can say.
                "bin_dir": settings["cni_bin_dirs"][0],
                "conf_dir": settings["cni_conf_dir"],
            },
            "containerd": _runtimes(settings),
        }
    }


def _cri_v3(settings: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    return {
        "io.containerd.cri.v1.images": {
            "pinned_images": {"sandbox": settings["sandbox_image"]},
            "registry": {"config_path": settings["config_path"]},
        },
        "io.containerd.cri.v1.runtime": {
            "cni": dict(_cni_bin_dirs(settings), conf_dir=settings["cni_conf_dir"]),
            "containerd": _runtimes(settings),
        },
    }


def _cni_bin_dirs(settings: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    # containerd 2.4 ignores bin_dir, and 2.0 does not know bin_dirs yet.
    if settings["config_version"] >= 4:
        return {"bin_dirs": settings["cni_bin_dirs"]}
    return {"bin_dir": settings["cni_bin_dirs"][0]}


def _merge(into: Mapping, new: t.Mapping[str, t.Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict):
            if not hasattr(into.get(key), "items"):
                into[key] = {}
            _merge(into[key], value)
        elif into.get(key) != value:
            into[key] = value

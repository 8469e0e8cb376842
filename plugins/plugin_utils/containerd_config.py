# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""containerd's config.toml as nested mappings: what to set where, for each config version.

Works on any MutableMapping, so that tomlkit documents keep the user's comments and order.
Sources: containerd docs/cri/config.md, RELEASES.md ("Daemon Configuration"); for version 1 the
migration of containerd 2.4 itself (cmd/containerd/server/config, v1MigratePluginName); for what
goes with what the ValidatePluginConfig of 1.6 and 2.4 (pkg/cri/config, internal/cri/config).
"""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config import registries
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.result import (
    Containerd,
    Registry,
    Tls,
)

#: Every name under which a config disables CRI; Docker's packages ship the first one, without a
#: version (docker/containerd-packaging common/containerd.toml).
CRI_PLUGINS = (
    "cri",
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
)

#: The names that plugins had in version 1.
LONG_NAMES = {
    "cri": "io.containerd.grpc.v1.cri",
    "cgroups": "io.containerd.monitor.v1.cgroups",
    "linux": "io.containerd.runtime.v1.linux",
    "scheduler": "io.containerd.gc.v1.scheduler",
    "bolt": "io.containerd.metadata.v1.bolt",
    "task": "io.containerd.runtime.v2.task",
    "opt": "io.containerd.internal.v1.opt",
    "restart": "io.containerd.internal.v1.restart",
    "tracing": "io.containerd.internal.v1.tracing",
    "otlp": "io.containerd.tracing.processor.v1.otlp",
    "aufs": "io.containerd.snapshotter.v1.aufs",
    "btrfs": "io.containerd.snapshotter.v1.btrfs",
    "devmapper": "io.containerd.snapshotter.v1.devmapper",
    "native": "io.containerd.snapshotter.v1.native",
    "overlayfs": "io.containerd.snapshotter.v1.overlayfs",
    "zfs": "io.containerd.snapshotter.v1.zfs",
}

RUNC = "io.containerd.runc.v2"
#: Shims that are runc too, and gone in 2.0 (containerd docs/containerd-2.0.md).
OLD_RUNC = ("io.containerd.runtime.v1.linux", "io.containerd.runc.v1")
#: containerd's default; a file that has it may be one that nobody edited.
DEFAULT_DOWNLOADS = 3
#: A table of TOML.
Mapping = t.MutableMapping[str, t.Any]


class Settings(Containerd):
    """What to set; what is docker's gives way to a user-managed value in the file."""

    #: Of the installed containerd.
    config_version: int
    cgroup_driver: t.Literal["systemd", "cgroupfs"]
    sandbox_image: str
    #: Directories with a hosts.toml for each registry, separated by colons.
    config_path: str
    cni_bin_dirs: list[str]
    cni_conf_dir: str
    #: Merged last.
    overrides: t.NotRequired[dict[str, t.Any]]


def problem(document: t.Mapping[str, t.Any]) -> str | None:
    """Why our settings cannot be merged without losing user-managed ones, or None."""
    for key, attribute in (
        ("plugins", "items"),
        ("disabled_plugins", "append"),
        ("required_plugins", "append"),
    ):
        if key in document and not hasattr(document[key], attribute):
            return "%s is of the wrong type (%s)" % (key, type(document[key]).__name__)
    version = document.get("version", 1)
    if isinstance(version, bool) or not isinstance(version, int):
        return "version is of the wrong type (%s)" % type(version).__name__
    plugins = document.get("plugins") or {}
    if version == 1:
        return _problem_of_version_1(document, plugins)
    for name, table in plugins.items():
        trouble = _problem_of_registry(str(name), table)
        if trouble:
            return trouble
    return None


def _problem_of_version_1(
    document: t.Mapping[str, t.Any], plugins: t.Mapping[str, t.Any]
) -> str | None:
    for key in ("disabled_plugins", "required_plugins"):
        short = [str(name) for name in document.get(key) or [] if long_name(str(name)) is None]
        if short:
            return (
                "it is of version 1 and names plugins in a short form that is not known "
                "(%s: %s); write io.containerd.x.vN.name" % (key, ", ".join(short))
            )
    seen: dict[str, str] = {}
    for name in plugins:
        full = long_name(str(name))
        if full is None:
            return (
                "it is of version 1 and configures a plugin whose full name is not known (%s); "
                "rewrite it as version 2 (containerd config default)" % name
            )
        if full in seen:
            return "it configures one plugin twice, as %s and as %s" % (seen[full], name)
        seen[full] = str(name)
        trouble = _problem_of_registry(full, plugins[name])
        if trouble:
            return trouble
    return None


def _problem_of_registry(name: str, table: t.Any) -> str | None:
    """Registries that hosts.toml files cannot say: those that can be are moved there."""
    refused = _read_registries(table)[1]
    if refused:
        return "[plugins.%r.registry] has %s, which no hosts.toml file can say; take it out" % (
            name,
            ", ".join(refused),
        )
    return None


def long_name(name: str) -> str | None:
    """A plugin's name from version 2 on, or None where containerd itself would have to guess."""
    if "." in name:
        return name
    if name.endswith("-service"):
        return "io.containerd.service.v1." + name
    return LONG_NAMES.get(name)


def registries_of(document: t.Mapping[str, t.Any]) -> list[Registry]:
    """The registries that the config's CRI has by itself, for hosts.toml files.

    [{"host", "insecure": False, "mirrors": [url, …], "tls": {"name[:port]": {"skip_verify", "ca",
    "client"}}}]; containerd takes them only without config_path. problem() has to be None.
    """
    found: list[Registry] = []
    for name, table in (document.get("plugins") or {}).items():
        if long_name(str(name)) in CRI_PLUGINS:
            found += _read_registries(table)[0]
    return found


def config_paths_of(document: t.Mapping[str, t.Any]) -> list[str]:
    """The directories with hosts.toml files that the config names (config_path)."""
    found: list[str] = []
    for name, table in (document.get("plugins") or {}).items():
        if long_name(str(name)) in CRI_PLUGINS:
            path = _get(table, "registry").get("config_path")
            found += [part.rstrip("/") for part in str(path or "").split(":") if part]
    return list(dict.fromkeys(found))


def _read_registries(table: t.Any) -> tuple[list[Registry], list[str]]:
    registry = _get(table, "registry")
    mirrors, configs = _get(registry, "mirrors"), _get(registry, "configs")
    refused: list[str] = []
    tls: dict[str, Tls] = {}
    for host, config in configs.items():
        said = _get(config, "tls")
        if not said:
            continue
        if registries.host_problem(str(host)):
            refused.append("configs.%s" % host)
            continue
        tls[str(host)] = {
            "skip_verify": bool(said.get("insecure_skip_verify")),
            "ca": [str(said["ca_file"])] if said.get("ca_file") else [],
            "client": [[str(said["cert_file"]), str(said["key_file"])]]
            if said.get("cert_file") and said.get("key_file")
            else [],
        }
    found: list[Registry] = []
    for host in dict.fromkeys([str(host) for host in mirrors] + sorted(tls)):
        endpoints = _get(mirrors, host).get("endpoint") or []
        read = registries.read_mirrors([str(url) for url in endpoints])
        named = host == "*" or (registries.host_problem(host) is None and host[0] != "[")
        if read.refused or read.ipv6 or not named:
            refused.append("mirrors.%s" % host)
            continue
        own = {"https://" + host, registries.DOCKER_HUB_SERVER if host == "docker.io" else ""}
        used = [url for url in read.urls if url not in own]
        names = [registries.mirror_host(url) for url in used] + [host]
        if used or host in tls:
            found.append(
                {
                    "host": "_default" if host == "*" else host,
                    "insecure": False,
                    "mirrors": used,
                    "tls": {name: tls[name] for name in names if name in tls},
                }
            )
    return found, refused


def _get(table: t.Any, key: str) -> t.Any:
    """A table of a table, {} where there is none."""
    value = table.get(key) if hasattr(table, "get") else None
    return value if hasattr(value, "items") else {}


def merge_settings(document: Mapping, settings: Settings) -> None:
    """Set what the kubelet needs, in place, and leave everything else as it is.

    A file of version 1 becomes one of version 2, which all containerds since 1.3 read. What
    registries_of() found is taken out, since containerd refuses it beside config_path.
    Raises ValueError as problem() says.
    """
    trouble = problem(document)
    if trouble:
        raise ValueError(trouble)
    version = document.get("version", 1)
    if version == 1:
        # A file that says nothing of plugins can be of the newest version at once.
        version = 2 if _to_long_names(document) else settings["config_version"]
        document["version"] = version
    disabled = [name for name in document.get("disabled_plugins") or [] if name not in CRI_PLUGINS]
    if disabled:
        document["disabled_plugins"] = disabled
    else:
        document.pop("disabled_plugins", None)
    plugins = document.setdefault("plugins", {})
    names = ("io.containerd.grpc.v1.cri",) * 2 if version == 2 else CRI_PLUGINS[2:]
    for name in dict.fromkeys(names):
        _modernise(plugins, name)
    _add_dockers(plugins, names, settings)
    build = _cri_v2 if version == 2 else _cri_v3
    _merge(plugins, build(settings))
    _merge(document, settings.get("overrides") or {})


def _to_long_names(document: Mapping) -> bool:
    """Version 1 to 2 in place; whether there was anything to rename."""
    renamed = False
    for key in ("disabled_plugins", "required_plugins"):
        names = [str(name) for name in document.get(key) or []]
        # CRI goes from the list of the disabled anyway.
        renamed = renamed or any(name not in CRI_PLUGINS for name in names)
        if any(long_name(name) != name for name in names):
            document[key] = [long_name(name) for name in names]
    plugins = document.get("plugins") or {}
    # All of them, so that they stay in their order.
    for name in list(plugins):
        renamed = True
        plugins[long_name(str(name))] = plugins.pop(name)
    return renamed


def _modernise(plugins: Mapping, name: str) -> None:
    """Rewrite user-managed keys that conflict with ours or with newer containerds."""
    cri = _get(plugins, name)
    registry = _get(cri, "registry")
    for key in ("mirrors", "configs"):
        for host in list(_get(registry, key)):
            if key == "mirrors" or not _get(registry[key][host], "auth"):
                del registry[key][host]
            else:
                registry[key][host].pop("tls", None)
        if key in registry and not registry[key]:
            del registry[key]
    # True makes 1.x refuse runc.v2; SystemdCgroup says it now.
    if _get(plugins, name).get("systemd_cgroup"):
        del cri["systemd_cgroup"]
    containerd = _get(cri, "containerd")
    for old, new in (("default_runtime", "default"), ("untrusted_workload_runtime", "untrusted")):
        if not _get(containerd, old).get("runtime_type"):
            continue
        # As containerd 1.x reads it; 2.0 ignores it.
        runtimes = containerd.setdefault("runtimes", {})
        if new not in runtimes:
            runtimes[new] = containerd.pop(old)
            if new == "default":
                containerd["default_runtime_name"] = new
    for runtime in _get(containerd, "runtimes").values():
        if hasattr(runtime, "get") and runtime.get("runtime_type") in OLD_RUNC:
            runtime["runtime_type"] = RUNC
        if hasattr(runtime, "get") and runtime.get("runtime_type") == RUNC:
            for old, new in (("runtime_engine", "BinaryName"), ("runtime_root", "Root")):
                if runtime.get(old):
                    runtime.setdefault("options", {}).setdefault(new, runtime.pop(old))


def _add_dockers(plugins: Mapping, names: t.Sequence[str], settings: Settings) -> None:
    """Set what docker had, where the file has no user-managed value."""
    images, cri = names
    downloads = settings.get("max_concurrent_downloads")
    if downloads and _get(plugins, images).get("max_concurrent_downloads") in (
        None,
        DEFAULT_DOWNLOADS,
    ):
        plugins.setdefault(images, {})["max_concurrent_downloads"] = downloads
    if settings.get("enable_selinux"):
        plugins.setdefault(cri, {})["enable_selinux"] = True
    runtimes = settings.get("runtimes") or {}
    default = settings.get("default_runtime_name")
    if runtimes or default:
        containerd = plugins.setdefault(cri, {}).setdefault("containerd", {})
        if runtimes:
            _fill(containerd.setdefault("runtimes", {}), runtimes)
        if default and containerd.get("default_runtime_name") in (None, "", "runc"):
            containerd["default_runtime_name"] = default
    systemd = settings["cgroup_driver"] == "systemd"
    for runtime in _get(_get(_get(plugins, cri), "containerd"), "runtimes").values():
        # The kubelet has one cgroup driver for all of its containers.
        if hasattr(runtime, "get") and runtime.get("runtime_type") == RUNC:
            options = runtime.setdefault("options", {})
            if options.get("SystemdCgroup", False) != systemd:
                options["SystemdCgroup"] = systemd


def _fill(into: Mapping, new: t.Mapping[str, t.Any]) -> None:
    """Like _merge, but what is there stays."""
    for key, value in new.items():
        if isinstance(value, dict):
            if key not in into:
                into[key] = {}
            if hasattr(into[key], "items"):
                _fill(into[key], value)
        elif key not in into:
            into[key] = value


def _runtimes(settings: Settings) -> dict[str, t.Any]:
    # A runtime's table replaces the built-in one as a whole, so its type has to be said too.
    systemd = settings["cgroup_driver"] == "systemd"
    return {
        "runtimes": {
            "runc": {
                "runtime_type": RUNC,
                "options": {"SystemdCgroup": systemd},
            }
        }
    }


def _cri_v2(settings: Settings) -> dict[str, t.Any]:
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


def _cri_v3(settings: Settings) -> dict[str, t.Any]:
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


def _cni_bin_dirs(settings: Settings) -> dict[str, t.Any]:
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

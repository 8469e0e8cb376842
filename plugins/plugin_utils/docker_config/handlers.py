# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The other keys of daemon.json whose value decides; the table (keys.py) names one for each."""

from __future__ import annotations

from ansible_collections.homelab.containerd.plugins.module_utils._docker.daemon_config import (
    PROXIES,
    type_of,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.result import (
    NO_EQUIVALENT,
    NOT_NEEDED,
    TRANSLATED,
    Collector,
    Json,
    Key,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.values import (
    has_type,
    parse_size,
)

#: docker's storage drivers that containerd's default, overlayfs, replaces.
OVERLAY_DRIVERS = ("overlay2", "overlay", "aufs", "overlayfs")
#: Names of builder.gc's limit, in lower case: Go's JSON ignores it.
_DEFAULT_LIMIT = ("defaultkeepstorage", "defaultmaxusedspace")
#: Where proxies go.
PROXY_FILES = "a drop-in of containerd.service, and BuildKit's environment"


def off_is_default(out: Collector, row: Key, value: bool, origin: str) -> None:
    if value:
        out.add_row(row, value, origin)
    else:
        out.add(row.name, value, origin, NOT_NEEDED, "It is off, as in containerd")


def selinux_enabled(out: Collector, row: Key, value: bool, origin: str) -> None:
    if value:
        out.containerd["enable_selinux"] = True
    off_is_default(out, row, value, origin)


def exec_opts(out: Collector, row: Key, value: list[str], origin: str) -> None:
    for entry in value:
        # dockerd removes spaces and ignores the case of the name (parsers.ParseKeyValueOpt, getCD).
        option, separator, item = (part.strip() for part in entry.partition("="))
        option = option.lower()
        key = "exec-opts." + option
        if not separator:
            out.wrong(row.name, entry, origin, "it is not of the form option=value")
        elif option == "native.cgroupdriver" and item in ("systemd", "cgroupfs"):
            out.add_row(row, item, origin, key)
        elif option == "native.cgroupdriver":
            out.wrong(key, item, origin, "the cgroup driver is systemd or cgroupfs")
        elif option == "isolation":
            out.add(key, item, origin, NOT_NEEDED, "Concerns Windows")
        else:
            out.unknown(key, item, origin, ["native.cgroupdriver"])


def storage_driver(out: Collector, row: Key, value: str, origin: str) -> None:
    if value in OVERLAY_DRIVERS:
        out.add_row(row, value, origin)
    else:
        out.add(
            row.name,
            value,
            origin,
            NO_EQUIVALENT,
            "containerd uses its snapshotter overlayfs, whatever docker used",
            remedy="Where overlayfs does not work on that file system (ZFS), choose another "
            "snapshotter through containerd_config_overrides (btrfs, zfs, devmapper, native).",
        )


def storage_opts(out: Collector, row: Key, value: list[str], origin: str) -> None:
    for entry in value:
        option, _separator, item = entry.partition("=")
        key = "storage-opts." + option
        if option.endswith("override_kernel_check"):
            out.add(key, item, origin, NOT_NEEDED, "Concerns the checks of docker's driver")
        else:
            out.add_row(row, item, origin, key)


def max_concurrent_downloads(out: Collector, row: Key, value: int, origin: str) -> None:
    if value < 0:
        out.wrong(row.name, value, origin, "it is negative, which dockerd refuses")
    elif value == 0 or value > 1000000:
        out.add(
            row.name,
            value,
            origin,
            NOT_NEEDED,
            "It is no limit in effect; containerd's own of 3 stays",
        )
    else:
        out.containerd["max_concurrent_downloads"] = value
        out.add_row(row, value, origin)


def seccomp_profile(out: Collector, row: Key, value: str, origin: str) -> None:
    if value == "builtin":
        out.add(row.name, value, origin, NOT_NEEDED, "It is docker's default, as containerd's")
    else:
        out.add_row(row, value, origin)


def hosts(out: Collector, row: Key, value: list[str], origin: str) -> None:
    """Without a scheme it is TCP (moby's opts/hosts.go): "0.0.0.0:2375", ":2375"."""
    addresses = [host.strip() for host in value if host.strip()]
    addresses = [host if "://" in host else "tcp://" + host for host in addresses]
    local = [host for host in addresses if host.startswith(("unix://", "fd://"))]
    if local or not addresses:
        out.add(row.name, local, origin, NOT_NEEDED, "docker's socket on this machine")
    for host in addresses:
        if host.startswith("tcp://"):
            out.add_row(row, host, origin)
        elif host not in local:
            out.wrong(row.name, host, origin, "its scheme is not tcp, unix or fd")


def features(out: Collector, row: Key, value: dict[str, Json], origin: str) -> None:
    for name, item in value.items():
        key = "features." + name
        if isinstance(item, bool):
            out.add_row(row, item, origin, key)
        else:
            out.wrong(key, item, origin, "true or false is expected, found " + type_of(item))


def default_ulimits(out: Collector, row: Key, value: dict[str, Json], origin: str) -> None:
    for name, item in value.items():
        out.add_row(row, item, origin, "default-ulimits." + name)


def proxies(out: Collector, row: Key, value: dict[str, Json], origin: str) -> None:
    for name, item in value.items():
        if name in PROXIES:
            set_proxy(out, "proxies." + name, PROXIES[name], item, origin)
        else:
            out.unknown("proxies." + name, item, origin, PROXIES)


def proxy_flag(out: Collector, row: Key, value: str, origin: str) -> None:
    set_proxy(out, row.name, PROXIES[row.name], value, origin)


def set_proxy(out: Collector, key: str, variable: str, value: Json, origin: str) -> None:
    """Later calls win: dockerd's own configuration overrides its environment."""
    if not isinstance(value, str):
        out.wrong(key, value, origin, "a string is expected, found " + type_of(value))
    elif not value.isprintable():
        out.wrong(key, value, origin, "it is not the value of a proxy variable")
    elif not value:
        out.add(key, value, origin, NOT_NEEDED, "It is empty: no proxy")
    else:
        out.environment[variable] = value
        out.add(key, value, origin, TRANSLATED, variable, PROXY_FILES)


def builder(out: Collector, row: Key, value: dict[str, Json], origin: str) -> None:
    for name, item in value.items():
        key = "builder." + name
        if name.lower() != "gc" or not isinstance(item, dict):
            out.add(
                key,
                item,
                origin,
                NO_EQUIVALENT,
                "Concerns docker build alone",
                remedy="See the variables of the role buildkit.",
            )
            continue
        if not item:
            out.add(key, item, origin, NOT_NEEDED, "It is empty: docker's default")
        _builder_gc(out, key, item, origin)


def _builder_gc(out: Collector, key: str, gc: dict[str, Json], origin: str) -> None:
    """moby's builder-next/controller.go, getGCPolicy: a policy replaces the default limit."""
    fields = {name.lower(): item for name, item in gc.items()}
    off, policy = fields.get("enabled") is False, fields.get("policy")
    for name, value in gc.items():
        option, path = name.lower(), "%s.%s" % (key, name)
        if option == "enabled" and value is True:
            out.add(path, value, origin, NOT_NEEDED, "BuildKit's is always on here")
        elif off and option != "enabled":
            out.add(path, value, origin, NOT_NEEDED, "Garbage collection is off (enabled)")
        elif option in _DEFAULT_LIMIT and policy is not None:
            out.add(path, value, origin, NOT_NEEDED, "policy is set, and docker uses that alone")
        elif option in _DEFAULT_LIMIT and isinstance(value, str):
            size = parse_size(value, 1024)
            if size:
                _set_limit(out, path, value, size, origin)
            else:
                out.wrong(path, value, origin, "it is not a size such as 20GB")
        elif option == "policy" and _limit_of(value):
            _set_limit(out, path, value, _limit_of(value), origin)
        else:
            out.add(
                path,
                value,
                origin,
                NO_EQUIVALENT,
                "The role buildkit has rules of its own",
                remedy="See buildkit_gc_* in the role buildkit.",
            )


def _set_limit(out: Collector, key: str, value: Json, size: int, origin: str) -> None:
    # BuildKit from 0.17 on: reservedSpace is a floor, and this was a ceiling.
    out.gc = {"max_used_space": str(size)}
    out.add(
        key,
        value,
        origin,
        TRANSLATED,
        "The cache is kept below %d bytes" % size,
        "buildkit_gc_max_used_space",
    )


def _limit_of(policy: Json) -> int:
    """The ceiling of a policy: the smallest of its rules for the whole cache; 0 without one."""
    limits = []
    for rule in policy if isinstance(policy, list) else []:
        fields = (
            {name.lower(): item for name, item in rule.items()} if has_type("map", rule) else {}
        )
        if not fields.get("filter"):
            size = fields.get("maxusedspace") or fields.get("keepstorage") or ""
            limits.append(parse_size(str(size), 1024) or 0)
    return min((limit for limit in limits if limit), default=0)

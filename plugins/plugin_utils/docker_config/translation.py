# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of docker's configuration on containerd."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._docker.daemon_config import (
    _PROXIES,
    CERTS_D,
    DAEMON_JSON,
    DEEPEST,
    _whole,
    shown,
    without_credentials,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config import registries
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.keys import (
    FILE_LOG_DRIVERS,
    FLAGS,
    KEYS,
    LOG_OPTS,
    NO_EQUIVALENT,
    NOT_NEEDED,
    OVERLAY_DRIVERS,
    SHORT,
    TRANSLATED,
    UNKNOWN,
    Key,
)

COMMAND_LINE = "command line"
ENVIRONMENT = "environment of dockerd"
RUNC = "io.containerd.runc.v2"
#: moby's builtin names for runc; the second was dropped in 23.
RUNC_NAMES = ("runc", RUNC, "io.containerd.runtime.v1.linux")
#: Where the role containerd writes scripts that give a runtime its arguments.
SCRIPTS = "/usr/local/lib/homelab-containerd/runtimes"
_RUNTIME = ("path", "runtimeArgs", "runtimeType", "options")

_TYPES = {
    "bool": "true or false",
    "int": "a whole number",
    "str": "a string",
    "list": "a list of strings",
    "objects": "a list",
    "map": "an object",
}

Setting = dict[str, t.Any]


def _plain(value: t.Any, depth: int = 0) -> t.Any:
    """Any value as JSON could have it; what is nested deeper than anything of dockerd's is cut."""
    if depth > DEEPEST:
        return "…"
    if isinstance(value, dict):
        return {_whole(str(name)): _plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return _whole(str(value))


def _presentable(value: t.Any, key: str) -> t.Any:
    """A value for the report: no credentials and no control characters."""
    return without_credentials({key: _shown(value)})[key]


def _shown(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {shown(name): _shown(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return shown(value) if isinstance(value, str) else value


def read_flags(words: t.Any) -> list[tuple[Key | None, str, t.Any]]:
    """dockerd's command line as [(key or None, name as written, value)], in its order.

    words: the command line, with or without the program's name; or a mapping of flag to value.
    A flag without a value is True, a value is a string. pflag's rules: a boolean takes its value
    only after "=", letters may be joined (-Dl debug).
    """
    if isinstance(words, dict):
        words = ["--%s=%s" % item for item in words.items()]
    if not isinstance(words, (list, tuple)):
        return []
    rest = [str(word) for word in words]
    if rest and not rest[0].startswith("-"):
        rest.pop(0)
    found: list[tuple[Key | None, str, t.Any]] = []
    while rest:
        word = rest.pop(0)
        if word in ("-", "--") or not word.startswith("-"):
            found.append((None, word, True))
            continue
        name, separator, value = word.lstrip("-").partition("=")
        if word.startswith("--"):
            key = FLAGS.get(name)
            if separator:
                found.append((key, name, value))
            elif _takes_value(key, rest):
                found.append((key, name, rest.pop(0)))
            else:
                found.append((key, name, True))
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            key = SHORT.get(letter)
            if letters.startswith("="):
                found.append((key, letter, letters[1:]))
                letters = ""
            elif key is not None and key.type == "bool":
                found.append((key, letter, True))
            elif letters:
                found.append((key, letter, letters))
                letters = ""
            else:
                found.append((key, letter, rest.pop(0) if _takes_value(key, rest) else True))
    return found


def _takes_value(key: Key | None, rest: t.Sequence[str]) -> bool:
    if key is None:
        return bool(rest) and not rest[0].startswith("-")
    return key.type != "bool" and bool(rest)


def _from_flags(words: t.Any) -> tuple[dict[str, t.Any], list[tuple[str, t.Any]]]:
    """The flags as daemon.json would have them, and those that dockerd does not know."""
    values: dict[str, t.Any] = {}
    unknown: list[tuple[str, t.Any]] = []
    for key, name, value in read_flags(words):
        if key is None:
            unknown.append((name, value))
        elif key.type in ("list", "objects"):
            values.setdefault(key.name, []).append(str(value))
        elif key.type == "map":
            option, _separator, item = str(value).partition("=")
            into = values.setdefault(key.name, {})
            if key.name == "runtimes":
                into[option.strip().lower()] = {"path": item.strip()}
            elif key.name == "features":
                into[option] = item.lower() not in ("false", "0", "f")
            else:
                into[option] = item
        elif key.type == "bool":
            values[key.name] = str(value).lower() not in ("false", "0", "f")
        elif key.type == "int" and re.fullmatch(r"[+-]?[0-9]{1,18}", str(value)):
            values[key.name] = int(str(value))
        else:
            values[key.name] = str(value)
    return values, unknown


def translate(
    daemon_json: t.Any,
    flags: t.Any = (),
    certs_d: dict[str, t.Sequence[str]] | None = None,
    environment: dict[str, str] | None = None,
    path: str = DAEMON_JSON,
    duplicates: t.Sequence[str] = (),
) -> dict[str, t.Any]:
    """What becomes of dockerd's configuration, every key and flag of it.

    daemon_json: the parsed file. flags: dockerd's command line (read_flags). certs_d: the
    directories of /etc/docker/certs.d, name to file names. environment: proxies in dockerd's
    environment, by name. duplicates: as parse() returns them.

    The answer:
      settings     one or more for each key and flag: {"key" (dotted where a map is taken apart),
                   "value" (credentials blanked), "origin", "fate", "to", "text", "remedy"}
      problems     what dockerd would not take: {"key", "text"}
      registries   [{"host", "insecure", "mirrors"}], for containerd_registries
      unmatched    networks of insecure-registries
      containerd   for containerd_config.merge_settings: "runtimes" {name: {"runtime_type",
                   "options"}}, "default_runtime_name", "max_concurrent_downloads",
                   "enable_selinux"; what was not said is not there
      scripts      path to command: scripts that those runtimes need, to exec it with their own
                   arguments after its
      kubelet      "containerLogMaxSize" (a Kubernetes quantity), "containerLogMaxFiles"
      environment  HTTP_PROXY, HTTPS_PROXY, NO_PROXY, as docker has them (with credentials)
      buildkit     "registries" (with tls_dir where there are certificates), "gc" {"max_used_space"}
    """
    from_file = _plain(daemon_json) if isinstance(daemon_json, dict) else {}
    from_flags, unknown_flags = _from_flags(flags)
    work = _Translation()
    for key in duplicates:
        work.problem(key, "is there twice; dockerd takes the last one")
    # Go looks at the names in capitals first.
    names = sorted(environment or {}, key=str.isupper)
    work.proxies({name: (environment or {})[name] for name in names}, ENVIRONMENT, "environment.")
    in_file = set(from_file)
    if isinstance(from_file.get("proxies"), dict):
        in_file |= set(from_file["proxies"])
    for key in sorted(in_file & set(from_flags)):
        if (key in KEYS or key in _PROXIES) and key != "runtimes":
            work.problem(
                key,
                "is in %s and on the command line, which dockerd refuses at its next start"
                % shown(path),
            )
    work.look_ahead(from_file, from_flags)
    for key, value in from_file.items():
        work.key(KEYS.get(key), key, value, path)
    for key, value in from_flags.items():
        row = KEYS.get(key) or FLAGS.get(key)
        work.key(row, key, value, COMMAND_LINE)
    for name, value in unknown_flags:
        work.unknown("--" + name if len(name) > 1 else "-" + name, value, COMMAND_LINE)
    work.certificates(certs_d or {})
    return work.result()


class _Translation:
    """Collects the answer, key by key."""

    def __init__(self) -> None:
        self.settings: list[Setting] = []
        self.problems: list[dict[str, str]] = []
        self.insecure: list[str] = []
        self.unmatched: list[str] = []
        self.mirrors: list[str] = []
        self.containerd: dict[str, t.Any] = {}
        self.kubelet: dict[str, t.Any] = {}
        self.environment: dict[str, str] = {}
        self.gc: dict[str, str] = {}
        self.scripts: dict[str, str] = {}
        self.tls_dirs: list[str] = []
        # What one key has to know of another.
        self.log_driver = "json-file"
        self.log_size: str | None = None
        self.runtimes: set[str] = set()

    def result(self) -> dict[str, t.Any]:
        found = registries.combine(self.insecure, self.mirrors)
        hosts = [entry["host"] for entry in found]
        buildkit: dict[str, t.Any] = {
            "registries": [
                dict(entry, tls_dir="%s/%s" % (CERTS_D, entry["host"]))
                if entry["host"] in self.tls_dirs and not entry["insecure"]
                else dict(entry)
                for entry in found
            ]
            + [
                {
                    "host": host,
                    "insecure": False,
                    "mirrors": [],
                    "tls_dir": "%s/%s" % (CERTS_D, host),
                }
                for host in self.tls_dirs
                if host not in hosts
            ]
        }
        if self.gc:
            buildkit["gc"] = self.gc
        return {
            "settings": self.settings,
            "problems": self.problems,
            "registries": found,
            "unmatched": self.unmatched,
            "containerd": self.containerd,
            "scripts": self.scripts,
            "kubelet": self.kubelet,
            "environment": self.environment,
            "buildkit": buildkit,
        }

    def problem(self, key: str, text: str) -> None:
        self.problems.append({"key": shown(key), "text": text})

    def add(
        self,
        key: str,
        value: t.Any,
        origin: str,
        fate: str,
        text: str,
        to: str = "",
        remedy: str = "",
    ) -> None:
        self.settings.append(
            {
                "key": shown(key),
                "value": _presentable(value, key),
                "origin": shown(origin),
                "fate": fate,
                "to": to if fate == TRANSLATED else "",
                "text": text,
                "remedy": remedy,
            }
        )

    def row(self, row: Key, value: t.Any, origin: str, key: str = "") -> None:
        """As the table says."""
        self.add(key or row.name, value, origin, row.fate, row.text, row.to, row.remedy)

    def wrong(self, key: str, value: t.Any, origin: str, why: str) -> None:
        self.problem(key, why)
        self.add(
            key,
            value,
            origin,
            UNKNOWN,
            "Not understood: " + why,
            remedy="Correct it; dockerd --validate (23 and newer) says whether docker takes it.",
        )

    def unknown(self, key: str, value: t.Any, origin: str) -> None:
        bare = key.lstrip("-")
        if origin != COMMAND_LINE and bare in FLAGS:
            row = FLAGS[bare]
            text = "This is a flag's name, and dockerd ignores it in the file"
            if bare in _PROXIES or row.name != bare:
                text += ": there it is " + ("proxies." if bare in _PROXIES else "") + row.name
        else:
            known = FLAGS if origin == COMMAND_LINE else KEYS
            near = difflib.get_close_matches(bare.lower()[:80], sorted(known), 1, 0.8)
            text = "dockerd of 18 to 29 does not know it" + (
                "; %s is meant, perhaps" % near[0] if near else ""
            )
        self.add(
            key,
            value,
            origin,
            UNKNOWN,
            text,
            remedy="Correct or remove it; it is not carried over.",
        )

    # --- what has to be known before the keys are gone through -------------------------------

    def look_ahead(self, from_file: dict[str, t.Any], from_flags: dict[str, t.Any]) -> None:
        for values in (from_file, from_flags):
            if isinstance(values.get("log-driver"), str):
                self.log_driver = values["log-driver"]
            options = values.get("log-opts")
            if isinstance(options, dict) and options.get("max-size") is not None:
                self.log_size = str(options["max-size"])
            named = values.get("runtimes")
            for name, runtime in named.items() if isinstance(named, dict) else ():
                if _runtime(name, runtime)[0]:
                    self.runtimes.add(name)

    def key(self, row: Key | None, key: str, value: t.Any, origin: str) -> None:
        if row is None:
            self.unknown(key, value, origin)
        elif value is None:
            self.add(key, value, origin, NOT_NEEDED, "null is the same as leaving it out")
        elif not _is(row.type, value):
            why = "%s is expected, found %s" % (_TYPES[row.type], _json_type(value))
            self.wrong(key, value, origin, why)
        elif value in ([], {}, ""):
            self.add(key, value, origin, NOT_NEEDED, "It is empty: docker's default")
        else:
            handler = getattr(self, "_" + key.replace("-", "_"), None)
            if handler is None:
                self.row(row, value, origin)
            else:
                handler(row, value, origin)

    # --- the keys whose value decides; named after them --------------------------------------

    def _insecure_registries(self, row: Key, value: list[str], origin: str) -> None:
        found = registries.read_insecure(value)
        self.insecure += [host for host in found["hosts"] if host not in self.insecure]
        self.unmatched += [net for net in found["networks"] if net not in self.unmatched]
        if found["hosts"]:
            self.row(row, found["hosts"], origin)
        if found["loopback"]:
            self.add(
                row.name,
                found["loopback"],
                origin,
                NOT_NEEDED,
                "docker and containerd both take plain http from this machine itself",
            )
        for network in found["networks"]:
            self.add(
                row.name,
                network,
                origin,
                NO_EQUIVALENT,
                "containerd and BuildKit know registries by name, not by network",
                remedy="Name those in use, with their ports: containerd_registries: [{host: "
                '"…:5000", insecure: true}].',
            )
        for entry, why in found["refused"]:
            self.wrong(row.name, entry, origin, "%s %s" % (shown(without_credentials(entry)), why))

    def _registry_mirrors(self, row: Key, value: list[str], origin: str) -> None:
        found = registries.read_mirrors(value)
        self.mirrors += [mirror for mirror in found["mirrors"] if mirror not in self.mirrors]
        if found["mirrors"]:
            self.row(row, found["mirrors"], origin)
        for mirror, why in found["refused"]:
            why = "%s %s" % (shown(mirror), why)
            if mirror.rstrip("/") in found["mirrors"]:
                self.problem(row.name, why)
            else:
                self.wrong(row.name, mirror, origin, why)

    def _log_driver(self, row: Key, value: str, origin: str) -> None:
        if value in FILE_LOG_DRIVERS:
            self.add(
                row.name,
                value,
                origin,
                NOT_NEEDED,
                "The kubelet keeps every container's output in files below /var/log/pods. Their "
                "lines are CRI's, not JSON",
                remedy="Tell log agents to read CRI's format.",
            )
        else:
            self.row(row, value, origin)

    def _log_opts(self, row: Key, value: dict[str, t.Any], origin: str) -> None:
        for option, item in value.items():
            key = "log-opts." + str(option)
            if not isinstance(item, str):
                if item is None or isinstance(item, (dict, list)):
                    self.wrong(key, item, origin, "a string is expected, found " + _json_type(item))
                    continue
                self.problem(
                    key,
                    "dockerd wants a string here (%s), and refuses the file"
                    % json.dumps(json.dumps(item)),
                )
                item = json.dumps(item)
            if self.log_driver not in FILE_LOG_DRIVERS:
                self.add(
                    key,
                    item,
                    origin,
                    NO_EQUIVALENT,
                    "An option of docker's log driver %s" % shown(self.log_driver),
                    remedy=row.remedy or KEYS["log-driver"].remedy,
                )
            elif option == "max-size":
                self._max_size(row, key, item, origin)
            elif option == "max-file":
                self._max_file(row, key, item, origin)
            elif option in LOG_OPTS:
                fate, text, remedy = LOG_OPTS[option]
                self.add(key, item, origin, fate, text, remedy=remedy)
            else:
                self.unknown(key, item, origin)

    def _max_size(self, row: Key, key: str, value: str, origin: str) -> None:
        size = log_bytes(value)
        if size is None or size <= 0:
            self.wrong(key, value, origin, "it is not a size such as 10m")
            return
        quantity = kubernetes_quantity(size)
        self.kubelet["containerLogMaxSize"] = quantity
        self.add(
            key,
            value,
            origin,
            TRANSLATED,
            "%s, the same number of bytes in the kubelet's words (docker counts in thousands)"
            % quantity,
            "kubelet config.yaml: containerLogMaxSize",
        )

    def _max_file(self, row: Key, key: str, value: str, origin: str) -> None:
        if not re.fullmatch(r"[+]?[0-9]{1,9}", value) or int(value) < 1:
            self.wrong(key, value, origin, "it is not a number of files")
            return
        if self.log_size is None and self.log_driver != "local":
            self.add(
                key,
                value,
                origin,
                NOT_NEEDED,
                "Without max-size docker never begins a second file",
            )
            return
        files = int(value)
        self.kubelet["containerLogMaxFiles"] = max(files, 2)
        self.add(
            key,
            value,
            origin,
            TRANSLATED,
            "The kubelet refuses less than 2" if files < 2 else "Files of each container",
            "kubelet config.yaml: containerLogMaxFiles",
        )

    def _exec_opts(self, row: Key, value: list[str], origin: str) -> None:
        for entry in value:
            option, separator, item = entry.partition("=")
            key = "exec-opts." + option
            if not separator:
                self.wrong(row.name, entry, origin, "it is not of the form option=value")
            elif option == "native.cgroupdriver" and item in ("systemd", "cgroupfs"):
                self.row(row, item, origin, key)
            elif option == "native.cgroupdriver":
                self.wrong(key, item, origin, "the cgroup driver is systemd or cgroupfs")
            elif option == "isolation":
                self.add(key, item, origin, NOT_NEEDED, "About Windows")
            else:
                self.unknown(key, item, origin)

    def _storage_driver(self, row: Key, value: str, origin: str) -> None:
        if value in OVERLAY_DRIVERS or value == "overlayfs":
            self.row(row, value, origin)
        else:
            self.add(
                row.name,
                value,
                origin,
                NO_EQUIVALENT,
                "containerd uses its snapshotter overlayfs, whatever docker used",
                remedy="Where overlayfs does not work on that file system (ZFS), choose another "
                "snapshotter through containerd_config_overrides (btrfs, zfs, devmapper, native).",
            )

    def _storage_opts(self, row: Key, value: list[str], origin: str) -> None:
        for entry in value:
            option, _separator, item = entry.partition("=")
            key = "storage-opts." + option
            if option.endswith("override_kernel_check"):
                self.add(key, item, origin, NOT_NEEDED, "About the checks of docker's own driver")
            else:
                self.row(row, item, origin, key)

    def _init(self, row: Key, value: bool, origin: str) -> None:
        self._off_is_default(row, value, origin)

    def _no_new_privileges(self, row: Key, value: bool, origin: str) -> None:
        self._off_is_default(row, value, origin)

    def _rootless(self, row: Key, value: bool, origin: str) -> None:
        self._off_is_default(row, value, origin)

    def _off_is_default(self, row: Key, value: bool, origin: str) -> None:
        if value:
            self.row(row, value, origin)
        else:
            self.add(row.name, value, origin, NOT_NEEDED, "It is off, as in containerd")

    def _selinux_enabled(self, row: Key, value: bool, origin: str) -> None:
        if value:
            self.containerd["enable_selinux"] = True
        self._off_is_default(row, value, origin)

    def _max_concurrent_downloads(self, row: Key, value: int, origin: str) -> None:
        if value < 0:
            self.wrong(row.name, value, origin, "it is negative, which dockerd refuses")
        elif value == 0 or value > 1000000:
            self.add(
                row.name, value, origin, NOT_NEEDED, "No limit worth the name; containerd has 3"
            )
        else:
            self.containerd["max_concurrent_downloads"] = value
            self.row(row, value, origin)

    def _default_shm_size(self, row: Key, value: str, origin: str) -> None:
        if log_bytes(value, 1024) == 64 << 20:
            self.add(row.name, value, origin, NOT_NEEDED, "A pod's /dev/shm has 64 MB too")
        else:
            self.row(row, value, origin)

    def _hosts(self, row: Key, value: list[str], origin: str) -> None:
        local = [host for host in value if host.startswith(("unix:", "fd:"))]
        if local:
            self.add(row.name, local, origin, NOT_NEEDED, "docker's own socket on this machine")
        for host in value:
            if host not in local:
                self.row(row, host, origin)

    def _features(self, row: Key, value: dict[str, t.Any], origin: str) -> None:
        for name, item in value.items():
            if isinstance(item, bool):
                self.row(row, item, origin, "features." + str(name))
            else:
                why = "true or false is expected, found " + _json_type(item)
                self.wrong("features." + str(name), item, origin, why)

    def _default_ulimits(self, row: Key, value: dict[str, t.Any], origin: str) -> None:
        for name, item in value.items():
            self.row(row, item, origin, "default-ulimits." + str(name))

    def _runtimes(self, row: Key, value: dict[str, t.Any], origin: str) -> None:
        for name, item in value.items():
            key = "runtimes." + name
            runtime, text, wrong = _runtime(name, item)
            if runtime:
                self.containerd.setdefault("runtimes", {})[name] = runtime
                self.add(key, item, origin, TRANSLATED, row.text, row.to)
                if item.get("runtimeArgs"):
                    script = _script(item["path"], item["runtimeArgs"])
                    self.scripts[_script_path(name)] = str(script)
                for option in sorted(set(item) - set(_RUNTIME)):
                    self.add(
                        key + "." + option,
                        item[option],
                        origin,
                        UNKNOWN,
                        "dockerd ignores it: a runtime has %s" % ", ".join(_RUNTIME),
                        remedy="Correct or remove it; it is not carried over.",
                    )
            elif wrong:
                self.wrong(key, item, origin, text)
            else:
                self.add(
                    key,
                    item,
                    origin,
                    NO_EQUIVALENT,
                    text,
                    remedy="Set it by hand through containerd_config_overrides, with a script of "
                    "yours as its BinaryName where it needs arguments.",
                )

    def _default_runtime(self, row: Key, value: str, origin: str) -> None:
        if value in RUNC_NAMES:
            self.add(row.name, value, origin, NOT_NEEDED, "containerd's default too")
        elif value in self.runtimes:
            self.containerd["default_runtime_name"] = value
            self.row(row, value, origin)
        elif re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+", value):
            # docker takes the name of any shim that is installed.
            self.containerd.setdefault("runtimes", {})[value] = {"runtime_type": value}
            self.containerd["default_runtime_name"] = value
            self.row(row, value, origin)
        else:
            self.wrong(
                row.name,
                value,
                origin,
                "runtimes has no %s that can be carried over" % shown(value),
            )

    def _proxies(self, row: Key, value: dict[str, t.Any], origin: str) -> None:
        known = {name: item for name, item in value.items() if name in _PROXIES}
        self.proxies(known, origin, "proxies.")
        for name in value:
            if name not in known:
                self.unknown("proxies." + str(name), value[name], origin)

    def _http_proxy(self, row: Key, value: str, origin: str) -> None:
        self.proxies({row.name: value}, origin, "")

    _https_proxy = _http_proxy
    _no_proxy = _http_proxy

    def proxies(self, values: dict[str, t.Any], origin: str, prefix: str) -> None:
        """Later calls win: dockerd's own configuration overrides its environment."""
        for name, value in values.items():
            variable = _PROXIES.get(str(name), str(name).upper())
            key = prefix + str(name)
            if not isinstance(value, str):
                self.wrong(key, value, origin, "a string is expected, found " + _json_type(value))
            elif value != shown(value) or variable not in _PROXIES.values():
                self.wrong(key, value, origin, "it is not the value of a proxy variable")
            elif not value:
                self.add(key, value, origin, NOT_NEEDED, "It is empty: no proxy")
            else:
                self.environment[variable] = value
                self.add(key, value, origin, TRANSLATED, variable, _UNIT_TO)

    def _builder(self, row: Key, value: dict[str, t.Any], origin: str) -> None:
        for name, item in value.items():
            key = "builder." + str(name)
            if name.lower() != "gc" or not isinstance(item, dict):
                self.add(
                    key,
                    item,
                    origin,
                    NO_EQUIVALENT,
                    "docker build's own",
                    remedy="See the variables of the role buildkit.",
                )
                continue
            if not item:
                self.add(key, item, origin, NOT_NEEDED, "It is empty: docker's default")
            for option, limit in item.items():
                self._builder_gc(row, "%s.%s" % (key, option), str(option).lower(), limit, origin)

    def _builder_gc(self, row: Key, key: str, option: str, value: t.Any, origin: str) -> None:
        if option == "enabled" and value is True:
            self.add(key, value, origin, NOT_NEEDED, "BuildKit's is always on here")
        elif option in ("defaultkeepstorage", "defaultmaxusedspace") and isinstance(value, str):
            size = log_bytes(value, 1024)
            if not size:
                self.wrong(key, value, origin, "it is not a size such as 20GB")
                return
            # BuildKit from 0.17 on: reservedSpace is a floor, and this was a ceiling.
            self.gc["max_used_space"] = str(size)
            self.add(
                key,
                value,
                origin,
                TRANSLATED,
                "The cache is kept below it",
                "buildkit_gc_max_used_space",
            )
        else:
            self.add(
                key,
                value,
                origin,
                NO_EQUIVALENT,
                "The role buildkit has rules of its own",
                remedy="See buildkit_gc_* in the role buildkit.",
            )

    # --- beside daemon.json ------------------------------------------------------------------

    def certificates(self, directories: dict[str, t.Sequence[str]]) -> None:
        for host in sorted(directories):
            files = [str(name) for name in directories[host]]
            key = "certs.d/" + str(host)
            if registries.host_problem(str(host)):
                self.wrong(key, files, CERTS_D, "its name " + str(registries.host_problem(host)))
                continue
            halves = [
                name
                for name in files
                for one, other in ((".cert", ".key"), (".key", ".cert"))
                if name.endswith(one) and name[: -len(one)] + other not in files
            ]
            for name in halves:
                self.problem(
                    key, "%s has no other half; docker refuses the directory" % shown(name)
                )
            if host in self.insecure:
                self.add(
                    key,
                    files,
                    CERTS_D,
                    NOT_NEEDED,
                    "docker does not look at certificates of a registry in insecure-registries",
                )
                continue
            self.tls_dirs.append(str(host))
            self.add(
                key,
                files,
                CERTS_D,
                TRANSLATED,
                "The same files go on being used",
                "/etc/containerd/certs.d/%s, and buildkitd.toml" % host,
            )


_UNIT_TO = KEYS["proxies"].to


def _is(kind: str, value: t.Any) -> bool:
    """Whether Go's encoding/json takes this value for a field of this type."""
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
    if kind == "str":
        return isinstance(value, str)
    if kind == "list":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind == "objects":
        return isinstance(value, list)
    return isinstance(value, dict)


def _json_type(value: t.Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, list):
        return "a list of other things" if value else "a list"
    names = {str: "a string", dict: "an object", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def log_bytes(text: str, base: int = 1000) -> int | None:
    """A size as docker writes it, in bytes; None where it is none (docker/go-units, size.go).

    FromHumanSize, which the log drivers use, counts in thousands whatever the suffix ("10m",
    "10MB" and "10MiB" are the same); with base 1024 it is RAMInBytes.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(?:i?b)?", text.strip().lower())
    if not match or len(match.group(1)) > 30:
        return None
    factor = base ** " kmgtp".index(match.group(2) or " ")
    number = match.group(1)
    return int(number) * factor if number.isdigit() else int(float(number) * factor)


def kubernetes_quantity(size: int) -> str:
    """Bytes as a Kubernetes quantity, exactly ("10M": a small m would be a thousandth)."""
    for unit, factor in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if size % factor == 0:
            return "%d%s" % (size // factor, unit)
    return str(size)


def _runtime(name: str, value: t.Any) -> tuple[dict[str, t.Any] | None, str, bool]:
    """A runtime of docker's as containerd has it, or why not, and whether dockerd refuses it.

    moby's daemon/runtime_unix.go, setupRuntimes: a path is a program like runc, a runtimeType a
    shim with options. The cgroup driver is merge_settings' affair.
    """
    if name == "runc":
        return None, "the name runc is docker's own", True
    if not name or name != shown(name) or re.search(r"[\"\\]", name):
        # containerd 1.x cannot read such a key, however it is quoted (go-toml v1).
        return None, "its name has characters that containerd cannot read", False
    if not isinstance(value, dict):
        return None, "an object is expected, found " + _json_type(value), True
    path, kind = value.get("path") or "", value.get("runtimeType") or ""
    arguments, options = value.get("runtimeArgs") or [], value.get("options") or {}
    if not isinstance(path, str) or not isinstance(kind, str) or not isinstance(options, dict):
        return None, "path and runtimeType are strings, and options is an object", True
    if path + kind != shown(path + kind):
        return None, "path and runtimeType have characters that no path has", True
    if bool(path) == bool(kind):
        return None, "it has to have one of path and runtimeType", True
    if path:
        if options:
            return None, "options belong to a runtimeType, not to a path", True
        if not isinstance(arguments, list) or not all(isinstance(a, str) for a in arguments):
            return None, "runtimeArgs is a list of strings", True
        if arguments and _script(path, arguments) is None:
            return None, "its runtimeArgs hold what a shell would not take as it is", False
        name = _script_path(name) if arguments else path
        return {"runtime_type": RUNC, "options": {"BinaryName": name}}, "", False
    if arguments:
        return None, "runtimeArgs belong to a path, not to a runtimeType", True
    runtime: dict[str, t.Any] = {"runtime_type": kind}
    if options:
        if not _toml(options):
            return None, "its options hold what TOML or containerd cannot say", False
        runtime["options"] = options
    return runtime, "", False


def _script_path(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
    if plain != name or name.startswith("."):
        plain += "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
    return "%s/%s" % (SCRIPTS, plain)


def _script(path: str, arguments: t.Sequence[str]) -> str | None:
    """What a script runs to give a runtime its arguments (moby's wrapRuntime): no shim can."""
    words = [path, *arguments]
    if not all(re.fullmatch(r"[A-Za-z0-9_@%+=:,./ -]+", word) for word in words):
        return None
    return " ".join(words)


def _toml(value: t.Any) -> bool:
    """Whether TOML can say it, in keys that every containerd reads."""
    if isinstance(value, dict):
        return all(re.fullmatch("[A-Za-z0-9_-]+", key) for key in value) and all(
            _toml(item) for item in value.values()
        )
    if isinstance(value, list):
        return all(_toml(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 1 << 63
    return value is not None

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Translate docker's configuration: each key and flag by its row of the table."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._docker import daemon_config
from ansible_collections.homelab.containerd.plugins.module_utils._host.sanitize import clean
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config import (
    handlers,
    registries,
    runtimes,
    values,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.keys import (
    FLAGS,
    KEYS,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.result import (
    COMMAND_LINE,
    ENVIRONMENT,
    NOT_NEEDED,
    Collector,
    Json,
    Key,
    Translated,
)

#: How Go's strconv.ParseBool writes false.
FALSE = ("false", "0", "f")


def translate(
    daemon_json: t.Any,
    words: t.Sequence[str] = (),
    certs_d: t.Mapping[str, t.Sequence[str]] | None = None,
    environment: dict[str, str] | None = None,
    path: str = daemon_config.DAEMON_JSON,
    duplicates: t.Sequence[str] = (),
) -> Translated:
    """What becomes of dockerd's configuration, every key and flag of it.

    daemon_json: the parsed file. words: dockerd's command line. certs_d: the directories of
    /etc/docker/certs.d, name to file names. environment: proxies in dockerd's environment, by
    name. duplicates: as parse() returns them.
    """
    from_file = values.to_json(daemon_json) if isinstance(daemon_json, dict) else {}
    from_flags, unknown_flags = _from_flags(words)
    out = Collector()
    for key in duplicates:
        out.problem(key, "is there twice; dockerd takes the last one")
    # Go looks at the names in capitals first.
    proxies = daemon_config.proxies(environment or {})
    for name in sorted(proxies, key=str.isupper):
        key = "environment." + name
        handlers.set_proxy(out, key, name.upper(), proxies[name], ENVIRONMENT)
    in_file = set(from_file)
    if isinstance(from_file.get("proxies"), dict):
        in_file |= set(from_file["proxies"])
    for key in sorted(in_file & set(from_flags)):
        if (key in KEYS or key in daemon_config.PROXIES) and key != "runtimes":
            out.problem(
                key,
                "is in %s and on the command line, which dockerd refuses at its next start"
                % clean(path),
            )
    _look_ahead(out, from_file)
    _look_ahead(out, from_flags)
    for key, value in from_file.items():
        if key in KEYS:
            _translate_key(out, KEYS[key], value, path)
        else:
            out.unknown(key, value, path, KEYS, _flag_in_the_file(key))
    for key, value in from_flags.items():
        _translate_key(out, KEYS.get(key) or FLAGS[key], value, COMMAND_LINE)
    for name, value in unknown_flags:
        dashes = "--" if len(name) > 1 else "-"
        out.unknown(dashes + name, value, COMMAND_LINE, FLAGS)
    registries.add_insecure_mirrors(out)
    registries.certificate_directories(out, certs_d or {})
    return out.result()


def _from_flags(words: t.Sequence[str]) -> tuple[dict[str, Json], list[tuple[str, str]]]:
    """The flags as daemon.json would have them, and those that dockerd does not know."""
    found: dict[str, Json] = {}
    unknown: list[tuple[str, str]] = []
    for name, value in daemon_config.read_flags(words):
        key = FLAGS.get(name)
        if key is None:
            unknown.append((name, value) if name else (value, "true"))
        elif key.type in ("list", "objects"):
            found.setdefault(key.name, []).append(value)
        elif key.type == "map":
            option, _separator, item = value.partition("=")
            into = found.setdefault(key.name, {})
            if key.name == "runtimes":
                into[option.strip().lower()] = {"path": item.strip()}
            elif key.name == "features":
                into[option] = item.lower() not in FALSE
            else:
                into[option] = item
        elif key.type == "bool":
            found[key.name] = value.lower() not in FALSE
        elif key.type == "int" and re.fullmatch(r"[+-]?[0-9]{1,18}", value):
            found[key.name] = int(value)
        else:
            found[key.name] = value
    return found, unknown


def _flag_in_the_file(key: str) -> str:
    """What to say of a key that is the name of a flag only; "" for others."""
    if key not in FLAGS:
        return ""
    text = "This is a flag's name, and dockerd ignores it in the file"
    if key in daemon_config.PROXIES:
        return "%s: there it is proxies.%s" % (text, key)
    return text + (": there it is %s" % FLAGS[key].name if FLAGS[key].name != key else "")


def _look_ahead(out: Collector, found: dict[str, Json]) -> None:
    """What some keys have to know of others, whatever their order."""
    if isinstance(found.get("log-driver"), str):
        out.log_driver = found["log-driver"]
    options = found.get("log-opts")
    if isinstance(options, dict):
        out.log_options.update(options)
    named = found.get("runtimes")
    for name, runtime in named.items() if isinstance(named, dict) else ():
        if runtimes.translate_runtime(name, runtimes.fields_of(runtime)).runtime:
            out.runtimes.add(name)


def _translate_key(out: Collector, row: Key, value: Json, origin: str) -> None:
    if value is None:
        out.add(row.name, value, origin, NOT_NEEDED, "null is the same as leaving it out")
    elif not values.has_type(row.type, value):
        found = "a list of other things"
        if row.type != "list" or not isinstance(value, list):
            found = daemon_config.type_of(value)
        why = "%s is expected, found %s" % (values.TYPES[row.type], found)
        out.wrong(row.name, value, origin, why)
    elif value in ([], {}, ""):
        out.add(row.name, value, origin, NOT_NEEDED, "It is empty: docker's default")
    elif row.handler:
        row.handler(out, row, value, origin)
    else:
        out.add_row(row, value, origin)

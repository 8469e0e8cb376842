# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read docker's daemon.json and dockerd's flags; keep secrets out of what is shown."""

from __future__ import annotations

import json
import math
import re
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import sanitize

DAEMON_JSON = "/etc/docker/daemon.json"
CERTS_D = "/etc/docker/certs.d"
#: What JSON has between its values.
WHITESPACE = " \t\r\n"
#: Levels of JSON; dockerd's own settings have 5 at most.
MAX_DEPTH = 64
PROXIES = {"http-proxy": "HTTP_PROXY", "https-proxy": "HTTPS_PROXY", "no-proxy": "NO_PROXY"}

#: dockerd's flags that take no value from the next word (moby's cmd/dockerd, 18.06 to 28.5; the
#: controller's table of all keys and flags, docker_config/keys.py, is checked against it).
BOOLEAN_FLAGS = frozenset(
    (
        "allow-direct-routing",
        "cri-containerd",
        "debug",
        "disable-legacy-registry",
        "experimental",
        "help",
        "icc",
        "init",
        "ip-forward",
        "ip-forward-no-drop",
        "ip-masq",
        "ip6tables",
        "iptables",
        "ipv6",
        "live-restore",
        "no-new-privileges",
        "raw-logs",
        "restart",
        "rootless",
        "selinux-enabled",
        "tls",
        "tlsverify",
        "userland-proxy",
        "validate",
        "version",
    )
)
#: The logging options of docker's drivers that keep logs on the node, and of all drivers. Every
#: other one belongs to a driver that sends logs away: its value may be a token, whatever its name.
LOG_OPTIONS = frozenset(
    (
        *("max-size", "max-file", "compress", "mode", "max-buffer-size", "tag"),
        *("labels", "labels-regex", "env", "env-regex"),
        *("cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"),
    )
)
#: dockerd's one-letter flags, by the letter.
SHORT_FLAGS = {
    "D": "debug",
    "G": "group",
    "H": "host",
    "b": "bridge",
    "g": "graph",
    "h": "help",
    "l": "log-level",
    "p": "pidfile",
    "r": "restart",
    "s": "storage-driver",
    "v": "version",
}


def proxies(environment: t.Dict[str, str]) -> t.Dict[str, str]:
    """The variables of dockerd's environment that it hands on to its downloads (dockerd(8))."""
    names = PROXIES.values()
    return {name: value for name, value in environment.items() if name.upper() in names}


def read_flags(words: t.Sequence[str]) -> t.List[t.Tuple[str, str]]:
    """dockerd's command line as [(flag, value)], in its order.

    words: with or without the program's name. A flag is named without its dashes, by its long name
    where dockerd has one; a boolean without a value is "true"; a word that belongs to no flag has
    the flag "". The rules are those of Go's pflag: a boolean takes a value only after "=", every
    other flag takes the next word whatever it is, letters may be joined (-Dl debug).
    """
    rest = list(words)
    if rest and not rest[0].startswith("-"):
        rest.pop(0)
    found = []  # type: t.List[t.Tuple[str, str]]
    while rest:
        word = rest.pop(0)
        if word in ("-", "--") or not word.startswith("-"):
            found.append(("", word))
        elif word.startswith("--"):
            name, separator, value = word[2:].partition("=")
            found.append((name, value if separator else _next_value(name, rest)))
        else:
            found += _short_flags(word[1:], rest)
    return found


def _short_flags(letters: str, rest: t.List[str]) -> t.List[t.Tuple[str, str]]:
    found = []  # type: t.List[t.Tuple[str, str]]
    while letters:
        name, letters = SHORT_FLAGS.get(letters[0], letters[0]), letters[1:]
        if letters.startswith("="):
            return [*found, (name, letters[1:])]
        if name in BOOLEAN_FLAGS:
            found.append((name, "true"))
        else:
            return [*found, (name, letters or _next_value(name, rest))]
    return found


def _next_value(name: str, rest: t.List[str]) -> str:
    return "true" if name in BOOLEAN_FLAGS or not rest else rest.pop(0)


def flag_values(words: t.Sequence[str]) -> t.Dict[str, t.List[str]]:
    """The flags of dockerd's command line by name, each with all of its values, in their order."""
    values = {}  # type: t.Dict[str, t.List[str]]
    for name, value in read_flags(words):
        if name:
            values.setdefault(name, []).append(value)
    return values


def config_file(flags: t.Dict[str, t.List[str]]) -> str:
    """The daemon.json that a dockerd with these flags reads."""
    return flags.get("config-file", [DAEMON_JSON])[-1]


def parse(text: str) -> t.Tuple[t.Dict[str, t.Any], t.Optional[str], t.List[str]]:
    """daemon.json's text as (value, error, keys that are there twice).

    As strict as Go's encoding/json where Python's is not (NaN, a number beyond 1e308), and like it
    takes the last of two equal keys and replaces half surrogates. With an error, value is what
    could be read all the same, {} mostly.
    """
    duplicates: t.List[str] = []

    def pairs(found: t.List[t.Tuple[str, t.Any]]) -> t.Dict[str, t.Any]:
        value: t.Dict[str, t.Any] = {}
        for key, item in found:
            key = replace_surrogates(key)
            if key in value:
                duplicates.append(key)
            value[key] = replace_surrogates(item)
        return value

    def refuse(word: str) -> t.Any:
        raise ValueError("%s is not a JSON number" % word[:20])

    def number(word: str) -> float:
        value = float(word)
        return refuse(word) if math.isinf(value) else value

    def whole(word: str) -> int:
        # More digits than int() reads (4300), or than any number of dockerd's has.
        return refuse(word) if len(word) > 400 else int(word)

    error = None
    if text.startswith("\ufeff"):
        text = text[1:]
        error = "it begins with a byte order mark (BOM), which dockerd before 23 refuses"
    start = len(text) - len(text.lstrip(WHITESPACE))
    if start == len(text):
        return {}, error, []
    decoder = json.JSONDecoder(
        object_pairs_hook=pairs, parse_constant=refuse, parse_float=number, parse_int=whole
    )
    try:
        value, end = decoder.raw_decode(text, start)
    except RecursionError:
        return {}, "it is nested too deeply", []
    except json.JSONDecodeError as exc:
        return {}, _syntax_error(exc), []
    except ValueError as exc:
        return {}, str(exc), []
    if not isinstance(value, dict):
        return {}, "a JSON object is expected, found %s" % type_of(value), []
    if _depth(value) > MAX_DEPTH:
        return {}, "it is nested too deeply", []
    if text[end:].strip(WHITESPACE):
        error = "something comes after the JSON object, which dockerd from 23 on refuses"
    return value, error, list(dict.fromkeys(duplicates))


def _syntax_error(error: json.JSONDecodeError) -> str:
    """What is wrong and where; the two most frequent faults by their names."""
    text, position, why = error.doc, error.pos, error.msg
    if text.startswith(("//", "/*", "#"), position):
        why = "JSON has no comments"
    else:
        # Before Python 3.13 the position is that of the bracket, not of the comma.
        before = text[:position].rstrip(WHITESPACE)
        comma = position if text.startswith(",", position) else len(before) - 1
        if text.startswith(",", comma) and text[comma + 1 :].lstrip(WHITESPACE)[:1] in ("]", "}"):
            position, why = comma, "JSON has no comma after the last entry"
    line = text.count("\n", 0, position) + 1
    return "line %d, column %d: %s" % (line, position - text.rfind("\n", 0, position), why)


def type_of(value: t.Any) -> str:
    """The type of a value, as JSON names it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, list):
        return "a list"
    names = {str: "a string", dict: "an object", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _depth(value: t.Any) -> int:
    level, depth = [value], 0
    while level:
        depth += 1
        level = [
            item
            for outer in level
            if isinstance(outer, (dict, list))
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return depth


def replace_surrogates(value: t.Any) -> t.Any:
    """Half surrogates as Go reads them: they cannot be written in UTF-8."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [replace_surrogates(item) for item in value]
    return value


def shown(value: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    """daemon.json, or the flags of dockerd with their values, without secrets."""
    found = t.cast("t.Dict[str, t.Any]", sanitize.blank(value))
    options = found.get("log-opts")
    if isinstance(options, dict):
        found["log-opts"] = {
            name: shown_log_option(name, option) for name, option in options.items()
        }
    if isinstance(found.get("log-opt"), list):
        found["log-opt"] = [_shown_assignment(option) for option in found["log-opt"]]
    return found


def shown_log_option(name: str, value: t.Any) -> t.Any:
    """The value of one logging option, unless a driver may have its password or token in it."""
    return value if name in LOG_OPTIONS or value in (None, "") else sanitize.BLANK


def shown_words(words: t.Sequence[str]) -> t.List[str]:
    """dockerd's command line without secrets."""
    found: t.List[str] = []
    for word in sanitize.blank(list(words)):
        if found and found[-1] == "--log-opt":
            word = _shown_assignment(word)
        elif word.startswith("--log-opt="):
            word = "--log-opt=" + _shown_assignment(word[len("--log-opt=") :])
        found.append(word)
    return found


def _shown_assignment(option: str) -> str:
    name, separator, value = option.partition("=")
    return name + separator + str(shown_log_option(name, value))

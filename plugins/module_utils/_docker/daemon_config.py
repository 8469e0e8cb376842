# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read docker's daemon.json; keep credentials out of what is shown."""

from __future__ import annotations

import json
import math
import re
import typing as t
import unicodedata

DAEMON_JSON = "/etc/docker/daemon.json"
#: Levels of JSON; dockerd's own settings have 5 at most.
DEEPEST = 64
CERTS_D = "/etc/docker/certs.d"
_PROXIES = {"http-proxy": "HTTP_PROXY", "https-proxy": "HTTPS_PROXY", "no-proxy": "NO_PROXY"}


def proxies(environment: t.Dict[str, str]) -> t.Dict[str, str]:
    """The variables of dockerd's environment that it hands on to its downloads (dockerd(8))."""
    names = _PROXIES.values()
    return {name: value for name, value in environment.items() if name.upper() in names}


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
            if key in value:
                duplicates.append(shown(key))
            value[_whole(key)] = _whole(item)
        return value

    def refuse(word: str) -> t.Any:
        raise ValueError("%s is no number of JSON" % shown(word[:20]))

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
    body = text.strip(" \t\r\n")
    if not body:
        return {}, error, []
    decoder = json.JSONDecoder(
        object_pairs_hook=pairs, parse_constant=refuse, parse_float=number, parse_int=whole
    )
    try:
        value, end = decoder.raw_decode(body)
    except RecursionError:
        return {}, "it is nested too deeply", []
    except ValueError as exc:
        return {}, shown(str(exc)), []
    if not isinstance(value, dict):
        return {}, "a JSON object is expected, found %s" % type(value).__name__, []
    if _depth(value) > DEEPEST:
        return {}, "it is nested too deeply", []
    if body[end:].strip(" \t\r\n"):
        error = "something comes after the JSON object, which dockerd from 23 on refuses"
    return value, error, list(dict.fromkeys(duplicates))


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


def _whole(value: t.Any) -> t.Any:
    """Half surrogates as Go reads them: they cannot be written in UTF-8."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value


def shown(text: str) -> str:
    """Text that may be hostile, for a terminal: control and formatting characters as escapes."""
    return "".join(
        character
        if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else ("\\x%02x" if ord(character) < 256 else "\\u%04x") % ord(character)
        for character in str(text)
    )


def without_credentials(value: t.Any) -> t.Any:
    """Blank out user:password@ in URLs and values of telling keys, anywhere in a JSON value."""
    if isinstance(value, dict):
        return {
            key: "***"
            if isinstance(item, str) and re.search(r"(?i)token|password|secret", str(key))
            else without_credentials(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [without_credentials(item) for item in value]
    if isinstance(value, str):
        value = re.sub(r"(?<=://)[^/\s]*@", "***@", value)
        # A proxy may be written without a scheme; an image's digest is none.
        value = re.sub(r"(^|=)[^\s/@:=]+:[^\s/@]+@(?!sha256:)", r"\1***@", value)
        # As an option on a command line.
        return re.sub(r"(?i)([\w.-]*(?:token|password|secret)[\w.-]*=)[^\s,]+", r"\1***", value)
    return value

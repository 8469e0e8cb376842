# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text made fit to be shown, without secrets and without control characters. Pure functions.

What reaches a terminal, a log, a report or a fact goes through shown(), blank() or clean(). A
secret is found by the name of its setting or by its form. In doubt more is blanked than needed.
"""

from __future__ import annotations

import json
import math
import re
import typing as t

BLANK = "***"

#: Words in the name of a setting whose value is a secret; names are compared as -my-pass-word-.
_TELLING = re.compile(
    r"passw|passphrase|passcode|secret|token|credential|apikey"
    r"|-(?:auth(?!or-|ors-)[a-z]*|pass|pwd|psk|sig|signature|cookies?|bearer|headers?)-"
    # license-key and licensekey; a setting that is called "key" alone is the name of something.
    r"|[a-z0-9]-?keys?-$"
)
#: What such a name may end with when the value is about the secret, and not the secret.
_HARMLESS = re.compile(
    r"-(?:file|files|path|paths|dir|directory|kubeconfig|mode|ttl|timeout|webhook|plugins?|enabled?"
    r"|endpoint|url|name|names|type|tls-?key)-$"
)

_URL_USER = re.compile(
    # A password may hold anything, so all up to the last @ belongs to it. Without a colon, an @
    # after a slash is a part of the path. An image's digest is none.
    r"((?<=://))(\S*:\S*|[^\s/]*)@(?!sha256:)(\S*)"
)
#: A proxy may be written without a scheme.
_USER = re.compile(r"(^|[\s=,;\"'(\[])([^\s/@:=\"']+:(?!//)\S+)@(?!sha256:)(\S*)", re.MULTILINE)
_VALUE = r"(?:\"(?:[^\"\\]|\\.)*\"|'[^']*'|\S+)"
#: name=value, as in a query, an environment and on a command line; --name value.
_ASSIGNED = re.compile(r"([\w.-]+)([ \t]?=[ \t]?)(" + _VALUE + ")")
_FLAG = re.compile(r"(?<!\S)(--?[A-Za-z][\w.-]*)([ \t]+)(?!-)(" + _VALUE + ")")
#: "name": value of JSON, and a line of YAML or a header.
_QUOTED = re.compile(
    r"(\\*[\"'][\w.-]+\\*[\"'])(\s*:\s*)"
    r"(\"(?:[^\"\\]|\\.)*\"|\\+\".*?\\+\"|'[^']*'|[^\s,}\]]+)"
)
_LINE = re.compile(r"(?m)^([ \t>*<#;/-]*[\w.-]+)(:[ \t]*)(\S.*)$")
_HEADER = re.compile(
    r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]+)([ \t]*:[ \t]*)(\S.*)"
)
#: Not the "basic authentication" of a sentence.
_SCHEME = re.compile(
    r"\b([Bb]earer|BEARER|[Bb]asic|BASIC)([ \t]+)((?=[\w.~+/=-]*[A-Z0-9=])[\w.~+/=-]{4,})"
)
_PEM = re.compile(
    r"(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)


def shown(value: t.Any) -> t.Any:
    """The value without secrets, and with nothing that a terminal would act on."""
    return clean(blank(value))


def shown_lines(text: str) -> str:
    """shown() of a text that keeps its lines."""
    return "\n".join(clean(line) for line in blank_text(text).split("\n"))


# --- secrets --------------------------------------------------------------------------------------


def is_secret(name: str) -> bool:
    """Whether the value of a setting, flag, variable or header of this name is a secret."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    words = "-%s-" % re.sub(r"[\W_]+", "-", words).strip("-").lower()
    return bool(_TELLING.search(words)) and not _HARMLESS.search(words)


def blank(value: t.Any, secret: bool = False) -> t.Any:
    """The same value without secrets: those in its texts, and what is under a telling name.

    secret: whether the name that the value itself is under says so.
    """
    if isinstance(value, dict):
        return {
            blank_text(key) if isinstance(key, str) else key: blank(
                item, secret or is_secret(str(key))
            )
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return _blank_words(value, secret)
    if secret:
        return _blank_value(value)
    return blank_text(value) if isinstance(value, str) else value


def _blank_words(words: t.Sequence[t.Any], secret: bool) -> t.List[t.Any]:
    """A list; on a command line a flag's value may be the next word."""
    found = []
    value_follows = False
    for word in words:
        found.append(blank(word, secret or value_follows))
        value_follows = (
            isinstance(word, str)
            and word.startswith("-")
            and "=" not in word
            and is_secret(word.lstrip("-"))
        )
    return found


def _blank_value(value: t.Any) -> t.Any:
    """What stands for a secret. Neither true nor false is one, nor nothing."""
    if value is None or isinstance(value, bool) or value in ("", "true", "false"):
        return value
    return BLANK


def blank_text(text: str) -> str:
    """A text without the secrets that are in it."""
    text = _PEM.sub(r"\1%s\2" % BLANK, text)
    text = _URL_USER.sub(_without_user, text)
    text = _USER.sub(_without_user, text)
    for pattern in (_HEADER, _SCHEME):
        text = pattern.sub(r"\1\2" + BLANK, text)
    for pattern in (_QUOTED, _LINE, _FLAG, _ASSIGNED):
        text = pattern.sub(_blank_match, text)
    return text


def _without_user(match: t.Match[str]) -> str:
    before, user, host = match.groups()
    # The @ may be one in ?token=value: then there is no telling where the value ends.
    asked = any(is_secret(name) for name in re.findall(r"([\w.-]+)=", user))
    return str(before + BLANK + ("" if asked else "@" + host))


def _blank_match(match: t.Match[str]) -> str:
    name, between, value = match.groups()
    if not is_secret(name) or _blank_value(value.strip("\"'")) != BLANK:
        # What follows may be the value's own name: log-opt=splunk-token=x.
        return name + between + (blank_text(value) if "=" in value else value)
    quote = value[0] if value[0] in "\"'" and value.endswith(value[0]) and len(value) > 1 else ""
    return name + between + quote + BLANK + quote


# --- TOML and YAML, which the nodes' Python cannot parse ------------------------------------------

_TOML = re.compile(
    r"(?P<comment>\#[^\n]*)"
    r"|(?P<string>\"\"\"(?:[^\\]|\\.)*?\"{3,5}(?!\")|'''.*?'{3,5}(?!')"
    r"|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*')"
    r"|(?P<mark>[\[\]{}=,\n])"
    r"|(?P<space>[ \t\r]+|\.)"
    r"|(?P<bare>[^\s\"'\[\]{}=,\#.]+(?:\.[0-9][^\s\"'\[\]{}=,\#]*)?)",
    re.DOTALL,
)


def blank_toml(text: str) -> str:
    """TOML without secrets and without comments. What is no TOML is blanked from there on."""
    found: t.List[str] = []
    table: t.List[str] = []  # of the header above
    keys: t.List[str] = []  # since the last value began
    #: Open brackets, and whether what is in each is secret.
    inside: t.List[t.Tuple[str, bool]] = []
    secret = in_value = False
    position = 0
    while position < len(text):
        match = _TOML.match(text, position)
        if not match:
            return "".join(found) + '"%s"\n' % BLANK
        position = match.end()
        kind, word = match.lastgroup, match.group(0)
        if kind == "comment":
            continue
        if kind in ("string", "bare"):
            said = _toml_string(word) if kind == "string" else word
            if not in_value:
                keys.append(said)
            if in_value and secret and _blank_value(said) == BLANK:
                word = '"%s"' % BLANK
            elif blank_text(said) != said:
                word = json.dumps(blank_text(said), ensure_ascii=False)
        elif word == "=":
            secret = _secret_key(table, keys) or any(outer for _bracket, outer in inside)
            in_value = True
        elif word in ("[", "{"):
            # At the start of a line it is a header, whose words are keys.
            if in_value or inside:
                inside.append((word, secret))
                in_value = word == "["
                keys = []
            elif not keys:
                table = []
        elif word in ("]", "}"):
            if inside:
                inside.pop()
                in_value = True
            else:
                table, keys = keys, []
        elif word == "," or (word == "\n" and not inside):
            in_value = bool(inside) and inside[-1][0] == "["
            secret = bool(inside) and inside[-1][1]
            keys = []
        found.append(word)
    return "".join(found)


def _secret_key(table: t.Sequence[str], keys: t.Sequence[str]) -> bool:
    # In a header, a word with a dot or a port is the name of a plugin or of a registry.
    named = [word for word in table if not re.search(r"[.:/]", word)]
    return "username" in keys or any(is_secret(word) for word in [*named, *keys])


def _toml_string(word: str) -> str:
    quotes = word[:3] if word[:3] in ('"""', "'''") else word[0]
    inner = word[len(quotes) : -len(quotes)]
    if quotes[0] == "'":
        return inner

    def character(match: t.Match[str]) -> str:
        escape = match.group(1)
        if escape[0] in "uU":
            number = int(escape[1:], 16)
            return chr(number) if number < 0x110000 else ""
        letters = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "e": "\x1b"}
        return "" if escape[0].isspace() else letters.get(escape, escape)

    return re.sub(r"(?s)\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[ \t]*\n\s*|.)", character, inner)


def blank_yaml(text: str) -> str:
    """YAML without secrets: a key with a telling name loses its value, on the lines below too."""
    if text.lstrip().startswith("{"):
        try:
            return json.dumps(blank(json.loads(text)), indent=1) + "\n"
        except ValueError:
            pass
    found: t.List[str] = []
    hidden = -1  # the column of the key whose value goes on
    for line in text.split("\n"):
        column = len(line) - len(line.lstrip(" "))
        is_item = line[column : column + 2] in ("- ", "-")
        if hidden >= 0 and (not line.strip() or column > hidden or (column == hidden and is_item)):
            continue
        hidden = -1
        match = re.match(r"((?: |- )*)([\w.-]+|\"[^\"]*\"|'[^']*')([ \t]*:)(?:[ \t]+(.*))?$", line)
        value = (match.group(4) or "").strip() if match else ""
        # The kubelet's tables of how clients prove who they are hold no secret.
        is_table = not value and bool(re.search(r"\b(authentication|authorization):\s*$", line))
        if match and is_secret(match.group(2)) and not is_table:
            if not value or _blank_value(value.strip("\"'")) == BLANK:
                line, hidden = (
                    match.group(1) + match.group(2) + ': "%s"' % BLANK,
                    len(match.group(1)),
                )
        elif "{" in line and re.search(r"[\w.-]+[\"']?[ \t]*:", line):
            line = _blank_flow(line)
        found.append(line if hidden >= 0 else blank_text(line))
    return "\n".join(found)


def has_secrets(text: str, form: str) -> bool:
    """Whether there is anything to blank in a file; form: "toml" or "yaml"."""
    blanked = {"toml": blank_toml, "yaml": blank_yaml}[form](text)
    return BLANK in blanked + blank_text(text)


def _blank_flow(line: str) -> str:
    """{name: value} on one line: from the first telling name on nothing is kept, so no YAML."""
    for match in re.finditer(r"([\w.-]+)[\"']?[ \t]*:(?![ \t]*\{)", line):
        if is_secret(match.group(1)):
            return line[: match.end()] + ' "%s"' % BLANK
    return line


# --- control characters ---------------------------------------------------------------------------


def clean(value: t.Any) -> t.Any:
    """The same value with nothing in its strings that a terminal or a browser would act on.

    Labels, names and files are other people's: they may hold ANSI escapes, line breaks, marks that
    turn the direction of writing, halves of surrogate pairs. Each such character is replaced by how
    Python writes it (\\x1b, \\u202e), so that a person sees that it was there. Goes into lists and
    dictionaries, their keys too. Numbers that JSON does not know (NaN, Infinity) become text.
    HTML's own characters stay: whoever writes HTML escapes them there.
    """
    if isinstance(value, str):
        return "".join(char if char.isprintable() else _escape(char) for char in value)
    if isinstance(value, dict):
        return {clean(str(key)): clean(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(entry) for entry in value]
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return clean(str(value))


def _escape(char: str) -> str:
    # A tab or a space of another width is no danger and no news.
    if char == "\t" or (char.isspace() and ord(char) > 127 and char not in "\u0085\u2028\u2029"):
        return " "
    return char.encode("unicode_escape").decode("ascii")

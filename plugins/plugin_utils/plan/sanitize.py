# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text from nodes and from the API, made fit to be shown. Pure functions."""

from __future__ import annotations

import math
import typing as t


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

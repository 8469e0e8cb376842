# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values of daemon.json: their types, and sizes as docker and Kubernetes write them."""

from __future__ import annotations

import math
import re
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._docker.daemon_config import (
    MAX_DEPTH,
    replace_surrogates,
)

#: The types of the table's rows, in words.
TYPES = {
    "bool": "true or false",
    "int": "a whole number",
    "str": "a string",
    "list": "a list of strings",
    "objects": "a list",
    "map": "an object",
}


def to_json(value: t.Any, depth: int = 0) -> t.Any:
    """Any value as JSON can have it; what is nested deeper than anything of dockerd's is cut."""
    if depth > MAX_DEPTH:
        return "…"
    if isinstance(value, dict):
        return {
            replace_surrogates(str(name)): to_json(item, depth + 1) for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [to_json(item, depth + 1) for item in value]
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return replace_surrogates(str(value))


def has_type(kind: str, value: t.Any) -> bool:
    """Whether Go's encoding/json accepts this value for a field of this type."""
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


def parse_size(text: str, base: int = 1000) -> int | None:
    """A size as docker writes it, in bytes; None where it is none (docker/go-units, size.go).

    FromHumanSize, which the log drivers use, counts in thousands whatever the suffix ("10m",
    "10MB" and "10MiB" are the same); with base 1024 it is RAMInBytes.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(?:i?b)?", text.strip().lower())
    if not match or len(match.group(1)) > 30:
        return None
    factor: int = base ** " kmgtp".index(match.group(2) or " ")
    number = match.group(1)
    return int(number) * factor if number.isdigit() else int(float(number) * factor)


def kubernetes_quantity(size: int) -> str:
    """Bytes as a Kubernetes quantity, exactly ("10M": a small m would be a thousandth)."""
    for unit, factor in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if size % factor == 0:
            return "%d%s" % (size // factor, unit)
    return str(size)

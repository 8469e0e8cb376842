# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Durations, sizes, numbers and lists in words."""

from __future__ import annotations

import typing as t


def duration(seconds: float) -> str:
    """What was measured, as a person says it: 2.6 s, 27 s, 4 min 14 s, 1 h 20 min."""
    if seconds < 59.95:
        return ("%.1f" % seconds).removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 600 and whole % 60:
        return "%d min %d s" % divmod(whole, 60)
    if whole < 5400:
        return "%d min" % round(whole / 60)
    return "%d h %d min" % divmod(round(whole / 60), 60)


def about(seconds: float) -> str:
    """What is estimated, no more precise than it can be: 3 s, 25 s, 8 min, 1 h 20 min."""
    if seconds < 10:
        return "%d s" % max(1, round(seconds)) if seconds else "0 s"
    if seconds < 90:
        return "%d s" % (5 * round(seconds / 5))
    return duration(60 * round(seconds / 60))


def size(count: float) -> str:
    """Bytes in decimal units, as docker shows them: 451 MB, 1.2 GB."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 999.5 or unit == "TB":
            digits = 1 if count < 10 and unit != "bytes" else 0
            return "%.*f %s" % (digits, count, unit)
        count /= 1000
    raise AssertionError


def plural(count: int, noun: str) -> str:
    return "%d %s%s" % (count, noun, "" if count == 1 else "s")


def join_limited(names: t.Iterable[object], limit: int = 8) -> str:
    """A list in words; of a long one the first names and the number of the others."""
    listed = [str(name) for name in names]
    more = len(listed) - limit
    return ", ".join(listed[:limit]) + (" and %d more" % more if more > 0 else "")

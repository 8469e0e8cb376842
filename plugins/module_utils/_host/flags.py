# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Split command lines into flags."""

from __future__ import annotations

import typing as t


def split_flags(words: t.Sequence[str]) -> t.List[t.Tuple[str, t.List[str]]]:
    """Group command-line words into (flag name without dashes, the words it was written as).

    ``--flag value`` and ``--flag=value`` both make one group; a word that belongs to no flag
    is a group with the name "".
    """
    groups: t.List[t.Tuple[str, t.List[str]]] = []
    for word in words:
        if word.startswith("-"):
            groups.append((word.lstrip("-").split("=", 1)[0], [word]))
        elif groups and groups[-1][0] and len(groups[-1][1]) == 1 and "=" not in groups[-1][1][0]:
            groups[-1][1].append(word)
        else:
            groups.append(("", [word]))
    return groups


def flag_values(words: t.Sequence[str]) -> t.Dict[str, str]:
    """Flag name to value, the last one winning as in the kubelet; a bare flag is "true"."""
    values = {}
    for name, written in split_flags(words):
        if name:
            first = written[0]
            if "=" in first:
                values[name] = first.split("=", 1)[1]
            else:
                values[name] = written[1] if len(written) > 1 else "true"
    return values

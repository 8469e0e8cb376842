# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read tar-split files: the order and the headers of a layer."""

from __future__ import annotations

import base64
import json
import typing as t

#: A file's bytes, or the bytes between files: ("file", path in the layer, size) or ("bytes", b"").
Part = t.Tuple[str, t.Any, int]


def tar_parts(lines: t.Iterable[bytes]) -> t.Iterator[Part]:
    """The tar stream of a layer, from docker's tar-split.json (github.com/vbatts/tar-split).

    Each line is an entry: type 1 is a file, whose bytes are in the layer's directory, type 2 is
    what the stream has between them. Together they are the stream that docker got, to the byte.
    """
    for line in lines:
        entry = json.loads(line)
        if entry["type"] == 2:
            payload = base64.b64decode(entry.get("payload") or "")
            yield ("bytes", payload, len(payload))
        elif entry.get("size"):
            # A name that is not UTF-8 is in name_raw.
            raw = base64.b64decode(entry.get("name_raw") or "")
            yield ("file", raw or entry["name"].encode(), entry["size"])


def stream_size(lines: t.Iterable[bytes]) -> int:
    """How many bytes tar_parts() describe, without decoding them: lines are many and long."""
    total = 0
    for line in lines:
        if line.startswith(b'{"type":2,"payload":"'):
            end = line.index(b'"', 21)
            total += (end - 21) // 4 * 3 - line.count(b"=", end - 2, end)
        else:
            total += sum(size for _kind, _what, size in tar_parts([line]))
    return total

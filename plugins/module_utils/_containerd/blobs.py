# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the blobs that adopted images lack."""

from __future__ import annotations

import json
import os
import time
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._containerd import (
    adopter,
    adoption,
    client,
)
from ansible_collections.homelab.containerd.plugins.module_utils._docker import layer_store
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    files,
    progress,
)

Facts = t.Dict[str, t.Any]


def be_modest() -> None:
    """Behind everybody else in the queues for CPU and disk; what feeds containerd sets its pace."""
    os.nice(19)
    commands.run(["ionice", "-c", "3", "-p", str(os.getpid())], check=False)


def write_blob(layer: Facts, record: Facts, tell: t.Callable[[int], None]) -> None:
    """One layer's blob, from the first of its directories that has it whole."""
    tar_split = "%s/%s.json.gz" % (adopter.TAR_SPLITS, adopter.hexadecimal(layer["chain"]))
    failures = []
    for places in ("snapshots", "docker"):
        directory = record.get(places, {}).get(layer["chain"])
        if not directory or not os.path.isdir(directory):
            failures.append("no directory in %s" % places)
            continue

        def chunks(directory: str = directory) -> t.Iterator[bytes]:
            for chunk in layer_store.tar_stream(tar_split, directory):
                tell(len(chunk))
                yield chunk

        # A name of its own: what a killed run left under a name, ctr wants to go on with, and
        # cannot, as a pipe has no offset. containerd drops that after a day
        # (metadata/content.go, expireAt).
        key = "homelab-fill-%s-%d" % (layer["diff"], time.time_ns())
        words = ["content", "ingest", "--expected-digest", layer["diff"]]
        words += ["--expected-size", str(layer["size"]), key]
        try:
            client.ctr_feed(words, chunks())
            return
        except (OSError, commands.NodeError) as exc:
            failures.append(str(exc))
    raise commands.NodeError(
        "The blob %s could not be written: %s. docker save NAME | ctr -n k8s.io images import - "
        "brings the image whole, where docker still has it." % (layer["diff"], "; ".join(failures))
    )


def shortly(entries: t.Sequence[Facts]) -> t.List[Facts]:
    return [dict(entry, layers=len(entry["layers"])) for entry in entries]


def listed(entries: t.Sequence[Facts]) -> str:
    return "".join(
        "%s lacks %d blobs\n" % (", ".join(entry["names"]), len(entry["layers"]))
        for entry in entries
    )


def write_blobs(
    layers: t.Sequence[Facts], total: int, record: Facts, report: progress.Progress
) -> None:
    state = {"bytes": 0, "said": 0.0}
    for number, layer in enumerate(layers):

        def tell(count: int, number: int = number) -> None:
            state["bytes"] += count
            if time.monotonic() - state["said"] > 3:
                state["said"] = time.monotonic()
                report.say(
                    "making images whole: %d of %d layers, %.0f of %.0f MB"
                    % (number, len(layers), state["bytes"] / 1e6, total / 1e6)
                )

        write_blob(layer, record, tell)
    report.say("%d layers written, %.0f MB" % (len(layers), total / 1e6))


def forget_what_is_whole(record: Facts) -> None:
    """Drop the notes of images that lack nothing any more, or are gone."""
    found = adoption.lacking(record, *adopter.manifests_and_blobs(), fill="all")
    lacking = {entry["id"] for entry in found["waiting"]}
    kept = {key: image for key, image in record["images"].items() if key in lacking}
    chains = {layer["chain"] for image in kept.values() for layer in image["layers"]}
    if kept != record["images"]:
        for places in ("snapshots", "docker"):
            record[places] = {c: d for c, d in record.get(places, {}).items() if c in chains}
        record["images"] = kept
        files.write_text(adopter.RECORD, json.dumps(record, sort_keys=True), 0o600)
    names = {adopter.hexadecimal(chain) + ".json.gz" for chain in chains}
    if os.path.isdir(adopter.TAR_SPLITS):
        for name in set(os.listdir(adopter.TAR_SPLITS)) - names:
            os.unlink(os.path.join(adopter.TAR_SPLITS, name))

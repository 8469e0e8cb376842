# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restores the blobs that adopted images miss, from the layers' files in containerd or docker.

Used by the module that completes images after a migration, and by builds whose base image is not
complete yet. Adoption keeps a record of what it adopted (adopter.RECORD); docker is not asked.
"""

from __future__ import annotations

import json
import os
import re
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
    flags,
    lock,
    mounts,
    paths,
    progress,
)

Facts = t.Dict[str, t.Any]

#: imageGCHighThresholdPercent of a kubelet whose configuration does not set it.
IMAGE_GC_PERCENT = 85
#: imagefs.available of a kubelet whose configuration does not set evictionHard.
EVICTION_PERCENT = 15
#: Of the kubelet's quantities; 0 is for what depends on the disk.
UNITS = {"": 1, "%": 0, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
UNITS.update(Ki=1 << 10, Mi=1 << 20, Gi=1 << 30, Ti=1 << 40)
#: What modules keep free, and where, unless they are told otherwise.
RESERVE_BYTES = 1 << 30
CONTAINERD_ROOT = "/var/lib/containerd"
KUBELET_CONFIG = paths.KUBELET_CONFIG


def lower_priority() -> None:
    """Behind everybody else in the queues for CPU and disk; what feeds containerd sets its pace."""
    os.nice(19)
    commands.run(["ionice", "-c", "3", "-p", str(os.getpid())], check=False)


def _kubelet_settings() -> t.Tuple[t.Dict[str, str], str]:
    """The kubelet's flags, and the text of its configuration file."""
    _pid, words = commands.command_line("kubelet")
    given = flags.flag_values(words[1:])
    return given, files.read_text(given.get("config", KUBELET_CONFIG)) or ""


def image_gc_percent() -> int:
    """How full the disk may be before the kubelet's image garbage collection starts."""
    given, text = _kubelet_settings()
    found = re.search(r"(?m)^imageGCHighThresholdPercent:\s*(\d+)", text)
    value = given.get("image-gc-high-threshold") or (found.group(1) if found else "")
    return int(value) if value.isdigit() else IMAGE_GC_PERCENT


def eviction_bytes(total: int) -> int:
    """How much of a disk has to be free, or the kubelet evicts pods (imagefs.available)."""
    given, text = _kubelet_settings()
    block = re.search(r"(?m)^evictionHard:[ \t]*\n((?:[ \t]+.*\n?)+)", text)
    if "eviction-hard" in given:
        threshold = re.search(r"imagefs\.available<([^,\s]+)", given["eviction-hard"])
    elif block:
        threshold = re.search(r"imagefs\.available\W+([0-9.]+[A-Za-z%]*)", block.group(1))
    else:
        return total * EVICTION_PERCENT // 100
    amount = re.match(r"([0-9.]+)([A-Za-z%]*)$", threshold.group(1) if threshold else "0")
    if not amount or amount.group(2) not in UNITS:
        return 0
    return int(float(amount.group(1)) * (UNITS[amount.group(2)] or total / 100))


def free_to_keep(total: int) -> t.Tuple[int, str]:
    """How much of the disk the kubelet wants free, and by which of its settings."""
    percent = 100 - image_gc_percent()
    collection, eviction = total * percent // 100, eviction_bytes(total)
    if eviction > collection:
        return eviction, "for the kubelet's eviction (evictionHard, imagefs.available)"
    return collection, (
        "%d %% of the disk for the kubelet's image garbage collection "
        "(imageGCHighThresholdPercent)" % percent
    )


def missing(record: Facts, restore: str) -> t.Dict[str, t.List[Facts]]:
    """adoption.missing_blobs(), of what containerd has now."""
    if not record:
        return {"waiting": [], "remaining": []}
    manifests, blobs = adopter.manifests_and_blobs()
    return adoption.missing_blobs(record, manifests, blobs - set(lost(record, blobs)), restore)


def lost(record: Facts, blobs: t.Container[str]) -> t.List[str]:
    """Layers' blobs that containerd lists, and whose files a power cut took away.

    It writes the content to the disk and then renames the file; the name may be lost.
    """
    root = record.get("containerd_root", CONTAINERD_ROOT)
    sizes = {
        layer["diff"]: layer["size"]
        for image in record.get("images", {}).values()
        for layer in image["layers"]
        if layer["diff"] in blobs
    }
    return [
        digest
        for digest, size in sorted(sizes.items())
        if adoption.content_size(root, digest) != size
    ]


def layers_of(entries: t.Iterable[Facts]) -> t.Dict[str, Facts]:
    """The layers without a blob, each once, by diff ID."""
    return {layer["diff"]: layer for entry in entries for layer in entry["layers"]}


def total_bytes(entries: t.Iterable[Facts]) -> int:
    return sum(layer["size"] for layer in layers_of(entries).values())


def fitting(waiting: t.Sequence[Facts], room: int) -> t.Tuple[t.List[Facts], t.List[Facts]]:
    """Which images to complete, in which order, and which not because there is no space.

    Those that no registry has come first, and always. The others follow, the smallest first, as
    long as all together take no more than ``room`` bytes.
    """
    chosen: t.List[Facts] = []
    remaining = []
    for entry in sorted(waiting, key=lambda entry: (not entry["local"], entry["bytes"])):
        if entry["local"] or total_bytes(chosen + [entry]) <= room:
            chosen.append(entry)
        else:
            remaining.append(entry)
    return chosen, remaining


def check_space(entries: t.Sequence[Facts], reserve: int, root: str) -> None:
    total, free = total_bytes(entries), mounts.disk_facts(root)["free_bytes"]
    if entries and total + reserve > free:
        raise commands.NodeError(
            "Not enough space for the blobs of adopted images: %s needs %.1f MB and %.1f MB kept "
            "in reserve (carry_images_reserve_bytes), and has %.1f MB free. Free space, or set "
            "carry_images_restore to never; nothing was changed."
            % (root, total / 1e6, reserve / 1e6, free / 1e6)
        )


def shortly(entries: t.Sequence[Facts]) -> t.List[Facts]:
    return [dict(entry, layers=len(entry["layers"])) for entry in entries]


def listed(entries: t.Sequence[Facts]) -> str:
    return "".join(
        "%s misses %d blobs\n" % (", ".join(entry["names"]), len(entry["layers"]))
        for entry in entries
    )


def whole_tar_split(layer: Facts, record: Facts) -> str:
    """Our copy of docker's record of a layer's tar stream, taken from docker again if it has to be.

    A power cut may have left it short or empty, as an earlier version did not wait for the disk.
    """
    place = adopter.tar_split(layer["chain"])
    directory = record.get("docker", {}).get(layer["chain"], "")
    original = layer_store.tar_split_of(directory, layer["chain"])
    failures = []
    for path in (place, original):
        try:
            size = layer_store.recorded_size(path)
            if size == layer["size"]:
                if path == original:
                    adopter.keep_tar_splits({layer["chain"]: original})
                return place
            failures.append("%s describes %d bytes" % (path, size))
        except layer_store.DAMAGE as exc:
            failures.append("%s: %s" % (path, exc))
    raise commands.NodeError(
        "docker's record of the layer's tar stream is damaged, and docker has no other (%s)"
        % "; ".join(failures)
    )


def write_blob(layer: Facts, record: Facts, count: t.Callable[[int], None]) -> None:
    """One layer's blob, from the first of its directories that has it whole."""
    failures = []
    for places in ("snapshots", "docker"):
        directory = record.get(places, {}).get(layer["chain"])
        if not directory or not os.path.isdir(directory):
            failures.append("no directory in %s" % places)
            continue

        def chunks(directory: str = directory) -> t.Iterator[bytes]:
            for chunk in layer_store.tar_stream(whole_tar_split(layer, record), directory):
                count(len(chunk))
                yield chunk

        # A name of its own: what a killed run left under a name, ctr wants to go on with, and
        # cannot, as a pipe has no offset. containerd drops that after a day
        # (metadata/content.go, expireAt).
        key = "homelab-restore-%s-%d" % (layer["diff"], time.time_ns())
        words = ["content", "ingest", "--expected-digest", layer["diff"]]
        words += ["--expected-size", str(layer["size"]), key]
        try:
            client.ctr_feed(words, chunks())
            return
        except (OSError, commands.NodeError) as exc:
            failures.append(str(exc))
    raise commands.NodeError(
        "The blob %s could not be written: %s. docker save NAME | ctr -n k8s.io images import - "
        "imports the complete image, if docker still has it." % (layer["diff"], "; ".join(failures))
    )


def restore(entries: t.Sequence[Facts], record: Facts, report: progress.Progress) -> None:
    """Write the blobs that these images miss, and check that they are complete afterwards."""
    layers = list(layers_of(entries).values())
    total = total_bytes(entries)
    # containerd does not take again what it believes to have.
    gone = set(lost(record, client.content())) & {layer["diff"] for layer in layers}
    if gone:
        client.ctr("content", "delete", *sorted(gone))
    state = {"bytes": 0, "said": 0.0}
    for number, layer in enumerate(layers):

        def count(size: int, number: int = number) -> None:
            state["bytes"] += size
            if time.monotonic() - state["said"] > 3:
                state["said"] = time.monotonic()
                report.say(
                    "restoring missing blobs: %d of %d layers, %.0f of %.0f MB"
                    % (number, len(layers), state["bytes"] / 1e6, total / 1e6)
                )

        write_blob(layer, record, count)
    # The notes are dropped when this returns.
    layer_store.sync_file_system(record.get("containerd_root", CONTAINERD_ROOT))
    report.say("%d layers written, %.0f MB" % (len(layers), total / 1e6))
    wanted = {entry["id"] for entry in entries}
    still = [entry for entry in missing(record, "all")["waiting"] if entry["id"] in wanted]
    if still:
        raise commands.NodeError(
            "%s still miss blobs although they were written: something removed them; run this "
            "again" % ", ".join(name for entry in still for name in entry["names"])
        )


def forget_complete(record: Facts) -> None:
    """Drop the notes of images that miss nothing any more, or are gone."""
    missed = {entry["id"] for entry in missing(record, "all")["waiting"]}
    kept = {key: image for key, image in record["images"].items() if key in missed}
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


def restore_bases(digests: t.Container[str], report: progress.Progress) -> t.List[str]:
    """Complete the adopted images that a build stumbled over; returns their names.

    digests: of manifests or layers. NodeError where there is no space, or another run is at work.
    """
    with lock.held("build, restoring blobs of its base images"):
        record = adopter.load(adopter.RECORD)
        entries = [
            entry
            for entry in missing(record, "all")["waiting"]
            if record["images"][entry["id"]]["manifest"] in digests
            or any(layer["diff"] in digests for layer in entry["layers"])
        ]
        if entries:
            check_space(entries, RESERVE_BYTES, CONTAINERD_ROOT)
            restore(entries, record, report)
            forget_complete(record)
    return sorted(name for entry in entries for name in entry["names"])

#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fill_images
short_description: Write the blobs that images adopted from docker lack
version_added: "0.2.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - An image that M(homelab.containerd.carry_images) adopted runs, but has no blobs of its layers,
    so it can neither be exported nor pushed nor built upon. This writes them, at low priority.
  - Each is made from the layer's own files in containerd and docker's record of the tar stream they
    came from, and containerd compares its digest. docker is not asked, and need not run.
  - A run that broke off goes on with the layer where it was.
options:
  fill:
    description:
      - Which images are to be filled. V(local_only) are those that docker had from no registry.
      - By default what carry_images was told.
    type: str
    choices: [never, local_only, all]
  reserve_bytes:
    description: Bytes that have to stay free where containerd keeps its content.
    type: int
    default: 1073741824
  containerd_root:
    description: Where containerd keeps its content.
    type: path
    default: /var/lib/containerd
  progress_file:
    description: Where to write progress. Set by the action plugin.
    type: path
attributes:
  check_mode:
    description: Says what would be written.
    support: full
  diff_mode:
    description: Shows the images that lack blobs, before and after.
    support: full
"""

EXAMPLES = r"""
- name: Make images whole that no registry has
  homelab.containerd.fill_images:
    fill: local_only
"""

RETURN = r"""
waiting:
  description:
    - The images that lacked blobs and were to have them, each with C(id), C(names), C(layers) (how
      many it lacked) and C(bytes).
  returned: always
  type: list
  elements: dict
left:
  description: The same of the images that go on without, since I(fill) leaves them out.
  returned: always
  type: list
  elements: dict
bytes:
  description: Bytes of the blobs written (in check mode, to write), each counted once.
  returned: always
  type: int
seconds:
  description: How long it took, to a hundredth.
  returned: always
  type: float
"""

import json
import os
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils import (
    adopter,
    adoption,
    layer_store,
    node,
)

Facts = t.Dict[str, t.Any]


def be_modest() -> None:
    """Behind everybody else in the queues for CPU and disk; what feeds containerd sets its pace."""
    os.nice(19)
    node.run(["ionice", "-c", "3", "-p", str(os.getpid())], check=False)


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
            node.ctr_feed(words, chunks())
            return
        except (OSError, node.NodeError) as exc:
            failures.append(str(exc))
    raise node.NodeError(
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


def run_module(module: AnsibleModule) -> Facts:
    started = time.monotonic()
    progress = node.Progress(module.params["progress_file"])
    record = adopter.load(adopter.RECORD)
    fill = module.params["fill"] or record.get("fill", "local_only")
    found: t.Dict[str, t.List[Facts]] = {"waiting": [], "left": []}
    if record:
        found = adoption.lacking(record, *adopter.manifests_and_blobs(), fill=fill)
    layers = {layer["diff"]: layer for entry in found["waiting"] for layer in entry["layers"]}
    total = sum(layer["size"] for layer in layers.values())
    result = {
        "changed": bool(layers),
        "waiting": shortly(found["waiting"]),
        "left": shortly(found["left"]),
        "bytes": total,
        "diff": {
            "before": listed(found["waiting"] + found["left"]),
            # Some of them have been made whole with the others, by layers they share.
            "after": listed(
                [
                    entry
                    for entry in found["left"]
                    if any(layer["diff"] not in layers for layer in entry["layers"])
                ]
            ),
        },
    }
    free = node.disk_facts(module.params["containerd_root"])["free_bytes"]
    if layers and total + module.params["reserve_bytes"] > free:
        raise node.NodeError(
            "Not enough space for the blobs of adopted images: %s needs %.1f MB and %.1f MB kept "
            "in reserve (carry_images_reserve_bytes), and has %.1f MB free. Make room, or set "
            "carry_images_fill to never; nothing was changed."
            % (
                module.params["containerd_root"],
                total / 1e6,
                module.params["reserve_bytes"] / 1e6,
                free / 1e6,
            )
        )
    if layers and not module.check_mode:
        be_modest()
        write_blobs(list(layers.values()), total, record, progress)
        left = adoption.lacking(record, *adopter.manifests_and_blobs(), fill=fill)["waiting"]
        if left:
            raise node.NodeError(
                "%s still lack blobs although they were written: something removed them; run this "
                "again" % ", ".join(name for entry in left for name in entry["names"])
            )
    if record and not module.check_mode:
        forget_what_is_whole(record)
    result["seconds"] = round(time.monotonic() - started, 2)
    return result


def write_blobs(
    layers: t.Sequence[Facts], total: int, record: Facts, progress: node.Progress
) -> None:
    state = {"bytes": 0, "said": 0.0}
    for number, layer in enumerate(layers):

        def tell(count: int, number: int = number) -> None:
            state["bytes"] += count
            if time.monotonic() - state["said"] > 3:
                state["said"] = time.monotonic()
                progress.say(
                    "making images whole: %d of %d layers, %.0f of %.0f MB"
                    % (number, len(layers), state["bytes"] / 1e6, total / 1e6)
                )

        write_blob(layer, record, tell)
    progress.say("%d layers written, %.0f MB" % (len(layers), total / 1e6))


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
        node.write_text(adopter.RECORD, json.dumps(record, sort_keys=True), 0o600)
    names = {adopter.hexadecimal(chain) + ".json.gz" for chain in chains}
    if os.path.isdir(adopter.TAR_SPLITS):
        for name in set(os.listdir(adopter.TAR_SPLITS)) - names:
            os.unlink(os.path.join(adopter.TAR_SPLITS, name))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "fill": {"type": "str", "choices": ["never", "local_only", "all"]},
            "reserve_bytes": {"type": "int", "default": 1 << 30},
            "containerd_root": {"type": "path", "default": "/var/lib/containerd"},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )

    def work() -> t.Dict[str, t.Any]:
        with adopter.alone(module.check_mode):
            return run_module(module)

    node.finish(module, work)


if __name__ == "__main__":
    main()

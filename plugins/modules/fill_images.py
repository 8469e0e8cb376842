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

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import (
    adopter,
    adoption,
)
from ansible_collections.homelab.containerd.plugins.module_utils._containerd.blobs import (
    Facts,
    be_modest,
    forget_what_is_whole,
    listed,
    shortly,
    write_blobs,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    mounts,
    progress,
)


def run_module(module: AnsibleModule) -> Facts:
    started = time.monotonic()
    report = progress.Progress(module.params["progress_file"])
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
    free = mounts.disk_facts(module.params["containerd_root"])["free_bytes"]
    if layers and total + module.params["reserve_bytes"] > free:
        raise commands.NodeError(
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
        write_blobs(list(layers.values()), total, record, report)
        left = adoption.lacking(record, *adopter.manifests_and_blobs(), fill=fill)["waiting"]
        if left:
            raise commands.NodeError(
                "%s still lack blobs although they were written: something removed them; run this "
                "again" % ", ".join(name for entry in left for name in entry["names"])
            )
    if record and not module.check_mode:
        forget_what_is_whole(record)
    result["seconds"] = round(time.monotonic() - started, 2)
    return result


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

    progress.finish(module, work)


if __name__ == "__main__":
    main()

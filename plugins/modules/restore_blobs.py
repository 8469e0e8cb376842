#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_blobs
short_description: Restore the blobs that images adopted from docker miss
version_added: "0.2.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - An image that M(homelab.containerd.carry_images) adopted runs, but has no blobs of its layers.
    So it cannot be exported, pushed or used as a base. This module restores the blobs, at low
    priority.
  - Each blob is made from the layer's files in containerd and from docker's record of the original
    tar stream, and containerd compares its digest. docker does not have to run.
  - Images that no registry has come first. The others follow, the smallest first, as long as the
    disk stays below the threshold of the kubelet's image garbage collection
    (C(imageGCHighThresholdPercent), 85 by default) and above that of its eviction (C(evictionHard),
    C(imagefs.available)), and I(reserve_bytes) stay free. A warning names
    the images without space for their blobs.
  - An interrupted run is resumed with the layer that was being restored.
extends_documentation_fragment:
  - homelab.containerd.attributes
  - homelab.containerd.detached
options:
  restore:
    description:
      - The images whose blobs are restored. V(local_only) are those that no registry has.
      - The default is the value that M(homelab.containerd.carry_images) used.
    type: str
    choices: [never, local_only, all]
  reserve_bytes:
    description: Bytes that have to stay free on the file system of containerd's content.
    type: int
    default: 1073741824
  containerd_root:
    description: The directory of containerd's content.
    type: path
    default: /var/lib/containerd
attributes:
  check_mode:
    support: full
    details: Shows what would be written.
  diff_mode:
    support: full
    details: Shows the images that miss blobs, before and after.
"""

EXAMPLES = r"""
- name: Restore the missing blobs of all adopted images
  homelab.containerd.restore_blobs:
    restore: all
"""

RETURN = r"""
waiting:
  description:
    - The images that missed blobs and were selected, each with C(id), C(names), C(local)
      (whether no registry has it), C(layers) (how many it missed) and C(bytes).
  returned: always
  type: list
  elements: dict
remaining:
  description:
    - The same for the images that remain incomplete, because O(restore) leaves them out or because
      there is no space for their blobs.
  returned: always
  type: list
  elements: dict
bytes:
  description: Bytes of the blobs written (in check mode, to write), each counted once.
  returned: always
  type: int
delta:
  description: How long it took on the node, in seconds.
  returned: when not in check mode
  type: float
"""


from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import (
    adopter,
    blobs,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import mounts, progress


def run_module(module: AnsibleModule) -> blobs.Facts:
    report = progress.Progress(module.params["progress_file"])
    root, reserve = module.params["containerd_root"], module.params["reserve_bytes"]
    record = adopter.load(adopter.RECORD)
    found = blobs.missing(record, module.params["restore"] or record.get("restore", "all"))
    disk = mounts.disk_facts(root)
    kept_free, why = blobs.free_to_keep(disk["total_bytes"])
    kept_free += reserve
    waiting, no_room = blobs.fitting(found["waiting"], disk["free_bytes"] - kept_free)
    left = found["remaining"] + no_room
    layers = blobs.layers_of(waiting)
    result = {
        "changed": bool(layers),
        "waiting": blobs.shortly(waiting),
        "remaining": blobs.shortly(left),
        "bytes": blobs.total_bytes(waiting),
        "diff": {
            "before": blobs.listed(waiting + left),
            # Some of them are complete now, because they share layers with the others.
            "after": blobs.listed(
                [
                    entry
                    for entry in left
                    if any(layer["diff"] not in layers for layer in entry["layers"])
                ]
            ),
        },
    }
    blobs.check_space(waiting, reserve, root)
    if layers and not module.check_mode:
        blobs.lower_priority()
        blobs.restore(waiting, record, report)
    if no_room:
        result["warnings"] = [
            "%s would need %.1f MB for the blobs of these images, and %.1f MB have to stay free: "
            "%s, and carry_images_reserve_bytes. They run, but a build "
            "on one pulls it again, and an export fails: %s. Free some space and run this again."
            % (
                root,
                blobs.total_bytes(no_room) / 1e6,
                kept_free / 1e6,
                why,
                ", ".join(name for entry in no_room for name in entry["names"]),
            )
        ]
    if record and not module.check_mode:
        blobs.forget_complete(record)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "restore": {"type": "str", "choices": ["never", "local_only", "all"]},
            "reserve_bytes": {"type": "int", "default": 1 << 30},
            "containerd_root": {"type": "path", "default": "/var/lib/containerd"},
            "progress_file": {"type": "path"},
            "started_by": {"type": "str"},
        },
        supports_check_mode=True,
    )
    progress.finish(module, lambda: run_module(module), holds="restore_blobs")


if __name__ == "__main__":
    main()

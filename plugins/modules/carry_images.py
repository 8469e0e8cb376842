#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: carry_images
short_description: Carry docker's local images into containerd, where the kubelet finds them
version_added: "0.1.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Carries every image that docker has and containerd's namespace C(k8s.io) does not have.
  - If docker's overlay2 and containerd's overlayfs snapshotter are on one file system, the layers
    are B(adopted) in place. Each is hard-linked into containerd's directory, and the images are
    imported without their layers. None of their content is read or written.
  - Otherwise all images are copied in one B(stream), without a temporary file of the module.
  - Tags, repository digests and image IDs are the same afterwards. Each image is checked.
  - Images that no registry has are labelled as pinned. The garbage collection of kubelets from 1.29
    then keeps them (kubernetes/kubernetes#119986; containerd from 1.6.22 or 1.7.3). On older
    kubelets the role of this name restores them after they were removed.
  - Space is checked before the first byte is written.
extends_documentation_fragment:
  - homelab.containerd.attributes
  - homelab.containerd.docker_socket
  - homelab.containerd.detached
options:
  containerd_root:
    description: The directory of containerd's content and snapshots.
    type: path
    default: /var/lib/containerd
  method:
    description:
      - V(auto) adopts if that is possible. Otherwise it streams, and says why.
      - V(adopt) fails if it is not possible, before anything is changed.
      - V(stream) pipes docker save into ctr images import.
    type: str
    choices: [auto, adopt, stream]
    default: auto
    version_added: "0.2.0"
  restore:
    description:
      - The adopted images whose layer blobs M(homelab.containerd.restore_blobs) will restore. An
        export, a push, and a build from an image need these blobs.
      - There has to be space for the blobs of images that no registry has. The others are restored
        as long as there is space.
    type: str
    choices: [never, local_only, all]
    default: all
    version_added: "0.2.0"
  pin:
    description: Which images to protect from the kubelet's garbage collection.
    type: str
    choices: [never, local_only, all]
    default: local_only
  overwrite:
    description:
      - Whether docker's image gets a name that means another image in containerd.
      - It is refused if the kubelet uses containerd already.
    type: bool
    default: false
  reserve_bytes:
    description: Bytes that have to stay free on each file system involved.
    type: int
    default: 1073741824
attributes:
  check_mode:
    support: full
    details: Shows what would be carried and how many bytes. It fails if there is not enough space.
  diff_mode:
    support: full
    details: Shows the references before and after.
"""

EXAMPLES = r"""
- name: Carry all images that containerd does not have
  homelab.containerd.carry_images:
    pin: local_only
"""

RETURN = r"""
method:
  description: V(adopt) or V(stream), the method that was used.
  returned: always
  type: str
why:
  description: The reason for this method, half a sentence.
  returned: always
  type: str
carried:
  description:
    - The images carried (in check mode, to carry), each with C(id), C(tags), C(bytes), C(method),
      and C(why) if an image was streamed although the others were adopted.
  returned: always
  type: list
  elements: dict
tagged:
  description: References that were added.
  returned: always
  type: list
  elements: str
pinned:
  description: References that were labelled as pinned.
  returned: always
  type: list
  elements: str
protected:
  description:
    - Images that have to be protected, each with C(name) in containerd, C(docker_name) and C(id),
      whether or not this containerd supports the label.
  returned: always
  type: list
  elements: dict
kept:
  description: References that name another image in containerd and were not changed.
  returned: always
  type: list
  elements: str
dangling:
  description: IDs of images without a name, which are not carried.
  returned: always
  type: list
  elements: str
bytes:
  description: Bytes of the layers to carry, each counted once.
  returned: always
  type: int
linked_bytes:
  description: Bytes of the layers that were adopted.
  returned: always
  type: int
vanished:
  description: IDs of images that docker removed during the run, which are not carried.
  returned: always
  type: list
  elements: str
waiting:
  description:
    - Adopted images that miss layer blobs (see M(homelab.containerd.restore_blobs)), each
      with C(id), C(names), C(layers) and C(bytes).
  returned: always
  type: list
  elements: dict
streamed_bytes:
  description: Bytes that were streamed.
  returned: always
  type: int
start:
  description: The start time, in seconds since 1970 by the controller's clock.
  returned: when not in check mode
  type: float
end:
  description: The end time, in seconds since 1970 by the controller's clock.
  returned: when not in check mode
  type: float
delta:
  description: How long it took on the node, in seconds.
  returned: when not in check mode
  type: float
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import (
    adopter,
    client,
    image_names,
)
from ansible_collections.homelab.containerd.plugins.module_utils._containerd.carrier import (
    PIN,
    TEMPORARY,
    Carrier,
    carry,
    verify,
    waiting,
)
from ansible_collections.homelab.containerd.plugins.module_utils._docker.api import DockerError
from ansible_collections.homelab.containerd.plugins.module_utils._facts import kubelet
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    paths,
    progress,
)


def check_runtime() -> None:
    """Refuse to give docker's images the names of those that the node runs by now."""
    if kubelet.kubelet_facts(paths.KUBELET_CONFIG)["runtime"] == "containerd":
        raise commands.NodeError(
            "The kubelet of this node uses containerd already, so its images are the newer ones: "
            "with overwrite (carry_images_overwrite) docker's would take their names. Nothing was "
            "changed. Leave it out: what containerd does not have is carried without it."
        )


def run_module(module: AnsibleModule) -> t.Dict[str, t.Any]:
    if module.params["overwrite"]:
        check_runtime()
    carrier = Carrier(module)
    docker_images = carrier.docker_images()
    answers = commands.run(["ctr", "version"], check=False).returncode == 0
    if not answers and not module.check_mode:
        client.ctr("version")  # says why
    interrupted = os.path.exists(adopter.JOURNAL)
    if interrupted and not module.check_mode:
        carrier.make_adopter().remove_damaged()
    before = carrier.containerd_ids() if answers else {}
    plan = image_names.missing(docker_images, before, module.params["overwrite"])
    chosen = carrier.choose()
    size = sum(carrier.layer_sizes(plan["carry"]).values())
    if plan["carry"]:
        to_restore = [
            image
            for image in plan["carry"]
            if module.params["restore"] != "never" and image_names.unregistered_tags(image)
        ]
        carrier.check_space(
            chosen["method"],
            size,
            sum(carrier.layer_sizes(to_restore).values()) if to_restore else 0,
        )
    references = client.containerd_images() if answers else {}
    protected = [
        entry for entry in carrier.to_pin(docker_images) if entry["name"] not in plan["kept"]
    ]
    pins = [
        entry["name"]
        for entry in protected
        if PIN + "=pinned" not in references.get(entry["name"], {"labels": []})["labels"]
    ]
    result: t.Dict[str, t.Any] = {
        "changed": bool(plan["carry"] or plan["tag"] or pins or interrupted),
        "method": chosen["method"],
        "why": chosen["why"],
        "carried": [
            dict(image, bytes=image["size"], method=chosen["method"]) for image in plan["carry"]
        ],
        "tagged": [name for _image, name in plan["tag"]],
        "pinned": pins,
        "protected": protected,
        "kept": plan["kept"],
        "dangling": plan["dangling"],
        "vanished": [],
        "bytes": size,
        "linked_bytes": 0,
    }
    after = sorted(set(before) | {name for _image, name in plan["tag"]})
    result["diff"] = {
        "before": "".join(name + "\n" for name in sorted(before)),
        "after": "".join(name + "\n" for name in after),
    }
    if not module.check_mode and result["changed"]:
        carry(carrier, plan, chosen, size, result)
        gone = set(result["vanished"])
        tagged = [(image, name) for image, name in plan["tag"] if image["id"] not in gone]
        present = carrier.settled_ids([image["id"] for image, _name in tagged])
        for image, name in tagged:
            if present.get(name) != image["id"]:
                carrier.tag(image, name, present)
        for name in [ref for ref in present if ref.startswith(TEMPORARY)]:
            client.ctr("images", "remove", name)
        lost = {entry["name"] for entry in protected if entry["id"] in gone}
        for name in pins:
            if name not in lost:
                client.ctr("images", "label", name, PIN + "=pinned")
        verify(carrier, tagged, {image["id"] for image in plan["carry"]})
        result["protected"] = [entry for entry in protected if entry["id"] not in gone]
        result["pinned"] = [name for name in pins if name not in lost]
        result["tagged"] = [name for _image, name in tagged]
        carrier.progress.say(
            "%d images carried and checked, %d names, %d pinned"
            % (len(result["carried"]), len(tagged), len(result["pinned"]))
        )
    result.update(
        waiting=waiting(module.params["restore"]) if answers else [],
        streamed_bytes=carrier.streamed,
    )
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
            "containerd_root": {"type": "path", "default": "/var/lib/containerd"},
            "method": {
                "type": "str",
                "choices": ["auto", "adopt", "stream"],
                "default": "auto",
            },
            "restore": {
                "type": "str",
                "choices": ["never", "local_only", "all"],
                "default": "all",
            },
            "pin": {
                "type": "str",
                "choices": ["never", "local_only", "all"],
                "default": "local_only",
            },
            "overwrite": {"type": "bool", "default": False},
            "reserve_bytes": {"type": "int", "default": 1 << 30},
            "progress_file": {"type": "path"},
            "started_by": {"type": "str"},
        },
        supports_check_mode=True,
    )
    progress.finish(module, lambda: run_module(module), DockerError, holds="carry_images")


if __name__ == "__main__":
    main()

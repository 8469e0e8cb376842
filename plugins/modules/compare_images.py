#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compare_images
short_description: Compare the images that docker runs with those that containerd runs, file by file
version_added: "0.2.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Mounts each image as docker and as containerd would for a container, read-only, and compares
    each file. It compares content, mode, owner, size, modification time, target, device, extended
    attributes, and which names are links of one file.
  - Does the same with the directory of each layer, which also compares whiteouts and opaque
    directories.
  - Compares names and image IDs. It fails if anything differs.
  - docker and containerd have to run. Nothing is changed. Only the module sees the mounts.
  - The modification times of an image's root directory and of whiteouts are not compared, because
    they are set when the layer is unpacked. Nor are attributes of overlayfs itself.
extends_documentation_fragment:
  - homelab.containerd.attributes.info
  - homelab.containerd.docker_socket
options:
  images:
    description: The images to compare, by their names in docker. The default is all with a name.
    type: list
    elements: str
    default: []
  content:
    description: Whether to read and compare the files' content.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Check that containerd runs what docker ran
  homelab.containerd.compare_images:
"""

RETURN = r"""
compared:
  description:
    - The images that were compared, each with C(id), C(names), C(layers), C(files) and C(bytes).
  returned: always
  type: list
  elements: dict
differences:
  description: What differs, a sentence each.
  returned: always
  type: list
  elements: str
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import (
    client,
    image_names,
)
from ansible_collections.homelab.containerd.plugins.module_utils._containerd.comparison import (
    MOST,
    compare_image,
)
from ansible_collections.homelab.containerd.plugins.module_utils._docker import layer_store
from ansible_collections.homelab.containerd.plugins.module_utils._docker.api import (
    DockerAPI,
    DockerError,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, lock


def run_module(module: AnsibleModule) -> t.Dict[str, t.Any]:
    api = DockerAPI(module.params["docker_socket"], timeout=120)
    docker_root = api.get("/info")["DockerRootDir"]
    references = client.containerd_images()
    wanted = set(module.params["images"])
    unknown = set(wanted)
    compared: t.List[t.Dict[str, t.Any]] = []
    differences: t.List[str] = []
    layer_store.take_own_mounts()
    work = "/run/homelab-containerd/compare"
    os.makedirs(work + "/empty", exist_ok=True)
    for entry in api.get("/images/json"):
        tags = [tag for tag in entry.get("RepoTags") or [] if "<none>" not in tag]
        digests = [name for name in entry.get("RepoDigests") or [] if "<none>" not in name]
        image = {"id": entry["Id"], "names": tags + digests}
        if not image["names"] or (wanted and not wanted & {entry["Id"], *image["names"]}):
            continue
        unknown -= {entry["Id"], *image["names"]}
        # CRI gives every image a name that is its ID.
        manifest = references.get(entry["Id"], {}).get("digest")
        for name in map(image_names.normalize, image["names"]):
            if manifest is None or references.get(name, {}).get("digest") != manifest:
                differences.append("%s is not %s in containerd" % (name, entry["Id"]))
        if manifest is None:
            continue
        found, texts = compare_image(api, docker_root, image, work, module.params["content"])
        compared.append(found)
        differences += ["%s: %s" % (image["names"][0], text) for text in texts]
    differences += ["docker has no image %s" % name for name in sorted(unknown)]
    return {"changed": False, "compared": compared, "differences": differences}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
            "images": {"type": "list", "elements": "str", "default": []},
            "content": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    try:
        lock.refuse_beside()
        result = run_module(module)
    except (commands.NodeError, DockerError, layer_store.Refused) as exc:
        module.fail_json(msg=str(exc))
    except layer_store.Vanished as exc:
        module.fail_json(msg="docker removed layer %s during the run; run this again" % exc)
    else:
        if result["differences"]:
            module.fail_json(
                msg="containerd's images differ from docker's: %s"
                % "; ".join(result["differences"][:MOST]),
                **result,
            )
        module.exit_json(**result)


if __name__ == "__main__":
    main()

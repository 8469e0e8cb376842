#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: remove_docker_data
short_description: Remove docker's data directory, and nothing that is not docker's
version_added: "0.2.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Removes the directory with all images and volumes. docker has to be stopped.
  - Refuses if something is mounted there, if something is in it that docker did not make, or if
    containerd or the kubelet have their data in it or above it.
extends_documentation_fragment:
  - homelab.containerd.attributes
attributes:
  check_mode:
    support: full
    details: Mounts of a docker that still runs are no reason to refuse then.
  diff_mode:
    support: none
options:
  path:
    description: The directory, docker's C(data-root).
    type: path
    default: /var/lib/docker
  others:
    description: What else has data on the node, name to directory.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Remove docker's data
  homelab.containerd.remove_docker_data:
    path: /var/lib/docker
    others:
      containerd: /var/lib/containerd
"""

RETURN = r""" # """

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._docker import data_root
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": data_root.DATA_ROOT},
            "others": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        changed = data_root.remove(params["path"], params["others"], module.check_mode)
    except (commands.NodeError, OSError) as exc:
        module.fail_json(msg=str(exc))
    else:
        module.exit_json(changed=changed)


if __name__ == "__main__":
    main()

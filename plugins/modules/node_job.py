#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_job
short_description: Attach to a job that changes the node, or refuse to run beside it
version_added: "0.2.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - The modules M(homelab.containerd.switch_runtime), M(homelab.containerd.carry_images) and
    M(homelab.containerd.restore_blobs) run as jobs on the node, and hold its lock until they end.
    They continue if the connection drops, or if Ansible is interrupted.
  - If no job holds the lock, this module does nothing.
  - If a job of O(attach) holds it, this module shows the job's progress from the beginning, and
    waits until it has ended. It fails if the job failed.
  - If another job holds it, this module fails, and says which job it is, who started it, and when.
extends_documentation_fragment:
  - homelab.containerd.attributes
options:
  attach:
    description: The jobs to wait for.
    type: list
    elements: str
    choices: [carry_images, restore_blobs, switch_runtime to containerd, switch_runtime to docker]
    default: []
attributes:
  check_mode:
    support: full
    details: In check mode it neither waits nor fails.
  diff_mode:
    support: none
    details: It changes nothing, so there is nothing to show.
"""

EXAMPLES = r"""
- name: Wait for the job of an earlier run
  homelab.containerd.node_job:
    attach: [carry_images, switch_runtime to containerd]

- name: Fail if a job changes the node
  homelab.containerd.node_job:
"""

RETURN = r"""
job:
  description:
    - The job that held the lock, with C(kind), C(pid), C(process_start), C(since), C(started_by)
      and C(progress_file). V(null) if there was none.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, lock

KINDS = (
    "carry_images",
    "restore_blobs",
    "switch_runtime to containerd",
    "switch_runtime to docker",
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "attach": {"type": "list", "elements": "str", "choices": list(KINDS), "default": []},
        },
        supports_check_mode=True,
    )
    try:
        job = lock.holder()
        if job and job["kind"] not in module.params["attach"] and not module.check_mode:
            raise lock.Held(job)
    except commands.NodeError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, job=job)


if __name__ == "__main__":
    main()

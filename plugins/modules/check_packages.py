#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: check_packages
short_description: Ask apt or dnf what installing or removing packages would do to the others
version_added: "0.2.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Simulates it with the package manager itself, and changes nothing.
  - On a node without apt and dnf it finds no problem.
extends_documentation_fragment:
  - homelab.containerd.attributes.info
options:
  name:
    description: The packages, as in M(ansible.builtin.package), with a version or without.
    type: list
    elements: str
    required: true
  state:
    description: Whether they will be installed or removed.
    type: str
    choices: [present, absent]
    default: present
  conflicts:
    description:
      - Packages that O(name) is known to conflict with, for the case that the package manager does
        not know O(name) yet, because its repository is added later. Then the removal of those that
        are installed is simulated.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Ask what installing containerd.io would do
  homelab.containerd.check_packages:
    name: [containerd.io]
    conflicts: [containerd, runc]
  register: check

- name: Fail if it would remove something
  ansible.builtin.assert:
    that: check.problem == ''
    fail_msg: "{{ check.problem }}"
"""

RETURN = r"""
problem:
  description:
    - For V(present), which packages would be removed, downgraded, or upgraded with a restart of
      docker or the kubelet.
    - Also that apt would take a longer version for one with an asterisk (1.6.33 for C(1.6.3*)).
    - For V(absent), which other packages would be removed, or that containerd, runc or the kubelet
      would be.
    - Empty if there is no problem.
  returned: always
  type: str
left_unused:
  description:
    - For V(absent), the packages that autoremove would remove afterwards and would not now, and
      those of containerd, runc and the kubelet.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._host.packages import Packages


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "conflicts": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    names, packages = module.params["name"], Packages(Host())
    if module.params["state"] == "present":
        problem = packages.install_problem(names, module.params["conflicts"])
        unused = []
    else:
        problem = packages.removal_problem(names)
        unused = packages.left_unused(names)
    module.exit_json(changed=False, problem=problem, left_unused=unused)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: check_options
short_description: Check the options of roles and the groups of the inventory before anything else
version_added: "0.1.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Compares the host's variables with the roles' argument specs, on the controller. It does not
    connect to the host.
  - Unlike Ansible's own check it refuses a string if a list or a dictionary is expected, which is
    what C(-e name=value) gives. It also refuses a value that is neither true nor false for a
    boolean, a number below zero, and names that are similar to those of options.
  - A value that uses facts which are not gathered yet is not checked.
extends_documentation_fragment:
  - homelab.containerd.attributes.info
options:
  roles:
    description: The roles of this collection whose options are checked.
    type: list
    elements: str
    default: []
  hosts:
    description:
      - The hosts of the playbook, as a pattern. It has to match a host. The inventory of a cluster
        needs a host in C(kube_control_plane), and no group with a name similar to that or to
        C(kube_node).
      - If it is set, the options of the playbooks are checked too.
    type: str
  required_tags:
    description: Tags that may not be skipped.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Check the options
  homelab.containerd.check_options:
    roles: [containerd]
"""

RETURN = r"""
msg:
  description: A line for each problem, with the host, the option, its value and what to do.
  returned: failure
  type: str
"""

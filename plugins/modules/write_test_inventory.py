#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: write_test_inventory
short_description: Write how Ansible reaches a host, as an inventory for the tests
version_added: "0.1.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Writes a file on the controller that only its user can read. It has one host, the connection and
    become options that this task would use for it, and the variables that it was given.
  - The options are the result of everything that Ansible knows, from variables with a vault to the
    command line. So the tests need no password and no vault secret of their own.
  - It does not connect to the host.
extends_documentation_fragment:
  - homelab.containerd.attributes.info
options:
  path:
    description:
      - The file. It must not exist.
      - Remove it after use, because it may have passwords in it.
    type: path
    required: true
  groups:
    description: The groups of the host.
    type: list
    elements: str
    default: []
  variables:
    description: More variables of the host.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Write the inventory of the tests
  homelab.containerd.write_test_inventory:
    path: "{{ directory.path }}/host.yml"
    groups: [kube_node]
"""

RETURN = r"""
native:
  description:
    - Whether testinfra's own connections know all of the options. Otherwise it needs
      C(--force-ansible).
  returned: success
  type: bool
"""

#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: show_report
short_description: Show the plans of all nodes as one, and write them to files on the controller
version_added: "0.1.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Shows on one screen a line for each node, what needs attention, and what will happen, in order,
    with an estimate of time and bytes. With C(-v) it shows everything.
  - Writes the same as C(report.json), C(report.html) (one page without scripts) and
    C(report.txt) on the controller.
  - Runs only on the controller, once for all nodes. It does not connect to nodes.
  - Control characters that a terminal would act on are shown as text.
extends_documentation_fragment:
  - homelab.containerd.attributes
options:
  plans:
    description: C(assess_plan) of each node, as the role assess sets it.
    type: list
    elements: dict
    required: true
  cluster:
    description: C(assess_cluster), as the role assess sets it.
    type: dict
    default: {}
  mode:
    description: V(assess) for the plan, V(migrate) for the results.
    type: str
    choices: [assess, migrate]
    default: assess
  serial:
    description: How many workers switch at once, a number or a percentage.
    type: str
    default: "1"
  outcomes:
    description:
      - What is known of each node after a migration. C(node) is its name in the inventory. Optional
        are C(before) (the content of C(before.json)), C(journal) (of C(switch.json)), C(marks),
        C(carry), C(switch), C(verify) and C(buildkit), as
        P(homelab.containerd.report_outcomes#filter) returns them.
    type: list
    elements: dict
    default: []
  api:
    description: The output of C(kubectl get nodes,pods -o json) after a migration.
    type: dict
    default: {}
  directory:
    description: The directory of the files on the controller. Check mode writes nothing.
    type: path
    default: ~/.cache/homelab-containerd/report
attributes:
  check_mode:
    support: full
    details: Shows the report and writes no files.
  diff_mode:
    support: none
    details: Nothing on a node is changed.
seealso:
  - module: homelab.containerd.node_runtime_info
"""

EXAMPLES = r"""
- name: Show the plan of the cluster
  homelab.containerd.show_report:
    plans: "{{ ansible_play_hosts | map('extract', hostvars, 'assess_plan') | list }}"
  run_once: true
"""

RETURN = r"""
verdict:
  description:
    - V(blocked), V(ready) or V(done) before a migration, V(migrated) or V(incomplete) after one.
  returned: always
  type: str
files:
  description: The files written, by kind.
  returned: always
  type: dict
  sample: {html: /home/me/.cache/homelab-containerd/report/report.html}
"""

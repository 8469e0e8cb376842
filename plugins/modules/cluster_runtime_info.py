#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_runtime_info
short_description: Look at everything in a cluster that affects a change of container runtime
version_added: "0.2.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Reads from the API once, with the node's own kubectl, and returns plain data about nodes,
    workloads that use docker's socket or data (also those without a pod now), disruption budgets,
    pods without a controller or with local storage, and etcd's members.
  - It changes nothing, and returns neither arguments nor environment variables of pods.
  - An API that does not answer is returned as RV(cluster_info.error), not a failure.
extends_documentation_fragment:
  - homelab.containerd.attributes.info
options:
  kubeconfig:
    description: An administrator's kubeconfig on this node.
    type: path
    default: /etc/kubernetes/admin.conf
  timeout:
    description: Seconds to wait for the API.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Look at the cluster
  homelab.containerd.cluster_runtime_info:
  register: cluster

- name: Show the workloads that use docker's socket
  ansible.builtin.debug:
    msg: "{{ cluster.cluster_info.users | map(attribute='name') }}"
"""

RETURN = r"""
cluster_info:
  description: What was found.
  returned: always
  type: dict
  contains:
    error:
      description: The error if the API did not answer, or V(null).
      type: str
    nodes:
      description: Name, roles, readiness, taints, kubelet, runtime and CRI socket of each node.
      type: list
      elements: dict
    pods:
      description: The number of pods that have not ended.
      type: int
    users:
      description:
        - Workloads that mount docker's or dockershim's socket, a directory above it, or docker's
          data; with C(via) (V(direct), V(parent), V(data)), C(purpose) (V(builds), V(runs),
          V(monitors), V(images), V(cleans), V(logs), V(unknown)) and its evidence.
      type: list
      elements: dict
    budgets:
      description: Pod disruption budgets, their numbers, and the nodes of their pods.
      type: list
      elements: dict
    bare_pods:
      description: Pods that no controller would create again.
      type: list
      elements: dict
    local_storage:
      description: Pods that lose an emptyDir when they are evicted.
      type: list
      elements: dict
    etcd:
      description: How many etcd pods there are, and how many are ready.
      type: dict
"""


from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes.workloads import (
    cluster_info,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    found = cluster_info(module.params["kubeconfig"], module.params["timeout"])
    module.exit_json(changed=False, cluster_info=found)


if __name__ == "__main__":
    main()

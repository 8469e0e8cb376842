#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_runtime_info
short_description: Look at everything on a node that a change of container runtime depends on
version_added: "0.1.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Returns plain data about the kubelet, docker, containerd, CNI, disks and operating system of
    a Kubernetes node, in one run.
  - It changes nothing. Registry credentials in the files it reads are blanked out.
  - A fact that it cannot find out is V(null) or empty, never a guess. A file that cannot be parsed
    is returned with the error.
  - It fails if the journal of an earlier switch cannot be read, or if this release does not know
    its version.
extends_documentation_fragment:
  - homelab.containerd.attributes.info
  - homelab.containerd.docker_socket
options:
  kubelet_config:
    description: The kubelet's configuration file, if its command line does not name one.
    type: path
    default: /var/lib/kubelet/config.yaml
  kubeconfig:
    description: The kubeconfig on the node with which the switch will ask the API about it.
    type: path
    default: /etc/kubernetes/kubelet.conf
    version_added: "0.2.0"
  node_name:
    description: The node's name in the API, if it is not the one that the kubelet gives itself.
    type: str
    default: ""
    version_added: "0.2.0"
  gather_subset:
    description:
      - The facts to gather, so that a second run after a change reads only what changed.
      - V(all), or names of the keys of RV(runtime_info). V(!NAME) leaves one out, as in
        M(ansible.builtin.setup). V(docker_users) reads the units, cron jobs and scripts of the
        whole node and its processes. This is most of the work, and only a plan needs it.
    type: list
    elements: str
    default: [all]
    version_added: "0.2.0"
"""

EXAMPLES = r"""
- name: Look at the node
  homelab.containerd.node_runtime_info:
  register: node

- name: Show which runtime the kubelet uses
  ansible.builtin.debug:
    msg: "{{ node.runtime_info.kubelet.runtime }}"
"""

RETURN = r"""
runtime_info:
  description:
    - What was found, a key for each name of O(gather_subset). Sizes are in bytes. Times have the
      format of the program that prints them.
  returned: always
  type: dict
  contains:
    os:
      description: Distribution, kernel, architecture, Python version, cgroup version (1 or 2).
      type: dict
    kubernetes:
      description: Node name, whether this is a control-plane node, paths of kubectl and admin.conf.
      type: dict
    kubelet:
      description:
        - Version, real command line, flags by name and the file that each comes from, flag files,
          dependencies on docker's units, text of its configuration file, endpoint, and
          C(runtime), one of V(dockershim), V(containerd), V(cri-dockerd), V(cri-o), V(unknown) or
          V(null).
      type: dict
    api:
      description:
        - C(kubeconfig), and C(error) if the node cannot ask the API for itself and its pods with
          it, as the switch will.
      type: dict
    docker:
      description:
        - Version, directories, drivers, runtimes, daemon.json, TCP listeners, swarm state, its
          systemd dependencies, images, and containers with C(owner) V(kubernetes) or V(user),
          the latter with their compose project or swarm service.
      type: dict
    docker_users:
      description:
        - C(processes) that are connected to docker's socket now, without the kubelet; C(files),
          which are units, cron jobs and scripts that call docker, each with line, subcommand and
          purpose; C(log_agents), whose configuration reads docker's log files.
      type: dict
    logins:
      description: Files with registry logins; their hosts, and whether the kubelet reads them.
      type: list
      elements: dict
    containerd:
      description:
        - Version, configuration text and that of imported files, root directory, snapshotter,
          whether CRI answers, image references in k8s.io, docker's running containers as it knows
          them, and C(newer_files), which it has to be restarted to read.
      type: dict
    cni:
      description: Network configurations, plugin directories, what the loopback plugin supports.
      type: dict
    journal:
      description:
        - C(direction), C(state), C(start) and C(flags_before) of an earlier switch, or V(null).
      type: dict
    disk:
      description: Free and total bytes and inodes, and type, of the file systems of docker's and
        containerd's data.
      type: dict
"""

import concurrent.futures
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._facts.cni import cni_facts
from ansible_collections.homelab.containerd.plugins.module_utils._facts.containerd import (
    containerd_facts,
)
from ansible_collections.homelab.containerd.plugins.module_utils._facts.docker import (
    WORKERS,
    docker_facts,
    docker_users_facts,
)
from ansible_collections.homelab.containerd.plugins.module_utils._facts.host import os_facts
from ansible_collections.homelab.containerd.plugins.module_utils._facts.kubelet import (
    api_facts,
    kubelet_facts,
    kubernetes_facts,
    login_facts,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    mounts,
    paths,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._switch.journal import (
    journal_facts,
)

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        JournalFacts,
        NodeFacts,
    )

SUBSETS = (
    "os",
    "kubernetes",
    "kubelet",
    "api",
    "docker",
    "docker_users",
    "logins",
    "containerd",
    "cni",
    "journal",
    "disk",
)


def chosen_subsets(wanted: t.Sequence[str]) -> t.Set[str]:
    """The subsets that gather_subset asks for; ValueError for a name that there is not."""
    unknown = {name.lstrip("!") for name in wanted} - set(SUBSETS) - {"all"}
    if unknown:
        raise ValueError(
            "gather_subset: there is no %s; choose from all, %s"
            % (", ".join(sorted(unknown)), ", ".join(SUBSETS))
        )
    added = [name for name in wanted if not name.startswith("!")]
    chosen = set(SUBSETS) if "all" in added or not added else set(added)
    return chosen - {name[1:] for name in wanted if name.startswith("!")}


def look(
    chosen: t.Set[str],
    docker_socket: str,
    kubelet_config: str,
    kubeconfig: str = paths.KUBELET_CONF,
    node_name: str = "",
) -> NodeFacts:
    """The chosen subsets, and no more than they need."""
    journal: t.Optional[JournalFacts] = None
    if chosen & {"journal", "cni"}:
        journal = journal_facts(Host())
    found: t.Dict[str, t.Any] = {"journal": journal}
    # Each of these waits for programs and for docker most of the time.
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        looking: t.Dict[str, concurrent.futures.Future[t.Any]] = {}
        if chosen & {"kubelet", "kubernetes", "api", "logins", "cni"}:
            looking["kubelet"] = pool.submit(kubelet_facts, kubelet_config)
        if chosen & {"docker", "disk"}:
            looking["docker"] = pool.submit(docker_facts, docker_socket)
        if chosen & {"containerd", "disk"}:
            looking["containerd"] = pool.submit(containerd_facts)
        if "docker_users" in chosen:
            looking["docker_users"] = pool.submit(docker_users_facts, docker_socket)
        found.update((name, future.result()) for name, future in looking.items())
    if "os" in chosen:
        found["os"] = os_facts()
    if "kubernetes" in chosen:
        found["kubernetes"] = kubernetes_facts(found["kubelet"], node_name)
    if "api" in chosen:
        found["api"] = api_facts(found["kubelet"], kubeconfig, node_name)
    if "logins" in chosen:
        found["logins"] = login_facts(found["kubelet"])
    if "cni" in chosen:
        # The switch takes dockershim's CNI flags away; the directories stay where they were.
        before = journal["flags_before"] if journal else {}
        found["cni"] = cni_facts(dict(before, **found["kubelet"]["flags"]))
    if "disk" in chosen:
        found["disk"] = {
            "docker": mounts.disk_facts(found["docker"].get("root_dir") or "/var/lib/docker"),
            "containerd": mounts.disk_facts(found["containerd"]["root"]),
        }
    return t.cast("NodeFacts", {name: found[name] for name in SUBSETS if name in chosen})


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
            "kubelet_config": {"type": "path", "default": paths.KUBELET_CONFIG},
            "kubeconfig": {"type": "path", "default": paths.KUBELET_CONF},
            "node_name": {"type": "str", "default": ""},
            "gather_subset": {"type": "list", "elements": "str", "default": ["all"]},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        chosen = chosen_subsets(params["gather_subset"])
        found = look(
            chosen,
            params["docker_socket"],
            params["kubelet_config"],
            params["kubeconfig"],
            params["node_name"],
        )
    except (ValueError, commands.NodeError) as exc:
        module.fail_json(msg=str(exc))
    else:
        module.exit_json(changed=False, runtime_info=found)


if __name__ == "__main__":
    main()

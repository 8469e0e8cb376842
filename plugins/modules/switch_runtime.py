#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: switch_runtime
short_description: Switch a node's kubelet between dockershim and containerd, in one go
version_added: "0.1.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Stops the kubelet, stops only the containers of Kubernetes (with their grace periods), releases
    their addresses, edits the kubelet's flag files, starts the kubelet, and waits until the API
    reports the node as Ready on the new runtime.
  - A journal in C(/var/lib/homelab-containerd/switch.json) is written before each step. A run
    that finds an unfinished journal (after a crash, a reset, a lost connection) resumes it.
  - If the node is not Ready on containerd in time, it goes back to docker, and the module fails
    with a message that says what happened.
  - Everything that the new runtime needs has to be prepared (roles containerd, carry_images).
  - User-managed docker containers, and docker itself, are not changed.
extends_documentation_fragment:
  - homelab.containerd.attributes
  - homelab.containerd.docker_socket
  - homelab.containerd.detached
options:
  to:
    description: The runtime to switch to.
    type: str
    required: true
    choices: [containerd, docker]
  node_name:
    description: The node's name in the API.
    type: str
    required: true
  ready_timeout:
    description:
      - Seconds from the start of the kubelet until the API has to report Ready, from 0 to 3600.
      - If no API server answers in that time, the node's own health counts (RV(ready_seen_by)).
    type: int
    default: 180
  pods_timeout:
    description:
      - Seconds after Ready until every pod of the node that was ready before has to be ready again.
      - From 0 to 86400. If a pod is not, the node stays on the new runtime, and the module fails
        and names the pod.
    type: int
    default: 300
  grace_seconds:
    description:
      - The longest grace period of a pod in seconds, even if it has a longer one, from 0 to 3600.
    type: int
    default: 30
  control_plane_last:
    description:
      - Whether etcd and the API server, if this node runs them as static pods, stay on docker
        until the node's other pods run on containerd. The API is then away for seconds only.
    type: bool
    default: true
  rollback:
    description: Whether to go back to docker if the node is not Ready on containerd in time.
    type: bool
    default: true
  kubeconfig:
    description: The kubeconfig with which the node reads its own status from the API.
    type: path
    default: /etc/kubernetes/kubelet.conf
  preflight:
    description:
      - Only check that the switch can begin; it fails if it cannot, and nothing is changed.
      - It is for a task before the node is drained. A node with an unfinished switch passes.
    type: bool
    default: false
    version_added: "0.2.0"
  cni_bin_dirs:
    description: Directories of the CNI plugins of the pod network.
    type: list
    elements: path
    default: [/opt/cni/bin]
attributes:
  check_mode:
    support: full
    details: Shows whether the node would be switched, and the diff of the flag files.
  diff_mode:
    support: full
    details: Shows the kubelet's flag files before and after.
"""

EXAMPLES = r"""
- name: Switch to containerd
  homelab.containerd.switch_runtime:
    to: containerd
    node_name: node1
"""

RETURN = r"""
outage_seconds:
  description: From the stop of the kubelet until the API reported Ready on the new runtime.
  returned: when the node was switched
  type: float
api_away_seconds:
  description:
    - How long the API was away, if etcd and the API server of this node were switched last.
      V(null) if they were not. Then the API was away for about RV(outage_seconds).
  returned: when the node was switched
  type: float
running_seconds:
  description: From the stop of the kubelet until all pods were Running, as the API reported them.
  returned: when the node was switched
  type: float
pods_ready_seconds:
  description: From the stop of the kubelet until all pods were Ready.
  returned: when the node was switched
  type: float
steps:
  description: What was done, each with C(name), C(start), C(end) and C(delta), by the node's clock.
  returned: when the node was switched
  type: list
  elements: dict
runtime_version:
  description:
    - The runtime and version that the API reports. The version is V(unknown) if it could not say.
  returned: when the node was switched
  type: str
ready_seen_by:
  description:
    - Who said that the node is Ready. V(api) is the API server. V(node) is the node itself, if no
      API server answered during the whole O(ready_timeout). Then the kubelet's healthz and the
      CRI's conditions RuntimeReady and NetworkReady (C(crictl info)) count. The node must not run
      an API server of its own.
  returned: when the node was switched
  type: str
start:
  description: When it started, in seconds since 1970 by the controller's clock; RV(end) the same.
  returned: when not in check mode
  type: float
end:
  description: When it had ended.
  returned: when not in check mode
  type: float
delta:
  description: How long it took on the node, in seconds.
  returned: when not in check mode
  type: float
complaints:
  description: Messages of CNI plugins when addresses were released. They do not affect the node.
  returned: when the node was switched
  type: list
  elements: str
rolled_back:
  description: Whether the node went back to docker.
  returned: failure
  type: bool
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._docker.api import (
    DockerAPI,
    DockerError,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    paths,
    progress,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import (
    pod_status,
    static_pods,
)
from ansible_collections.homelab.containerd.plugins.module_utils._switch import limits
from ansible_collections.homelab.containerd.plugins.module_utils._switch.journal import (
    Journal,
    SwitchFailed,
    explain,
)
from ansible_collections.homelab.containerd.plugins.module_utils._switch.kubelet_files import (
    flag_files,
    kubelet_files_for,
    kubelet_version,
    rollback_files,
    without_startup_flags,
)
from ansible_collections.homelab.containerd.plugins.module_utils._switch.switch import (
    Switch,
    check_begin,
)


def run_module(module: AnsibleModule, host: Host, api: DockerAPI) -> t.Dict[str, t.Any]:
    params = module.params
    target = params["to"]
    limits.check(params)
    journal = Journal(host)
    kubelet = kubelet_version(host)
    switch = Switch(host, api, journal, kubelet, params)
    now = flag_files(host)
    if target == "containerd":
        files_after = kubelet_files_for("containerd", now, kubelet)
    else:
        files_after = rollback_files(journal, now, kubelet)
    if files_after == now and not journal.unfinished:
        return {"changed": False}
    if params["preflight"]:
        if not journal.unfinished:
            check_begin(switch, target)
        return {"changed": False}
    diff = [
        {"before_header": path, "after_header": path, "before": now[path], "after": text}
        for path, text in files_after.items()
        if text != now[path]
    ]
    if module.check_mode:
        return {"changed": True, "diff": diff}
    if files_after == without_startup_flags(now) and not journal.unfinished:
        switch.write_files(files_after)
        return {"changed": True, "diff": diff}
    if journal.unfinished:
        switch.say("an earlier switch to %s was interrupted: resuming it" % journal.unfinished)
    before: t.Any
    if journal.unfinished:
        # The kubelet may be stopped, and the API away with it.
        before, _complaint = switch.node_api.pods()
    else:
        before = check_begin(switch, target)
    if before is not None:
        switch.mirrors = static_pods.mirrors(before)
    waited_for = journal.waited_for
    if not journal.unfinished:
        late = {pod["name"] for pod in pod_status.pods_not_ready(before)}
        waited_for = sorted({pod_status.pod_name(pod) for pod in before["items"]} - late)
        if target == "docker":
            switch.revive_docker()  # nothing is stopped before docker answers
    if target == "containerd" and journal.unfinished != "containerd":
        switch.begin_containerd(files_after, waited_for or [])
    try:
        version = switch.to_docker(waited_for) if target == "docker" else switch.run_containerd()
    # Whatever it is, the node has to come back.
    except (Exception, KeyboardInterrupt) as exc:
        if target == "docker" and not journal.unfinished:
            raise  # its first word could not be written: nothing was changed
        if target == "docker" or not params["rollback"]:
            switch.keep_kubelet_running()
            masked = "\n%s is masked by a mount; run migrate or rollback to remove it."
            raise SwitchFailed(
                explain(exc)
                + (masked % paths.MANIFESTS if static_pods.manifests_masked(host) else "")
            ) from exc
        switch.say("not Ready on containerd: going back to docker")
        try:
            version = switch.to_docker(state="rolled_back")
        except (Exception, KeyboardInterrupt) as second:
            switch.keep_kubelet_running()
            raise SwitchFailed(
                "Node %s did not get Ready on containerd: %s\nand not on docker either: %s"
                % (params["node_name"], explain(exc), explain(second))
            ) from exc
        switch.stopped = pod_status.container_ids(before) if before else set()
        try:
            switch.wait_pods("docker://", waited_for)
            pods = "with all its pods"
        except SwitchFailed as late:
            pods = "but not with all its pods (%s)" % late
        raise progress.Failed(
            "Node %s did not get Ready on containerd and is back on %s, Ready, %s. %s"
            % (params["node_name"], version, pods, explain(exc)),
            rolled_back=True,
            steps=journal.timings(),
            complaints=switch.complaints,
        ) from exc
    result = {
        "changed": True,
        "diff": diff,
        "runtime_version": version,
        "ready_seen_by": switch.ready_seen_by,
        "outage_seconds": switch.ready_seconds,
        "api_away_seconds": switch.api_away_seconds,
        "steps": journal.timings(),
        "complaints": switch.complaints,
    }
    result.update(switch.wait_pods(version.split("//")[0] + "//", waited_for))
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "to": {"type": "str", "required": True, "choices": ["containerd", "docker"]},
            "node_name": {"type": "str", "required": True},
            "ready_timeout": {"type": "int", "default": 180},
            "pods_timeout": {"type": "int", "default": 300},
            "grace_seconds": {"type": "int", "default": 30},
            "control_plane_last": {"type": "bool", "default": True},
            "rollback": {"type": "bool", "default": True},
            "kubeconfig": {"type": "path", "default": "/etc/kubernetes/kubelet.conf"},
            "cni_bin_dirs": {"type": "list", "elements": "path", "default": ["/opt/cni/bin"]},
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
            "preflight": {"type": "bool", "default": False},
            "progress_file": {"type": "path"},
            "started_by": {"type": "str"},
        },
        supports_check_mode=True,
    )
    api = DockerAPI(module.params["docker_socket"])
    progress.finish(
        module,
        lambda: run_module(module, Host(), api),
        SwitchFailed,
        DockerError,
        holds="switch_runtime to " + module.params["to"],
    )


if __name__ == "__main__":
    main()

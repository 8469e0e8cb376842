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
  - Stops the kubelet, stops only the containers that Kubernetes owns (with their grace) and
    gives their addresses back, edits the kubelet's flag files, starts the kubelet, and waits
    until the API reports the node as Ready on the new runtime.
  - A journal in C(/var/lib/homelab-containerd/switch.json) is written before each step. A run
    that finds an unfinished journal (after a crash, a reset, a lost connection) goes on from it.
  - If the node is not Ready on containerd in time, everything is put back to docker, and the
    module fails with what happened.
  - Everything the new runtime needs has to be there before (roles containerd, carry_images).
  - Containers of your own in docker, and docker itself, are left as they are.
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
    description: Seconds from the start of the kubelet until the API has to report Ready.
    type: int
    default: 180
  pods_timeout:
    description:
      - Seconds from then on until every pod of the node that was ready before has to be ready.
      - A pod that is not leaves the node on the new runtime, and the module fails and names it.
    type: int
    default: 300
  grace_seconds:
    description: The longest grace a pod gets to stop, in seconds, whatever it asks for.
    type: int
    default: 30
  control_plane_last:
    description:
      - Whether etcd and the API server, where this node runs them as static pods, stay on docker
        until the node's other pods run on containerd. The API is then away for seconds only.
    type: bool
    default: true
  rollback:
    description: Whether to go back to docker when the node is not Ready on containerd in time.
    type: bool
    default: true
  kubeconfig:
    description: The kubeconfig with which the node asks for itself.
    type: path
    default: /etc/kubernetes/kubelet.conf
  cni_bin_dirs:
    description: Where the CNI plugins are that made the pods' network.
    type: list
    elements: path
    default: [/opt/cni/bin]
  docker_socket:
    description: The engine's unix socket.
    type: path
    default: /var/run/docker.sock
  progress_file:
    description: Where to write progress. Set by the action plugin.
    type: path
attributes:
  check_mode:
    description: Says whether the node would be switched, and shows the flag files' diff.
    support: full
  diff_mode:
    description: Shows the kubelet's flag files before and after.
    support: full
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
    - How long the API was away, where etcd and the API server of this node were switched last.
      V(null) where they were not; then the API was away for about RV(outage_seconds).
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
  description: What was done, each with C(name) and C(seconds).
  returned: when the node was switched
  type: list
  elements: dict
runtime_version:
  description: The runtime and version that the API reports.
  returned: when the node was switched
  type: str
began:
  description: When it began, in seconds since 1970 by the controller's clock; RV(ended) the same.
  returned: when not in check mode
  type: float
ended:
  description: When it had ended.
  returned: when not in check mode
  type: float
complaints:
  description: What CNI plugins said when addresses were given back; it does not matter to the node.
  returned: when the node was switched
  type: list
  elements: str
rolled_back:
  description: Whether the node was put back to docker.
  returned: failure
  type: bool
"""

import calendar
import json
import os
import re
import subprocess
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils import (
    cluster,
    control_plane,
    kubelet_flags,
    node,
)
from ansible_collections.homelab.containerd.plugins.module_utils.docker_api import (
    DockerAPI,
    DockerError,
)
from ansible_collections.homelab.containerd.plugins.module_utils.pods import (
    ContainerdPods,
    DockerPods,
)

KUBEADM_FLAGS = ("/var/lib/kubelet/kubeadm-flags.env", "KUBELET_KUBEADM_ARGS")
EXTRA_ARGS = (
    ("/etc/default/kubelet", "KUBELET_EXTRA_ARGS"),
    ("/etc/sysconfig/kubelet", "KUBELET_EXTRA_ARGS"),
)
CONTAINERD_CONFIG = "/etc/containerd/config.toml"
CONTAINERD_CONFIG_BEFORE = node.STATE_DIR + "/original/config.toml"
POLL_SECONDS = 0.5
#: Flags for the kubelet's first start, gone from the file as soon as the kubelet has read them.
#: Its first status often says "PLEG is not healthy: pleg has yet to be successful", and
#: the next one comes after nodeStatusUpdateFrequency, 10 s by default. And up to 1.26 it asks the
#: API 5 times a second at most (50 since 1.27), too little to start all pods of a node at once.
FIRST_START = (
    "--node-status-update-frequency=1s",
    "--kube-api-qps=50",
    "--kube-api-burst=100",
)
#: How long etcd and the API server are kept back while other pods are slow to start.
KEEP_SECONDS = 10

Files = t.Dict[str, t.Optional[str]]


class SwitchFailed(Exception):
    """The node did not come to be Ready; the text says what was seen."""


class Journal:
    """What was done and how to undo it, on disk before it is done."""

    def __init__(self, path: str = node.JOURNAL) -> None:
        self.path = path
        text = node.read_text(path)
        try:
            self.data: t.Dict[str, t.Any] = json.loads(text) if text else {}
            if not isinstance(self.data, dict):
                raise ValueError("a JSON object is expected")
        except ValueError as exc:
            raise node.NodeError(
                "%s cannot be read (%s). Look at the kubelet's flags in %s, move the journal "
                "away, and run this again." % (path, exc, KUBEADM_FLAGS[0])
            ) from exc

    @property
    def unfinished(self) -> t.Optional[str]:
        """The direction of a switch that was begun and not ended."""
        return self.data.get("direction") if self.data.get("state") == "running" else None

    def begin(self, direction: str, files_before: Files, files_after: Files) -> None:
        if direction == "containerd":
            self.data["files_before"] = files_before
            # begin("docker") leaves these: the way back may break off and be begun again.
            self.data["files_containerd"] = files_after
        self.data["files_after"] = files_after
        self.data.update(version=1, direction=direction, state="running", steps=[])
        self.data["began"] = time.time()
        self.write()

    def step(self, name: str) -> None:
        self.data["steps"].append({"name": name, "began": time.time()})
        self.write()

    def finish(self, state: str) -> None:
        self.data["state"] = state
        self.data["ended"] = time.time()
        self.write()

    def write(self) -> None:
        node.write_text(self.path, json.dumps(self.data, indent=1) + "\n", mode=0o600)

    def timings(self) -> t.List[t.Dict[str, t.Any]]:
        began = [step["began"] for step in self.data["steps"]] + [self.data["ended"]]
        return [
            {"name": step["name"], "seconds": round(began[index + 1] - began[index], 2)}
            for index, step in enumerate(self.data["steps"])
        ]


def flag_files() -> Files:
    paths = [path for path, _variable in (KUBEADM_FLAGS,) + EXTRA_ARGS]
    return {path: node.read_text(path) for path in paths}


def edited(files: Files, to: str, kubelet_minor: int) -> Files:
    """The flag files for the runtime TO; a file that does not exist stays so."""
    result = dict(files)
    for path, variable in (KUBEADM_FLAGS,) + EXTRA_ARGS:
        text = files[path]
        if text is None:
            continue
        words, error = kubelet_flags.read_env(text, variable)
        if error:
            raise node.NodeError("%s: %s. Repair the quoting in the file." % (path, error))
        if tuple(words[-len(FIRST_START) :]) == FIRST_START:
            # A start that broke off has left them.
            words = words[: -len(FIRST_START)]
        # On the way back only what containerd's way put there goes: dockershim may need the rest.
        remote = kubelet_flags.RUNTIME_FLAGS & set(kubelet_flags.flag_values(words))
        if to == "docker" and not remote:
            new = words
        elif path != KUBEADM_FLAGS[0]:
            names = kubelet_flags.RUNTIME_FLAGS
            if to == "containerd":
                names |= kubelet_flags.DOCKERSHIM_FLAGS
            new = kubelet_flags.without(words, names)
        elif to == "containerd":
            new = kubelet_flags.to_containerd(words, kubelet_minor)
        else:
            new = kubelet_flags.to_dockershim(words)
        if new != kubelet_flags.read_env(text, variable)[0]:
            result[path] = kubelet_flags.write_env(text, variable, new)
    return result


def with_first_status(text: t.Optional[str]) -> str:
    """kubeadm's flag file as it is for the moment of the kubelet's start."""
    variable = KUBEADM_FLAGS[1]
    words, _error = kubelet_flags.read_env(text or "", variable)
    return kubelet_flags.write_env(text or "", variable, words + list(FIRST_START))


def way_back(journal: Journal, now: Files, kubelet_minor: int) -> Files:
    """The flag files as they were, unless somebody has edited them since: then ours taken out."""
    before = journal.data.get("files_before") or {}
    computed = edited(now, "docker", kubelet_minor)
    result = {}
    for path, text in now.items():
        written = [before.get(path)]
        for files in ("files_after", "files_containerd"):
            written.append((journal.data.get(files) or {}).get(path))
        ours = written + [with_first_status(entry) for entry in written]
        result[path] = before[path] if path in before and text in ours else computed[path]
    return result


class Switch:
    def __init__(self, module: AnsibleModule, journal: Journal, kubelet_minor: int) -> None:
        self.params = module.params
        self.journal = journal
        self.minor = kubelet_minor
        self.progress = node.Progress(module.params["progress_file"])
        self.complaints: t.List[str] = []
        #: Containers and sandboxes that run besides those kept till last.
        self.others = 0
        #: After a failed switch, the containers that ran before it: the API shows them until it
        #: hears otherwise, and they were docker's as the new ones are.
        self.stopped: t.Set[str] = set()
        #: The API's copies of the static pods that are kept till last, by name.
        self.mirrors: t.Dict[str, t.Any] = {}
        self.ready_seconds: t.Optional[float] = None
        self.api_away_seconds: t.Optional[float] = None
        self.docker = DockerPods(self.params["docker_socket"], self.params["cni_bin_dirs"])
        self.containerd = ContainerdPods(self.params["cni_bin_dirs"])

    def say(self, text: str) -> None:
        began = self.journal.data.get("began")
        clock = "%5.1f s  " % (time.time() - began) if began else ""
        self.progress.say(clock + text)

    def step(self, name: str, text: str) -> None:
        self.journal.step(name)
        self.say(text)

    def to_containerd(self, files_after: Files) -> str:
        now = flag_files()
        # A way back that broke off early has left containerd's flags: they are not what was before.
        before = None
        if now == files_after or self.journal.unfinished:
            before = self.journal.data.get("files_before")
        self.journal.begin("containerd", before or now, files_after)
        return self.run_containerd()

    def run_containerd(self) -> str:
        """Every step can be done again, so an unfinished switch is simply run once more."""
        control_plane.uncover()
        self.step("stop kubelet", "stopping the kubelet (1 of 3)")
        node.run(["systemctl", "stop", "kubelet"])
        hidden = self.keep_control_plane()
        self.step("stop pods", "stopping the pods (2 of 3)")
        grace = self.params["grace_seconds"]
        self.complaints += self.docker.stop(grace, self.say, control_plane.KEPT if hidden else ())
        self.step("start kubelet", "starting the kubelet on containerd (3 of 3)")
        started = self.start_kubelet(self.journal.data["files_after"])
        self.journal.step("wait for Ready")
        version = self.wait_ready("containerd://", started)
        self.ready_seconds = round(time.time() - self.journal.data["began"], 2)
        if hidden:
            version = self.switch_control_plane(hidden)
        self.journal.finish("done")
        return version

    def keep_control_plane(self) -> t.Dict[str, str]:
        """Prepare etcd and the API server of this node to stay until the rest has moved.

        Returns their manifests, which are hidden then, or nothing where all switch at once.
        """
        listed = self.docker.containers()
        if not self.params["control_plane_last"] or not control_plane.can_be_last(listed):
            return {}
        try:
            for entry in control_plane.kept(listed):
                control_plane.shelter(self.docker.pid(entry["Id"]))
            hidden = control_plane.cover()
        except (OSError, node.NodeError) as exc:
            self.say("etcd and the API server cannot be kept till last here: %s" % exc)
            return {}
        self.others = self.docker.running() - 2 * len(control_plane.KEPT)
        self.say("etcd and the API server stay on docker until the other pods run")
        return hidden

    def switch_control_plane(self, hidden: t.Dict[str, str]) -> str:
        self.journal.step("wait for pods")
        self.wait_tasks(self.others, KEEP_SECONDS)
        self.step("switch control plane", "etcd and the API server follow")
        away = time.monotonic()
        self.complaints += self.docker.stop(self.params["grace_seconds"], self.say)
        control_plane.show(hidden)
        # Where there are several control planes another one's API answers all the time.
        self.wait_tasks(self.others + 2 * len(hidden), KEEP_SECONDS)
        while self.api_away():
            if time.monotonic() > away + self.params["ready_timeout"]:
                raise SwitchFailed(
                    "the API server did not start on containerd\n" + node.journal_tail("kubelet")
                )
            time.sleep(0.1)
        self.api_away_seconds = round(time.monotonic() - away, 2)
        self.say("the API is back, it was away %.1f s" % self.api_away_seconds)
        self.restore_mirrors()
        # The kubelet is started anew, so that it watches the manifests' own directory again.
        control_plane.uncover()
        control_plane.leave_shelter()
        node.run(["systemctl", "stop", "kubelet"])
        started = self.start_kubelet(self.journal.data["files_after"])
        return self.wait_ready("containerd://", started)

    def restore_mirrors(self) -> None:
        """Create the mirror pods anew that the kubelet deleted while it did not see the manifests.

        It would do so itself, but drops the pods' first status where there is none yet, and then
        says nothing of them for up to 10 s.
        """
        found, _complaint = self.pods()
        have = {cluster.pod_name(pod) for pod in found["items"]} if found else set()
        missing = [pod for name, pod in sorted(self.mirrors.items()) if name not in have]
        path = control_plane.COVER + ".json"
        node.write_text(path, json.dumps({"apiVersion": "v1", "kind": "List", "items": missing}))
        done = self.kubectl("create", "-f", path, seconds=30) if missing else None
        if done and done.returncode:
            self.complaints.append(done.stderr.strip())
        os.unlink(path)

    def wait_tasks(self, count: int, seconds: float) -> None:
        """Wait until containerd runs so many containers and sandboxes, or no longer than that."""
        deadline = time.monotonic() + seconds
        while node.ctr("tasks", "list").count("RUNNING") < count and time.monotonic() < deadline:
            time.sleep(0.1)

    def api_away(self) -> bool:
        return self.kubectl("get", "--raw", "/readyz", seconds=2).returncode != 0

    def to_docker(self) -> str:
        self.journal.begin("docker", {}, way_back(self.journal, flag_files(), self.minor))
        control_plane.uncover()
        self.step("stop kubelet", "stopping the kubelet (1 of 4)")
        node.run(["systemctl", "stop", "kubelet"])
        self.step("stop pods", "stopping the pods (2 of 4)")
        self.complaints += self.containerd.stop(self.params["grace_seconds"], self.say)
        self.step("start docker", "making sure that docker answers (3 of 4)")
        self.revive_containerd()
        self.revive_docker()
        # Some may still be there, where the switch to containerd broke off early.
        try:
            self.complaints += self.docker.stop(self.params["grace_seconds"], self.say)
        except DockerError as exc:
            self.complaints.append(str(exc))  # the kubelet on docker deals with what is left
        control_plane.leave_shelter()
        self.step("start kubelet", "starting the kubelet on docker (4 of 4)")
        started = self.start_kubelet(self.journal.data["files_after"])
        self.journal.step("wait for Ready")
        version = self.wait_ready("docker://", started)
        self.journal.finish("done")
        return version

    def write_files(self, files: Files) -> None:
        for path, text in files.items():
            if text is not None and text != node.read_text(path):
                node.write_text(path, text)

    def start_kubelet(self, files: Files) -> float:
        """Start it on these flag files, and return when that was."""
        path, variable = KUBEADM_FLAGS
        self.write_files(dict(files, **{path: with_first_status(files[path])}))
        started = time.time()
        node.run(["systemctl", "reset-failed", "kubelet"], check=False)
        node.run(["systemctl", "start", "kubelet"])
        self.write_files(files)
        return started

    def revive_containerd(self) -> None:
        """docker runs on containerd too: if ours does not start, its own configuration comes back.

        It is restarted in any case, so that its CRI forgets the pods that were just removed.
        """
        node.run(["systemctl", "reset-failed", "containerd"], check=False)
        if node.run(["systemctl", "restart", "containerd"], check=False).returncode == 0:
            return
        before = node.read_text(CONTAINERD_CONFIG_BEFORE)
        self.say("containerd does not start; putting its configuration back as it was before")
        if before is not None:
            node.write_text(CONTAINERD_CONFIG, before)
        elif os.path.exists(CONTAINERD_CONFIG):
            os.rename(CONTAINERD_CONFIG, CONTAINERD_CONFIG + ".homelab-broken")
        node.run(["systemctl", "reset-failed", "containerd"], check=False)
        node.run(["systemctl", "restart", "containerd"], check=False)

    def revive_docker(self) -> None:
        node.run(["systemctl", "start", "docker"], check=False, timeout=120)
        deadline = time.monotonic() + 60
        while True:
            try:
                DockerAPI(self.params["docker_socket"]).get("/info")
                return
            except (DockerError, ValueError) as exc:
                if time.monotonic() > deadline:
                    raise SwitchFailed(
                        "docker does not answer: %s\n%s" % (exc, node.journal_tail("docker"))
                    ) from exc
            time.sleep(1)

    def wait_ready(self, prefix: str, started: float) -> str:
        """Wait for Ready as the API reports it, from a status that this kubelet sent."""
        deadline = time.monotonic() + self.params["ready_timeout"]
        told = time.monotonic()
        while True:
            version, seen = self.node_status(prefix, started)
            if version:
                self.say("Ready on %s" % version)
                return version
            if time.monotonic() > deadline:
                raise SwitchFailed(
                    "after %d s: %s\nkubelet's journal:\n%s\ncontainerd's journal:\n%s"
                    % (
                        self.params["ready_timeout"],
                        seen,
                        node.journal_tail("kubelet"),
                        node.journal_tail("containerd"),
                    )
                )
            if time.monotonic() - told > 5:
                told = time.monotonic()
                self.say("waiting for Ready, %d s left: %s" % (deadline - time.monotonic(), seen))
            time.sleep(POLL_SECONDS)

    def kubectl(self, *words: str, seconds: int = 3) -> subprocess.CompletedProcess[str]:
        """One request to the API, which may be away, and how it ended."""
        base = ["kubectl", "--kubeconfig", self.params["kubeconfig"]]
        base.append("--request-timeout=%ds" % seconds)
        return node.run(base + list(words), timeout=seconds + 5, check=False)

    def get(self, *words: str) -> t.Tuple[t.Any, str]:
        """The JSON that kubectl gets, or None and the last line of its complaint."""
        done = self.kubectl("get", *words, "-o", "json")
        if done.returncode == 0:
            return json.loads(done.stdout), ""
        return None, (done.stderr.strip().splitlines() or ["the API did not answer"])[-1]

    def node_status(self, prefix: str, started: float) -> t.Tuple[t.Optional[str], str]:
        found, complaint = self.get("node", self.params["node_name"])
        if found is None:
            return None, complaint
        status = found["status"]
        version = status.get("nodeInfo", {}).get("containerRuntimeVersion", "")
        ready = [c for c in status.get("conditions", []) if c["type"] == "Ready"][-1:]
        if not ready:
            return None, "the node has no Ready condition"
        heartbeat = calendar.timegm(
            time.strptime(ready[0]["lastHeartbeatTime"], "%Y-%m-%dT%H:%M:%SZ")
        )
        if not version.startswith(prefix):
            return None, "the API still reports %s" % version
        # The API keeps the last word of the old kubelet: only what came after the start counts.
        if ready[0]["status"] != "True" or heartbeat < int(started):
            return None, "%s, not Ready: %s" % (version, ready[0].get("message", ""))
        return version, ""

    def pods(self) -> t.Tuple[t.Any, str]:
        # The node authorizer lets a kubelet list the pods that are bound to it.
        return self.get(
            "pods",
            "--all-namespaces",
            "--field-selector",
            "spec.nodeName=" + self.params["node_name"],
        )

    def wait_pods(
        self, runtime: str, waited_for: t.Optional[t.Container[str]]
    ) -> t.Dict[str, float]:
        """Wait until the pods that were ready before are so again (None: all of them)."""
        began = self.journal.data["began"]
        deadline = time.monotonic() + self.params["pods_timeout"]
        told = 0.0
        seconds: t.Dict[str, float] = {}
        while True:
            found, complaint = self.pods()
            if found is not None:
                late = cluster.pods_not_ready(found, runtime, self.stopped)
                names = {cluster.pod_name(pod) for pod in found["items"]}
                late += [
                    {"name": name, "phase": "Pending", "reason": "not in the API yet"}
                    for name in sorted(set(self.mirrors) - names)
                ]
                late = [pod for pod in late if waited_for is None or pod["name"] in waited_for]
                now = round(time.time() - began, 2)
                if not [pod for pod in late if pod["phase"] != "Running"]:
                    seconds.setdefault("running_seconds", now)
                if not late:
                    self.say("all %d pods are ready" % len(found["items"]))
                    return dict(seconds, pods_ready_seconds=now)
                complaint = ", ".join("%(name)s (%(reason)s)" % pod for pod in late)
                text = "%d of %d pods are ready, waiting for %s" % (
                    len(found["items"]) - len(late),
                    len(found["items"]),
                    ", ".join(pod["name"] for pod in late[:4]) + (", …" if late[4:] else ""),
                )
                if time.monotonic() - told > 3:
                    told = time.monotonic()
                    self.say(text)
            if time.monotonic() > deadline:
                raise SwitchFailed(
                    "The node is Ready, but after %d s some of its pods are not: %s. Look at "
                    "kubectl describe pod; the playbook rollback goes back to docker."
                    % (self.params["pods_timeout"], complaint)
                )
            time.sleep(POLL_SECONDS)


def kubelet_minor() -> int:
    printed = node.run(["kubelet", "--version"]).stdout
    match = re.search(r"v1\.(\d+)", printed)
    if not match:
        raise node.NodeError("kubelet --version printed %r" % printed)
    return int(match.group(1))


def preconditions(params: t.Dict[str, t.Any]) -> None:
    """What has to hold before the kubelet is stopped; better a failure than an outage."""
    plugins = node.run(["ctr", "plugins", "list"]).stdout
    if not re.search(r"^io\.containerd\.grpc\.v1\s+cri\s.*\bok\b", plugins, re.MULTILINE):
        raise node.NodeError(
            "containerd's CRI does not answer on this node, so nothing was changed. Run the role "
            "containerd first.\n%s" % node.journal_tail("containerd")
        )
    if not os.path.exists(params["kubeconfig"]):
        raise node.NodeError(
            "There is no %s on this node to ask the API with (kubeconfig); nothing was changed."
            % params["kubeconfig"]
        )


def run_module(module: AnsibleModule) -> t.Dict[str, t.Any]:
    params = module.params
    target = params["to"]
    journal = Journal()
    minor = kubelet_minor()
    switch = Switch(module, journal, minor)
    now = flag_files()
    if target == "containerd":
        files_after = edited(now, target, minor)
    else:
        files_after = way_back(journal, now, minor)
    if files_after == now and not journal.unfinished:
        return {"changed": False}
    diff = [
        {"before_header": path, "after_header": path, "before": now[path], "after": text}
        for path, text in files_after.items()
        if text != now[path]
    ]
    if module.check_mode:
        return {"changed": True, "diff": diff}
    if journal.unfinished:
        switch.say("an earlier switch to %s was not finished: going on" % journal.unfinished)
    before, _complaint = switch.pods()
    waited_for = None
    if before is not None:
        switch.mirrors = control_plane.mirrors(before)
    if before is not None and not journal.unfinished:
        late = {pod["name"] for pod in cluster.pods_not_ready(before)}
        names = {cluster.pod_name(pod) for pod in before["items"]}
        waited_for = names - late
    try:
        if target == "docker":
            if not journal.unfinished:
                switch.revive_docker()  # nothing is stopped before docker answers
            version = switch.to_docker()
        elif journal.unfinished == "containerd":
            preconditions(params)
            version = switch.run_containerd()
        else:
            preconditions(params)
            version = switch.to_containerd(files_after)
    except Exception as exc:  # whatever it is, the node has to come back
        if target != "containerd" or not journal.unfinished or not params["rollback"]:
            if control_plane.covered():
                raise SwitchFailed(
                    "%s\n%s is covered by a mount; running migrate or rollback takes it away."
                    % (exc, control_plane.MANIFESTS)
                ) from exc
            raise
        switch.say("not Ready on containerd: going back to docker")
        try:
            version = switch.to_docker()
        except Exception as second:
            # On whatever flags there are: a kubelet that tries is better than none.
            node.run(["systemctl", "start", "kubelet"], check=False)
            raise SwitchFailed(
                "Node %s did not get Ready on containerd: %s\nand not on docker either: %s"
                % (params["node_name"], exc, second)
            ) from exc
        journal.finish("rolled_back")
        switch.stopped = cluster.container_ids(before) if before else set()
        try:
            switch.wait_pods("docker://", waited_for)
            pods = "with all its pods"
        except SwitchFailed as late:
            pods = "but not with all its pods (%s)" % late
        module.fail_json(
            msg="Node %s did not get Ready on containerd and is back on %s, Ready, %s. %s"
            % (params["node_name"], version, pods, exc),
            rolled_back=True,
            steps=journal.timings(),
            complaints=switch.complaints,
        )
    result = {
        "changed": True,
        "diff": diff,
        "runtime_version": version,
        "outage_seconds": switch.ready_seconds
        or round(journal.data["ended"] - journal.data["began"], 2),
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
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    node.finish(module, lambda: run_module(module), SwitchFailed, DockerError)


if __name__ == "__main__":
    main()

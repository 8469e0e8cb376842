# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stop what Kubernetes runs on a node, on docker or on containerd, and nothing else.

Both classes do the same in the same order: containers with their grace, addresses, sandboxes.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import time
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._containerd import client
from ansible_collections.homelab.containerd.plugins.module_utils._docker.api import DockerAPI
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import cni

#: What kubeadm sets up. All of it can be killed at any moment (etcd writes ahead), and while it
#: shuts down in order (CoreDNS waits 5 s for clients that are gone already) the outage goes on.
CLUSTER_SERVICES = frozenset(
    [
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "etcd",
        "coredns",
        "kube-proxy",
    ]
)

GRACE_LABEL = "annotation.io.kubernetes.pod.terminationGracePeriod"
WORKERS = 32
#: A containerd that does not answer for so long counts as dead, and its shims are killed.
ANSWER_SECONDS = 60
Say = t.Callable[[str], None]


def in_parallel(function: t.Callable[..., t.Any], items: t.Iterable[t.Any]) -> t.List[t.Any]:
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(function, items))


def is_cluster_service(labels: t.Dict[str, str]) -> bool:
    return (
        labels.get("io.kubernetes.pod.namespace") == "kube-system"
        and labels.get("io.kubernetes.container.name") in CLUSTER_SERVICES
    )


def grace_of(labels: t.Dict[str, str], longest: int) -> int:
    """A container's grace in seconds, never more than longest."""
    if is_cluster_service(labels):
        # etcd ends within that by itself; nothing of the others is lost.
        return 1 if labels["io.kubernetes.container.name"] == "etcd" else 0
    try:
        return min(int(labels.get(GRACE_LABEL, longest)), longest)
    except ValueError:
        return longest


def _release(
    host: Host,
    sandboxes: t.Container[str],
    netns_of: t.Callable[[t.Dict[str, t.Any]], str],
    bin_dirs: t.Sequence[str],
) -> t.List[str]:
    def one(attachment: t.Dict[str, t.Any]) -> t.List[str]:
        return cni.release(attachment, netns_of(attachment), bin_dirs)

    found = cni.attachments(host, sandboxes)
    complaints: t.List[str] = sum(in_parallel(one, found), [])
    cni.release_leftovers(host, sandboxes)
    for attachment in found:
        for path in cni.network_namespaces(attachment):
            _remove_network_namespace(host, path)
    return complaints


class DockerPods:
    """Kubernetes' containers in docker: those with a label io.kubernetes.docker.type."""

    def __init__(self, host: Host, api: DockerAPI, bin_dirs: t.Sequence[str]) -> None:
        self.host, self.api, self.bin_dirs = host, api, bin_dirs

    def _running(self, kind: str) -> t.List[t.Dict[str, t.Any]]:
        wanted = json.dumps({"label": ["io.kubernetes.docker.type=" + kind]})
        return list(self.api.get("/containers/json", {"filters": wanted}))

    def sandboxes(self) -> t.Dict[str, str]:
        """All sandboxes, also stopped ones, by ID, with the network namespace of running ones."""
        wanted = json.dumps({"label": ["io.kubernetes.docker.type=podsandbox"]})
        listed = self.api.get("/containers/json", {"filters": wanted, "all": 1})

        def netns(entry: t.Dict[str, t.Any]) -> str:
            if entry["State"] != "running":
                return ""
            pid = self.api.get("/containers/%s/json" % entry["Id"])["State"]["Pid"]
            return "/proc/%d/ns/net" % pid if pid else ""

        return dict(zip([entry["Id"] for entry in listed], in_parallel(netns, listed)))

    def containers(self) -> t.List[t.Dict[str, t.Any]]:
        """The running ones, as the API lists them, without sandboxes."""
        return self._running("container")

    def running(self) -> int:
        """How many containers and sandboxes run."""
        return len(self._running("container")) + len(self._running("podsandbox"))

    def pid(self, identity: str) -> int:
        return int(self.api.get("/containers/%s/json" % identity)["State"]["Pid"])

    def stop(
        self, longest_grace: int, say: Say, keep: t.Container[str] = frozenset()
    ) -> t.List[str]:
        """Stop all but those whose container name is in keep, and their sandboxes.

        Returns complaints that do not matter to the switch.
        """
        listed = self.containers()
        kept = [e for e in listed if is_cluster_service(e["Labels"]) and container_name(e) in keep]
        kept_sandboxes = {entry["Labels"].get("io.kubernetes.sandbox.id") for entry in kept}
        going = [entry for entry in listed if entry not in kept]
        say("stopping %d containers on docker" % len(going))
        in_parallel(
            lambda entry: self.api.stop(entry["Id"], grace_of(entry["Labels"], longest_grace)),
            going,
        )
        sandboxes = self.sandboxes()
        complaints = _release(
            self.host, sandboxes, lambda found: sandboxes[found["containerId"]], self.bin_dirs
        )
        in_parallel(
            lambda entry: self.api.stop(entry["Id"], 0),
            [e for e in self._running("podsandbox") if e["Id"] not in kept_sandboxes],
        )
        return complaints


def container_name(entry: t.Dict[str, t.Any]) -> t.Optional[str]:
    """A container's name in its pod; entry as docker's API lists containers."""
    return t.cast("t.Optional[str]", entry["Labels"].get("io.kubernetes.container.name"))


class ContainerdPods:
    """Everything in containerd's namespace k8s.io, with or without a containerd that answers."""

    def __init__(self, host: Host, bin_dirs: t.Sequence[str]) -> None:
        self.host, self.bin_dirs = host, bin_dirs

    def _ctr(self, *words: str, check: bool = True) -> str:
        return self.host.run(("ctr", "-n", client.NAMESPACE) + words, check=check).stdout

    def running(self) -> int:
        """How many containers and sandboxes run."""
        return self._ctr("tasks", "list").count("RUNNING")

    def _containers(self) -> t.Dict[str, t.Dict[str, t.Any]]:
        """ID to {"pid", "labels"} of all containers."""
        pids = {}
        for line in self._ctr("tasks", "list").splitlines()[1:]:
            words = line.split()
            if len(words) >= 2 and words[1].isdigit():
                pids[words[0]] = int(words[1])
        ids = self._ctr("containers", "list", "-q").split()

        return {
            identity: {"pid": pids.get(identity, 0), "labels": found}
            for identity, found in zip(ids, in_parallel(self._labels, ids))
            if found is not None
        }

    def _labels(self, identity: str) -> t.Optional[t.Dict[str, str]]:
        """A container's labels, None where it is gone since it was listed.

        NodeError where containerd does not tell: one that may run is not left to run beside docker.
        """
        deadline = self.host.monotonic() + ANSWER_SECONDS
        while True:
            try:
                info = json.loads(self._ctr("containers", "info", identity))
                return dict(info.get("Labels") or {})
            except (commands.NodeError, ValueError) as exc:
                if isinstance(exc, commands.NodeError) and client.is_gone(exc):
                    return None
                if self.host.monotonic() > deadline:
                    raise commands.NodeError("container %s: %s" % (identity, exc)) from exc
            self.host.sleep(1)

    def stop(self, longest_grace: int, say: Say) -> t.List[str]:
        """Stop and remove them all; returns complaints that do not matter to the switch."""
        if not self.answers():
            say("containerd does not answer: killing what its shims run")
            return self._kill_shims()
        try:
            containers = self._containers()
        except commands.NodeError as exc:
            say("containerd does not describe what it runs (%s): killing what its shims run" % exc)
            return self._kill_shims()
        # Others than CRI's are not the kubelet's: nerdctl's in this namespace, BuildKit's steps.
        containers = {
            identity: entry
            for identity, entry in containers.items()
            if "io.cri-containerd.kind" in entry["labels"]
        }
        sandboxes = {
            identity
            for identity, entry in containers.items()
            if entry["labels"].get("io.cri-containerd.kind") == "sandbox"
        }
        running = [entry for identity, entry in containers.items() if identity not in sandboxes]
        say("stopping %d containers on containerd" % len(running))
        in_parallel(
            lambda entry: _terminate([entry], grace_of(entry["labels"], longest_grace)), running
        )
        complaints = _release(self.host, sandboxes, _first_netns, self.bin_dirs)
        _terminate([containers[identity] for identity in sandboxes], 0)
        in_parallel(self._remove, containers)
        return complaints

    def answers(self) -> bool:
        """Whether containerd answers, in the time that a restart takes on a busy machine."""
        deadline = self.host.monotonic() + ANSWER_SECONDS
        while self.host.run(["ctr", "version"], timeout=ANSWER_SECONDS, check=False).returncode:
            if self.host.monotonic() > deadline:
                return False
            self.host.sleep(1)
        return True

    def _remove(self, identity: str) -> None:
        self._ctr("tasks", "delete", "--force", identity, check=False)
        self._ctr("containers", "delete", identity, check=False)

    def _kill_shims(self) -> t.List[str]:
        # A shim's children are the containers' first processes; the shim reaps them and, with
        # its containerd gone, is of no more use itself.
        sandboxes = set()
        for entry in os.listdir(self.host.path("/proc")):
            words = (self.host.read_text("/proc/%s/cmdline" % entry) or "").split("\0")
            if "containerd-shim" not in words[0] or client.NAMESPACE not in words:
                continue
            if "-id" in words:
                sandboxes.add(words[words.index("-id") + 1])
            children = self.host.read_text("/proc/%s/task/%s/children" % (entry, entry)) or ""
            for pid in children.split() + [entry]:
                _kill(int(pid), signal.SIGKILL)
        return _release(self.host, sandboxes, _first_netns, self.bin_dirs)


def _first_netns(attachment: t.Dict[str, t.Any]) -> str:
    found = cni.network_namespaces(attachment)
    return found[0] if found and os.path.exists(found[0]) else ""


def _remove_network_namespace(host: Host, path: str) -> None:
    """Unmount and remove a named network namespace that containerd made."""
    if path.startswith(("/var/run/netns/cni-", "/run/netns/cni-")) and os.path.exists(path):
        host.run(["umount", "--lazy", path], check=False)
        try:
            os.unlink(path)
        except OSError:
            pass  # mounted elsewhere too: it goes with the next boot


def _kill(pid: int, signal_number: int) -> None:
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        pass  # it ended by itself


def _stop_signal(labels: t.Dict[str, str]) -> int:
    """The image's STOPSIGNAL, as containerd keeps it (containerd, StopSignalLabel)."""
    name = labels.get("io.containerd.image.config.stop-signal", "SIGTERM")
    if name.isdigit():
        return int(name)
    return int(getattr(signal, name, signal.SIGTERM))


def _terminate(entries: t.Sequence[t.Dict[str, t.Any]], grace: float) -> None:
    pending = {entry["pid"] for entry in entries if entry["pid"]}
    if grace:
        for entry in entries:
            if entry["pid"]:
                _kill(entry["pid"], _stop_signal(entry["labels"]))
    deadline = time.monotonic() + grace
    while pending and time.monotonic() < deadline:
        pending = {pid for pid in pending if os.path.exists("/proc/%d" % pid)}
        time.sleep(0.05)
    for pid in pending:
        _kill(pid, signal.SIGKILL)

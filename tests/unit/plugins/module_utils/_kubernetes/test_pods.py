# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import signal
import subprocess
import threading

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import client
from ansible_collections.homelab.containerd.plugins.module_utils._docker.api import DockerAPI
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import pods
from support import RECORDED, read_recorded

POD = {"io.kubernetes.pod.namespace": "home", "io.kubernetes.container.name": "web"}


def labels(**changes):
    return dict(POD, **{key.replace("_", "."): value for key, value in changes.items()})


@pytest.mark.parametrize(
    ("found", "grace"),
    [
        (POD, 45),
        (dict(POD, **{pods.GRACE_LABEL: "7"}), 7),
        (dict(POD, **{pods.GRACE_LABEL: "600"}), 45),
        (dict(POD, **{pods.GRACE_LABEL: "?"}), 45),
        ({}, 45),
    ],
)
def test_grace(found, grace):
    assert pods.grace_of(found, 45) == grace


def test_what_kubeadm_set_up_gets_no_grace_and_others_of_its_name_do(recorded):
    short = {
        entry["Labels"]["io.kubernetes.container.name"]
        for entry in recorded("docker-20.10.24/containers.json")
        if pods.is_cluster_service(entry["Labels"])
    }
    assert short == pods.CLUSTER_SERVICES
    etcd = {"io.kubernetes.container.name": "etcd", "io.kubernetes.pod.namespace": "home"}
    assert not pods.is_cluster_service(etcd)
    etcd["io.kubernetes.pod.namespace"] = "kube-system"
    assert pods.grace_of(etcd, 45) == 1
    assert pods.grace_of(dict(etcd, **{"io.kubernetes.container.name": "coredns"}), 45) == 0


def test_docker_pods_that_are_to_be_kept_keep_their_sandboxes(engine, docker):
    docker.stop(30, lambda text: None, ("etcd",))
    running = [c for c in engine.containers if c["State"] == "running"]
    names = sorted(c["Names"][0].split("_")[1] for c in running if c["Names"][0] != "/owners-own")
    assert len(running) == 3 and names == ["POD", "etcd"]


@pytest.fixture
def docker(tmp_path, engine):
    """On a host without any file, so that there is no network to give back."""
    return pods.DockerPods(Host(str(tmp_path / "root")), DockerAPI(engine.path), [])


def test_docker_sandboxes_know_their_network_namespaces(engine, docker):
    listed = [c for c in engine.containers if c["Image"] == "registry.k8s.io/pause:3.6"]
    listed[0]["State"] = "exited"
    found = docker.sandboxes()
    assert set(found) == {entry["Id"] for entry in listed}
    assert found[listed[0]["Id"]] == ""
    assert all(found[entry["Id"]].startswith("/proc/1") for entry in listed[1:])


def test_docker_pods_leave_the_owners_container(engine, docker):
    said: list[str] = []
    assert docker.stop(30, said.append) == []
    (own,) = [c for c in engine.containers if c["Names"] == ["/owners-own"]]
    assert own["State"] == "running" and own["Id"] not in engine.stopped
    assert {c["State"] for c in engine.containers if c is not own} == {"exited"}
    assert said == ["stopping 11 containers on docker"]


class Process:
    """A process that stands for a container's, with somebody who waits for it."""

    def __init__(self, script: str) -> None:
        self.process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self.pid = self.process.pid
        self.waiter = threading.Thread(target=self.process.wait, daemon=True)
        self.waiter.start()

    @property
    def ended_with(self) -> int | None:
        self.waiter.join(0.3)
        return self.process.returncode

    def end(self) -> None:
        self.process.kill()
        self.waiter.join()


#: As commands.run() has it.
GONE = "ctr …: exit status 1: " + read_recorded("containerd-1.6.20/container-gone.txt").strip()
FROZEN = "ctr …: exit status 1: " + read_recorded("containerd-1.6.20/container-frozen.txt").strip()
SLEEPS = "echo ready; while true; do sleep 0.01; done"


class Containerd(Host):
    """A host without any file, whose containerd has these containers."""

    def __init__(self, root, found) -> None:
        super().__init__(root)
        self.found = found
        self.calls: list[str] = []
        self.now = 0.0
        #: What "containers info" complains of: a container's ID to that, or to None once.
        self.silent: dict[str, list[str]] = {}

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def run(self, words, timeout=60, check=True):
        line = " ".join(words).replace("ctr -n k8s.io ", "")
        self.calls.append(line)
        output = ""
        if line == "tasks list":
            rows = [
                "%s    %d    RUNNING" % (key, one.pid) for key, (one, _labels) in self.found.items()
            ]
            output = "\n".join(["TASK    PID    STATUS", *rows])
        elif line == "containers list -q":
            output = "\n".join([*self.found, "e" * 64])
        elif line.startswith("containers info "):
            answers = self.silent.get(words[-1])
            if answers:
                raise commands.NodeError(answers.pop() if len(answers) > 1 else answers[0])
            if words[-1] not in self.found:
                raise commands.NodeError(GONE)
            output = json.dumps({"ID": words[-1], "Labels": self.found[words[-1]][1]})
        return subprocess.CompletedProcess(words, 0, output, "")


@pytest.fixture
def containers(tmp_path):
    """Real processes, as ctr would list them."""
    stopping = 'trap "exit 0" TERM; ' + SLEEPS
    # As haproxy's image has it. Under nohup a shell cannot trap SIGHUP.
    signalled = 'trap "" TERM; trap "exit 0" USR1; ' + SLEEPS
    stubborn = 'trap "" TERM; ' + SLEEPS
    ours = dict(labels(), **{"io.cri-containerd.kind": "container"})
    found = {
        "a" * 64: (Process(stopping), ours),
        "b" * 64: (
            Process(signalled),
            dict(ours, **{"io.containerd.image.config.stop-signal": "SIGUSR1"}),
        ),
        "c" * 64: (Process(stubborn), dict(ours, **{pods.GRACE_LABEL: "0"})),
        "d" * 64: (Process(SLEEPS), {"io.cri-containerd.kind": "sandbox"}),
        "f" * 64: (Process(SLEEPS), {"nerdctl/namespace": "k8s.io"}),
    }
    yield found, Containerd(str(tmp_path / "root"), found)
    for process, _labels in found.values():
        process.end()


def test_containerd_pods_end_as_they_like_or_are_killed(containers):
    found, host = containers
    bystander = Process(SLEEPS)
    # A busy machine takes seconds to end a shell.
    assert pods.ContainerdPods(host, []).stop(8, lambda text: None) == []
    ended = {key[0]: process.ended_with for key, (process, _labels) in found.items()}
    killed = -signal.SIGKILL
    # The last one is the owner's own, not the kubelet's.
    assert ended == {"a": 0, "b": 0, "c": killed, "d": killed, "f": None}
    assert bystander.ended_with is None
    bystander.end()
    assert not [call for call in host.calls if "delete" in call and call.endswith("f" * 64)]
    for identity in sorted(set(found) - {"f" * 64}):
        assert "tasks delete --force " + identity in host.calls
        assert "containers delete " + identity in host.calls


@pytest.mark.parametrize("containerd", ["1.6.20", "2.4.2"])
def test_what_ctr_says_of_a_container_that_is_gone(program, containerd):
    recorded = RECORDED / ("containerd-%s/container-gone.txt" % containerd)
    program("ctr", "cat %s >&2; exit 1" % recorded)
    with pytest.raises(commands.NodeError) as failure:
        client.ctr("containers", "info", "nope")
    assert client.is_gone(failure.value)


@pytest.mark.parametrize("script", ["cat %s >&2; exit 1", "exec sleep 9"])
def test_what_ctr_says_of_a_containerd_that_does_not_answer(program, script):
    frozen = RECORDED / "containerd-1.6.20/container-frozen.txt"
    program("ctr", script.replace("%s", str(frozen)))
    with pytest.raises(commands.NodeError) as failure:
        client.ctr("containers", "info", "nope", timeout=1)
    assert not client.is_gone(failure.value)


def test_a_container_that_containerd_described_late_is_stopped_too(containers):
    found, host = containers
    host.silent = {"a" * 64: [FROZEN, FROZEN]}
    said: list[str] = []

    def sleep(seconds):
        host.silent = {}

    host.sleep = sleep
    pods.ContainerdPods(host, []).stop(8, said.append)
    assert found["a" * 64][0].ended_with == 0 and found["f" * 64][0].ended_with is None
    assert said == ["stopping 3 containers on containerd"]


def test_a_container_that_nobody_describes_is_not_left_running(containers, monkeypatch):
    _found, host = containers
    host.silent = {"a" * 64: [FROZEN]}
    killed = []

    def kill_shims(self):
        killed.append(self)
        return []

    monkeypatch.setattr(pods.ContainerdPods, "_kill_shims", kill_shims)
    said: list[str] = []
    assert pods.ContainerdPods(host, []).stop(8, said.append) == []
    assert killed and host.now > pods.ANSWER_SECONDS
    assert len(said) == 1 and "server handshake" in said[0]

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The switch against a node of files, an engine's socket and commands that answer as recorded.

What matters is what is left behind: the flag files, the journal, and which containers were
stopped, also where the run breaks off at any of its steps.
"""

from __future__ import annotations

import copy
import io
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile
import time
import types
import urllib.parse

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import config
from ansible_collections.homelab.containerd.plugins.module_utils._docker.api import (
    DockerAPI,
    DockerError,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    originals,
    paths,
    progress,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import static_pods
from ansible_collections.homelab.containerd.plugins.module_utils._switch import (
    journal,
    kubelet_files,
    limits,
    reserve,
    switch,
)
from ansible_collections.homelab.containerd.plugins.modules import switch_runtime
from support import read_recorded

KUBEADM = (
    'KUBELET_KUBEADM_ARGS="--network-plugin=cni '
    '--pod-infra-container-image=registry.k8s.io/pause:3.6"\n'
)
ON_CONTAINERD = (
    'KUBELET_KUBEADM_ARGS="--container-runtime=remote '
    "--container-runtime-endpoint=unix:///run/containerd/containerd.sock "
    '--pod-infra-container-image=registry.k8s.io/pause:3.6"\n'
)
# With a flag that only dockershim reads: it goes, and has to be there again on the way back.
EXTRA = "# The owner's\nKUBELET_EXTRA_ARGS=--cni-bin-dir=/opt/cni/bin --node-ip=10.0.0.2\n"
EXTRA_AFTER = '# The owner\'s\nKUBELET_EXTRA_ARGS="--node-ip=10.0.0.2"\n'


#: /proc/PID/cgroup of a container of a static pod, with docker's systemd driver.
CGROUP_V1 = """\
12:cpuset:/kubepods.slice/kubepods-burstable.slice/docker-1.scope
4:cpu,cpuacct:/kubepods.slice/kubepods-burstable.slice/docker-1.scope
1:name=systemd:/kubepods.slice/kubepods-burstable.slice/docker-1.scope
0::/system.slice/docker.service
"""
CONTROL_PLANE = ["etcd.yaml", "kube-apiserver.yaml"]


class Crash(BaseException):
    """The node is reset: nothing after this is done."""


class Failed(Exception):
    """What the module fails with, as a dictionary."""


class Answers(DockerAPI):
    """The recorded engine, asked without a socket: there are thousands of questions here."""

    def __init__(self, engine) -> None:
        super().__init__(engine.path)
        self.engine = engine

    def open(self, method, url, query=None, timeout=None):
        found = urllib.parse.urlencode(query or {}, doseq=True)
        self.engine.requests.append("%s %s%s" % (method, url, "?" + found if found else ""))
        status, value = self.engine.answer(method, url, urllib.parse.parse_qs(found))
        if status >= 400:
            raise DockerError("%s %s: %d %s" % (method, url, status, value))
        return io.BytesIO(json.dumps(value).encode())


class Machine(Host):
    """A node's files and commands. A change on it is an effect; it can crash before any of them."""

    def __init__(self, directory: pathlib.Path, engine) -> None:
        super().__init__(str(directory))
        self.engine = engine
        self.now = time.time()
        self.flags = self.file(paths.KUBEADM_FLAGS[0])
        self.extra = self.file(paths.EXTRA_ARGS[0][0])
        self.flags.write_text(KUBEADM)
        self.extra.write_text(EXTRA)
        self.file("/etc/kubernetes/admin.conf").write_text("")
        self.journal = self.file(paths.JOURNAL)
        self.containerd_config = self.file(paths.CONTAINERD_CONFIG)
        self.containerd_config.write_text("broken")
        self.plugins = read_recorded("containerd-1.6.20/plugins-cri-on.txt")
        self.broken: set[str] = set()
        self.failing: set[str] = set()
        self.heartbeat_age = 0
        self.healthz = (200, "ok")
        self.cri_status = read_recorded("crictl-1.34.0/info-ready.json")
        #: What kubectl says where the API is away.
        self.no_api = ""
        self.kubelet = self.flags.read_text()
        self.effects: list[str] = []
        self.crash_before = 0
        #: What happens at an effect, a write or a command: (kind, text) to an exception or None.
        self.fault = lambda kind, text: None
        self.kubelet_runs = True
        #: Starts of the kubelet without etcd and the API server, neither from it nor from docker.
        self.bad_starts: list[str] = []
        self.manifests = self.file(paths.MANIFESTS)
        self.manifests.mkdir()
        for name in ("etcd", "kube-apiserver", "kube-scheduler"):
            (self.manifests / (name + ".yaml")).write_text("# " + name)
        #: Where the manifests are while a mount masks them.
        self.masked_manifests = directory / "masked-manifests"
        self.mounts = self.file("/proc/self/mountinfo")
        self.cgroups = self.file(static_pods.CGROUPS)
        self.cgroups.mkdir()
        self.seen_by_kubelet: list[list[str]] = []
        self.pods = read_recorded("kubernetes-1.23.17/pods.json")
        self.node = read_recorded("kubernetes-1.23.17/nodes.json")["items"][0]
        self.at_first = copy.deepcopy(engine.containers)

    def start_again(self, direction: str) -> None:
        """As before a first switch in that direction; the caller has put it on docker again."""
        self.engine.containers[:] = copy.deepcopy(self.at_first)
        self.journal.unlink(missing_ok=True)
        assert self.files == (KUBEADM, EXTRA)
        if direction == "docker":
            self.switch("containerd")

    def file(self, path: str) -> pathlib.Path:
        found = pathlib.Path(self.path(path))
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def files(self) -> tuple[str, str]:
        return self.flags.read_text(), self.extra.read_text()

    @property
    def state(self) -> str:
        return json.loads(self.journal.read_text())["state"]

    def effect(self, text: str) -> None:
        if self.crash_before and len(self.effects) + 1 == self.crash_before:
            raise Crash
        self.meet("effect", text)
        self.effects.append(text)

    def meet(self, kind: str, text: str) -> None:
        fault: BaseException
        for fault in filter(None, [self.fault(kind, text)]):
            raise fault

    @property
    def docker_runs(self) -> set[str]:
        return {
            entry["Labels"]["io.kubernetes.container.name"]
            for entry in self.engine.containers
            if entry["State"] == "running" and "io.kubernetes.container.name" in entry["Labels"]
        }

    def write_text(self, path: str, text: str, mode: int | None = None) -> None:
        self.effect("write " + pathlib.Path(path).name)
        self.meet("write", path)
        # In one step, as the real one does it; that it is on the disk then has its own test.
        self.file(path).write_text(text)

    def read_text(self, path: str) -> str | None:
        return CGROUP_V1 if re.fullmatch(r"/proc/\d+/cgroup", path) else super().read_text(path)

    def mount(self, words: list[str]) -> None:
        """A bind mount, as far as one can see it through the path and in the table."""
        mask = self.file(static_pods.MASK)
        if words[0] == "mount":
            self.manifests.rename(self.masked_manifests)
            mask.rename(self.manifests)
            row = "9 1 0:2 %s %s rw - tmpfs tmpfs rw\n" % (words[2], words[3])
            self.mounts.write_text(row)
        else:
            self.manifests.rename(mask)
            self.masked_manifests.rename(self.manifests)
            self.mounts.unlink()

    def run(self, words, timeout=60, check=True):
        line = " ".join(words)
        try:
            self.meet("command", line)
        except commands.NodeError:
            if check:
                raise
            return subprocess.CompletedProcess(words, 127, "", "as the test says")
        if words[0] in ("systemctl", "mount", "umount") and words[1] not in ("show", "is-active"):
            self.effect(line)
        if words[0] in ("mount", "umount"):
            self.mount(words)
        if line == "systemctl start kubelet":
            self.kubelet = self.flags.read_text()
            self.seen_by_kubelet.append(sorted(os.listdir(self.manifests)))
            self.kubelet_runs = True
            if len(os.listdir(self.manifests)) < 3 and not self.docker_runs > set(static_pods.KEPT):
                self.bad_starts.append("%s, after %s" % (line, self.effects[-4:]))
        if line == "systemctl stop kubelet":
            self.kubelet_runs = False
        failed = line in self.failing
        if self.no_api and words[0] == "kubectl" and self.flags.read_text() != KUBEADM:
            return subprocess.CompletedProcess(words, 1, "", self.no_api)
        if line == "systemctl is-active kubelet":
            failed = not self.kubelet_runs
        # The API server runs where the kubelet sees its manifest.
        if line.endswith("/readyz") and len(os.listdir(self.manifests)) < 3:
            failed = True
        done = subprocess.CompletedProcess(words, failed, self.output(line), "it says")
        if check and done.returncode:
            raise commands.NodeError(line)
        return done

    def output(self, line: str) -> str:
        if line == "kubelet --version":
            return "Kubernetes v1.23.17\n"
        if line.startswith("crictl "):
            return json.dumps(self.cri_status)
        if line == "ctr plugins list":
            return str(self.plugins)
        runtime = "containerd" if "container-runtime-endpoint" in self.kubelet else "docker"
        if "get pods" in line:
            return re.sub(r"(docker|containerd)://", runtime + "://", json.dumps(self.pods))
        if "get node " in line:
            ready = [c for c in self.node["status"]["conditions"] if c["type"] == "Ready"][0]
            heartbeat = time.gmtime(self.now - self.heartbeat_age)
            ready["lastHeartbeatTime"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", heartbeat)
            ready["status"] = "False" if runtime in self.broken else "True"
            ready["message"] = "as the test says"
            self.node["status"]["nodeInfo"]["containerRuntimeVersion"] = runtime + "://1"
            return json.dumps(self.node)
        return ""

    def http_get(self, port, url):
        assert (port, url) == (10248, "/healthz")
        return self.healthz

    def switch(self, to: str, check_mode: bool = False, crash_before: int = 0, **params):
        self.effects = []
        self.crash_before = crash_before

        module = types.SimpleNamespace(
            check_mode=check_mode,
            params=dict(
                {
                    "to": to,
                    "node_name": "node1",
                    "ready_timeout": 1,
                    "pods_timeout": 1,
                    "grace_seconds": 5,
                    "control_plane_last": False,
                    "rollback": True,
                    "kubeconfig": "/etc/kubernetes/admin.conf",
                    "cni_bin_dirs": ["/opt/cni/bin"],
                    "preflight": False,
                    "progress_file": None,
                },
                **params,
            ),
        )
        try:
            return switch_runtime.run_module(module, self, Answers(self.engine))
        except progress.Failed as exc:
            raise Failed(dict(exc.result, msg=str(exc))) from exc


@pytest.fixture
def machine(tmp_path, engine):
    return Machine(tmp_path / "root", engine)


def test_to_containerd(machine, engine):
    result = machine.switch("containerd")
    assert machine.files == (ON_CONTAINERD, EXTRA_AFTER)
    assert result["changed"] is True and result["runtime_version"] == "containerd://1"
    assert [step["name"] for step in result["steps"]] == [
        "stop kubelet",
        "stop pods",
        "start kubelet",
        "wait for Ready",
    ]
    assert result["complaints"] == []
    assert {entry["before_header"] for entry in result["diff"]} == {
        paths.KUBEADM_FLAGS[0],
        paths.EXTRA_ARGS[0][0],
    }
    assert machine.state == "done"
    assert machine.effects[0] == "write switch.json"
    assert machine.effects.index("systemctl stop kubelet") < machine.effects.index(
        "systemctl start kubelet"
    )


def test_only_what_kubernetes_owns_is_stopped(machine, engine):
    own = {c["Id"] for c in engine.containers if c["Names"] == ["/owners-own"]}
    assert len(own) == 1 and len(engine.containers) == 23
    machine.switch("containerd")
    assert set(engine.stopped) == {c["Id"] for c in engine.containers} - own
    sandboxes = {
        c["Id"]
        for c in engine.containers
        if c["Labels"].get("io.kubernetes.docker.type") == "podsandbox"
    }
    assert set(engine.stopped[-11:]) == sandboxes
    graces = {r.split("=")[1] for r in engine.requests if "/stop" in r}
    # 1 for what kubeadm set up, 5 as the longest allowed here for the others, 0 for sandboxes.
    assert graces == {"1", "5", "0"}


def test_the_kubelets_first_status_comes_early_and_the_flag_for_it_is_gone(machine):
    machine.switch("containerd")
    assert " ".join(kubelet_files.STARTUP_FLAGS) in machine.kubelet
    assert machine.files[0] == ON_CONTAINERD


def test_a_second_run_changes_nothing(machine):
    machine.switch("containerd")
    assert machine.switch("containerd") == {"changed": False}
    assert machine.effects == []


def test_check_mode_says_so_and_does_nothing(machine, engine):
    result = machine.switch("containerd", check_mode=True)
    assert result["changed"] is True
    assert ON_CONTAINERD in [entry["after"] for entry in result["diff"]]
    assert machine.effects == [] and engine.requests == []
    assert machine.files == (KUBEADM, EXTRA)
    assert not machine.journal.exists()


def test_there_and_back(machine):
    machine.switch("containerd")
    result = machine.switch("docker")
    assert result["runtime_version"] == "docker://1"
    assert machine.files == (KUBEADM, EXTRA)
    assert machine.switch("docker") == {"changed": False}


def test_the_way_back_keeps_what_the_owner_wrote_since(machine):
    machine.switch("containerd")
    machine.extra.write_text(EXTRA_AFTER.replace("10.0.0.2", "10.0.0.3"))
    machine.switch("docker")
    assert machine.files == (KUBEADM, EXTRA_AFTER.replace("10.0.0.2", "10.0.0.3"))


def test_a_node_that_was_never_on_docker_does_not_go_back(machine, engine):
    machine.flags.write_text(ON_CONTAINERD)
    with pytest.raises(commands.NodeError, match=r"cannot go back .*Nothing was changed.*--limit"):
        machine.switch("docker")
    assert machine.files[0] == ON_CONTAINERD
    assert machine.effects == [] and engine.stopped == []


def test_a_masked_docker_is_found_before_anything_stops(machine):
    machine.switch("containerd")
    output = machine.output

    def masked(line):
        return "LoadState=masked\n" if line.startswith("systemctl show docker") else output(line)

    machine.output = masked
    with pytest.raises(commands.NodeError, match=r"docker.service is masked .*Nothing was changed"):
        machine.switch("docker")
    assert machine.effects == []


def test_a_containerd_that_has_not_read_its_files_is_found_before_anything_stops(
    machine, engine, monkeypatch
):
    monkeypatch.setattr(config, "newer_files", lambda host: [paths.CONTAINERD_CONFIG])
    with pytest.raises(commands.NodeError, match=r"not read .*nothing was changed.*config.toml"):
        machine.switch("containerd")
    assert machine.effects == [] and engine.stopped == []
    monkeypatch.setattr(config, "newer_files", lambda host: [])
    machine.switch("containerd")


def test_the_flags_are_kept_before_anything_stops(machine, engine):
    """A disk that is full then is no reason for an outage, and no way back is needed."""
    flags, others = paths.KUBEADM_FLAGS[0], [path for path, _variable in paths.EXTRA_ARGS]
    machine.file(paths.STATE_DIR).mkdir(parents=True, exist_ok=True)
    machine.file(paths.ORIGINALS).write_text("in the way")
    with pytest.raises(commands.NodeError, match=r"kubeadm-flags.env: .* was not changed"):
        machine.switch("containerd")
    assert machine.effects == [] and engine.stopped == []
    machine.file(paths.ORIGINALS).unlink()
    machine.switch("containerd")
    assert machine.read_text(originals.original(flags)) == KUBEADM
    # What is not written needs no copy.
    wrote = journal.Journal(machine)
    before, after = wrote.files_before, wrote.current["files_after"]
    changed = {path for path, text in after.items() if text != before[path]}
    assert {path for path in [flags, *others] if originals.is_kept(machine, path)} == changed
    assert changed < {flags, *others}


@pytest.mark.parametrize("call", ["get node ", "get pods "])
@pytest.mark.parametrize("to", ["containerd", "docker"])
def test_an_api_that_cannot_be_asked_is_found_before_anything_stops(machine, engine, call, to):
    if to == "docker":
        machine.switch("containerd")
    stopped = list(engine.stopped)
    machine.fault = lambda kind, text: (
        commands.NodeError("Unauthorized") if kind == "command" and call in text else None
    )
    with pytest.raises(commands.NodeError, match=r"Nothing was changed.*kubeadm#1753"):
        machine.switch(to)
    assert machine.effects == [] and engine.stopped == stopped


def test_a_preflight_only_checks(machine):
    assert machine.switch("containerd", preflight=True) == {"changed": False}
    assert machine.effects == [] and machine.files == (KUBEADM, EXTRA)
    machine.plugins = read_recorded("containerd-1.6.20/plugins-cri-off.txt")
    with pytest.raises(commands.NodeError, match="nothing was changed"):
        machine.switch("containerd", preflight=True, check_mode=True)


@pytest.mark.parametrize("name", sorted(limits.LIMITS))
def test_seconds_have_bounds(machine, name):
    for value in (-1, 10**6):
        with pytest.raises(commands.NodeError, match=name + " is .*Nothing was changed"):
            machine.switch("containerd", **{name: value})
    assert machine.effects == []


def test_a_rerun_does_not_wait_for_what_was_broken_before(machine):
    (broken,) = [p for p in machine.pods["items"] if p["metadata"]["name"] == "data-0"]
    for condition in broken["status"]["conditions"]:
        condition["status"] = "False"
    with pytest.raises(Crash):
        machine.switch("containerd", crash_before=5)
    waited_for = json.loads(machine.journal.read_text())["waited_for"]
    assert len(waited_for) == len(machine.pods["items"]) - 1 and "home/data-0" not in waited_for
    assert machine.switch("containerd", pods_timeout=0)["changed"] is True


def test_flags_for_the_start_that_could_not_be_taken_out_are_no_reason_to_switch_again(machine):
    machine.switch("containerd")
    machine.flags.write_text(kubelet_files.with_startup_flags(ON_CONTAINERD))
    assert machine.switch("containerd", check_mode=True)["changed"] is True
    assert machine.effects == []
    assert machine.switch("containerd")["changed"] is True
    assert machine.effects == ["write kubeadm-flags.env"]
    assert machine.files == (ON_CONTAINERD, EXTRA_AFTER)
    assert machine.switch("containerd") == {"changed": False}
    machine.switch("docker")
    assert machine.files == (KUBEADM, EXTRA)


def test_containerd_that_is_started_again_does_not_undo_a_good_switch(machine):
    start = []

    def away(kind, text):
        if kind == "command" and text == "ctr -n k8s.io tasks list":
            start.append(machine.now)
            if machine.now - start[0] < 6:
                return commands.NodeError("connection refused")
        return None

    machine.fault = away
    assert machine.switch("containerd", control_plane_last=True)["changed"] is True
    assert len(start) > 2 and machine.state == "done"


def test_the_cgroup_goes_also_where_its_processes_went_before(machine, engine):
    (machine.cgroups / "cpuset" / static_pods.CGROUP).mkdir(parents=True)
    with pytest.raises(Crash):
        machine.switch("containerd", crash_before=4)
    for entry in engine.containers:
        if entry["Labels"].get("io.kubernetes.container.name") in static_pods.KEPT:
            entry["State"] = "exited"
    machine.switch("containerd", control_plane_last=True)
    assert not (machine.cgroups / "cpuset" / static_pods.CGROUP).exists()


def test_the_way_back_has_time_however_short_the_timeout_is(machine):
    """A control plane on a busy machine: there is nothing else to go back to."""
    machine.broken = {"containerd", "docker"}
    start = machine.now

    def late(kind, text):
        if machine.now - start > 200:
            machine.broken.discard("docker")

    machine.fault = late
    with pytest.raises(Failed) as failure:
        machine.switch("containerd", ready_timeout=1)
    assert failure.value.args[0]["rolled_back"] is True


def test_a_node_that_does_not_get_ready_goes_back_by_itself(machine):
    machine.broken = {"containerd"}
    with pytest.raises(Failed) as failure:
        machine.switch("containerd")
    result = failure.value.args[0]
    assert result["rolled_back"] is True
    assert "node1 did not get Ready on containerd and is back on docker://1" in result["msg"]
    assert "as the test says" in result["msg"]
    assert machine.files == (KUBEADM, EXTRA)
    assert machine.state == "rolled_back"
    machine.broken = set()
    assert machine.switch("containerd")["runtime_version"] == "containerd://1"


NO_API = read_recorded("kubectl-1.23.17/refused.txt")


@pytest.fixture
def worker(machine):
    for name in CONTROL_PLANE:
        (machine.manifests / name).unlink()
    return machine


def test_an_api_that_is_away_does_not_undo_a_good_switch(worker):
    worker.no_api = NO_API
    with pytest.raises(journal.SwitchFailed, match=r"is Ready, but its pods could not be seen"):
        worker.switch("containerd")
    assert worker.state == "done" and worker.files == (ON_CONTAINERD, EXTRA_AFTER)


def test_an_api_that_comes_back_shows_the_pods_of_a_node_that_was_ready_by_itself(worker):
    worker.no_api = NO_API
    http_get = worker.http_get

    def then_it_comes_back(port, url):
        worker.no_api = ""
        return http_get(port, url)

    worker.http_get = then_it_comes_back
    result = worker.switch("containerd")
    assert result["ready_seen_by"] == "node"
    assert result["runtime_version"] == "containerd://unknown"
    assert [text for text in result["complaints"] if "API did not answer for 1 s" in text]
    worker.journal.unlink()
    worker.flags.write_text(KUBEADM)
    worker.http_get = http_get
    assert worker.switch("containerd")["ready_seen_by"] == "api"


def goes_back(machine, **params):
    with pytest.raises((journal.SwitchFailed, Failed)):
        machine.switch("containerd", **params)
    assert machine.files == (KUBEADM, EXTRA)


@pytest.mark.parametrize("healthz", [(500, "[-]syncloop failed"), (None, "Connection refused")])
def test_a_kubelet_that_is_not_healthy_goes_back(worker, healthz):
    worker.no_api, worker.healthz = NO_API, healthz
    goes_back(worker)


@pytest.mark.parametrize("status", ["no-network", "none", "no crictl"])
def test_a_cri_that_is_not_ready_goes_back(worker, status):
    worker.no_api = NO_API
    if status == "no-network":
        worker.cri_status = read_recorded("crictl-1.34.0/info-no-network.json")
    elif status == "none":
        worker.cri_status = {"status": {}}
    else:
        worker.fault = lambda kind, text: (
            commands.NodeError("crictl: No such file or directory")
            if kind == "command" and text.startswith("crictl ")
            else None
        )
    goes_back(worker)


@pytest.mark.parametrize("answer", ["unauthorized", "unavailable"])
def test_an_api_that_answered_has_the_last_word(worker, answer):
    worker.no_api = read_recorded("kubectl-1.23.17/%s.txt" % answer)
    goes_back(worker)


def test_an_api_that_answered_once_has_the_last_word(worker):
    worker.broken = {"containerd"}
    output = worker.output

    def away_after_the_first(line):
        found = output(line)
        if "get node " in line and "container-runtime-endpoint" in worker.kubelet:
            worker.no_api = NO_API
        return found

    worker.output = away_after_the_first
    goes_back(worker)


@pytest.mark.parametrize("last", [True, False])
def test_a_node_with_an_api_server_of_its_own_does_not_speak_for_itself(machine, last):
    machine.no_api = NO_API
    goes_back(machine, control_plane_last=last)


def test_a_node_that_is_the_way_to_the_api_does_not_speak_for_itself(worker):
    worker.no_api = NO_API
    worker.file("/etc/kubernetes/admin.conf").write_text("  server: https://localhost:6443\n")
    goes_back(worker)


def test_without_rollback_it_is_left_for_a_person(machine):
    machine.broken = {"containerd"}
    with pytest.raises(journal.SwitchFailed, match="not Ready: as the test says"):
        machine.switch("containerd", rollback=False)
    assert machine.files == (ON_CONTAINERD, EXTRA_AFTER)
    assert machine.state == "running"


def test_the_last_word_of_the_old_kubelet_does_not_count(machine):
    machine.heartbeat_age = 60
    with pytest.raises(journal.SwitchFailed, match="not Ready"):
        machine.switch("containerd", rollback=False, ready_timeout=0)


def test_not_ready_on_either_side_tells_both(machine):
    machine.broken = {"containerd", "docker"}
    with pytest.raises(journal.SwitchFailed, match="and not on docker either"):
        machine.switch("containerd")


def test_an_unexpected_error_takes_the_node_back_too(machine, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(switch.Switch, "start_kubelet", full)
    with pytest.raises(journal.SwitchFailed, match="No space left"):
        machine.switch("containerd")
    assert machine.effects.count("systemctl stop kubelet") == 2
    assert machine.kubelet_runs


def test_a_cri_that_does_not_answer_stops_it_before_anything(machine, engine):
    machine.plugins = read_recorded("containerd-1.6.20/plugins-cri-off.txt")
    with pytest.raises(commands.NodeError, match="nothing was changed"):
        machine.switch("containerd")
    assert machine.effects == [] and engine.stopped == []
    assert machine.files == (KUBEADM, EXTRA)


@pytest.mark.parametrize("containerd", ["1.6.20", "1.7.24", "2.4.2"])
def test_the_cri_of_each_containerd_is_recognised(machine, containerd):
    machine.plugins = read_recorded("containerd-%s/plugins-cri-on.txt" % containerd)
    assert machine.switch("containerd", check_mode=False)["changed"] is True


def test_no_kubeconfig_stops_it_before_anything(machine):
    with pytest.raises(
        commands.NodeError, match=r"There is no /no/admin.conf .*Nothing was changed"
    ):
        machine.switch("containerd", kubeconfig="/no/admin.conf")
    assert machine.effects == []


def test_broken_quotes_stop_it_before_anything(machine):
    machine.extra.write_text('KUBELET_EXTRA_ARGS="--a')
    with pytest.raises(commands.NodeError, match=r"/etc/default/kubelet: .*Repair the quoting"):
        machine.switch("containerd")
    assert machine.effects == []


@pytest.mark.parametrize("text", ["{", "null", "[]", '"x"'])
def test_a_damaged_journal_is_not_guessed_at(machine, text):
    machine.journal.write_text(text)
    with pytest.raises(commands.NodeError, match="cannot be read"):
        machine.switch("containerd")
    assert machine.effects == []


def test_pods_that_do_not_come_back_are_named(machine):
    late = read_recorded("kubernetes-1.23.17/pods-after-a-reboot.json")
    output = machine.output

    def changed(line):
        if "get pods" in line and machine.journal.exists():
            return json.dumps(late)
        return output(line)

    machine.output = changed
    with pytest.raises(journal.SwitchFailed, match=r"The node is Ready, .*home/data-0"):
        machine.switch("containerd", pods_timeout=0)
    assert machine.state == "done"


def test_what_the_api_says_of_the_old_containers_does_not_count(machine):
    """For a moment it shows the pods as ready that were stopped."""
    output = machine.output
    asked = []

    def changed(line):
        if "get pods" in line:
            asked.append(line)
            return json.dumps(machine.pods) if len(asked) < 4 else output(line)
        return output(line)

    machine.output = changed
    machine.switch("containerd")
    assert len(asked) == 4


def test_pods_that_were_not_ready_before_are_not_waited_for(machine):
    machine.pods = read_recorded("kubernetes-1.23.17/pods-after-a-reboot.json")
    assert machine.switch("containerd", pods_timeout=0)["changed"] is True


def test_containerd_that_does_not_start_gets_its_old_configuration(machine):
    machine.switch("containerd")
    broken = machine.containerd_config.read_text()
    machine.containerd_config.write_bytes(b"as before \xff")
    machine.containerd_config.chmod(0o600)
    originals.keep(machine, paths.CONTAINERD_CONFIG)
    machine.containerd_config.write_text(broken)
    machine.containerd_config.chmod(0o644)
    machine.failing = {"systemctl restart containerd"}
    machine.switch("docker")
    assert machine.containerd_config.read_bytes() == b"as before \xff"
    assert machine.containerd_config.stat().st_mode & 0o777 == 0o600
    assert machine.effects.count("systemctl restart containerd") == 2


def test_a_configuration_that_was_not_there_before_is_moved_away(machine):
    machine.switch("containerd")
    machine.failing = {"systemctl restart containerd"}
    machine.switch("docker")
    assert not machine.containerd_config.exists()
    assert machine.file(paths.CONTAINERD_CONFIG + ".homelab-broken").read_text() == "broken"


def test_the_control_plane_comes_last(machine, engine):
    for hierarchy in ("cpuset", "cpu,cpuacct", "systemd"):
        (machine.cgroups / hierarchy).mkdir()
    (machine.cgroups / "cpuset/cpuset.cpus").write_text("0-1")
    (machine.cgroups / "cpuset/cpuset.mems").write_text("0")
    kept = {
        entry["Id"]
        for entry in engine.containers
        if entry["Labels"].get("io.kubernetes.container.name") in ("etcd", "kube-apiserver")
    }
    pids = {1000 + index for index, e in enumerate(engine.containers) if e["Id"] in kept}
    stops_at_start = []
    run = machine.run

    def watched(words, timeout=60, check=True):
        if list(words) == ["systemctl", "start", "kubelet"]:
            stops_at_start.append(set(engine.stopped))
        return run(words, timeout, check)

    machine.run = watched
    result = machine.switch("containerd", control_plane_last=True)
    assert [step["name"] for step in result["steps"]][-2:] == [
        "wait for pods",
        "switch control plane",
    ]
    assert result["api_away_seconds"] is not None
    # The kubelet starts on the other pods alone, and again, on all of them, once these two moved.
    assert machine.seen_by_kubelet == [
        ["kube-scheduler.yaml"],
        [*CONTROL_PLANE, "kube-scheduler.yaml"],
    ]
    sandboxes = {
        c["Labels"]["io.kubernetes.sandbox.id"] for c in engine.containers if c["Id"] in kept
    }
    assert not stops_at_start[0] & (kept | sandboxes)
    assert len(stops_at_start[0]) == 18
    assert kept | sandboxes <= stops_at_start[1]
    assert len(stops_at_start[1]) == 22
    for hierarchy in ("cpuset", "cpu,cpuacct", "systemd"):
        group = machine.cgroups / hierarchy / static_pods.CGROUP
        assert int((group / "cgroup.procs").read_text()) in pids
    assert (machine.cgroups / "cpuset" / static_pods.CGROUP / "cpuset.cpus").read_text() == "0-1"
    assert not (machine.cgroups / static_pods.CGROUP).exists()
    assert sorted(os.listdir(machine.manifests)) == [*CONTROL_PLANE, "kube-scheduler.yaml"]
    assert not machine.masked_manifests.exists()
    assert machine.files == (ON_CONTAINERD, EXTRA_AFTER)


def test_a_worker_has_no_control_plane_to_keep(machine):
    (machine.manifests / "etcd.yaml").unlink()
    result = machine.switch("containerd", control_plane_last=True)
    assert result["api_away_seconds"] is None
    assert len(machine.seen_by_kubelet) == 1


def test_a_cgroup_that_does_not_let_go_makes_an_ordinary_switch(machine):
    machine.cgroups.rmdir()
    machine.cgroups.write_text("no directory")
    result = machine.switch("containerd", control_plane_last=True)
    assert result["api_away_seconds"] is None
    assert machine.seen_by_kubelet == [[*CONTROL_PLANE, "kube-scheduler.yaml"]]


def test_a_control_plane_that_does_not_come_back_goes_back_to_docker(machine):
    machine.failing = {
        "kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout=2s get --raw /readyz"
    }
    with pytest.raises(Failed) as failure:
        machine.switch("containerd", control_plane_last=True)
    assert "the API server did not start on containerd" in failure.value.args[0]["msg"]
    assert machine.files == (KUBEADM, EXTRA)
    assert sorted(os.listdir(machine.manifests)) == [*CONTROL_PLANE, "kube-scheduler.yaml"]
    assert not machine.masked_manifests.exists()


def crash_points(machine, direction, last):
    """Runs the switch again and again, and breaks it off before its first effect, its second, …

    Yields after each crash, with the node as it was left; the caller has to put it on docker again.
    """
    point = 0
    while True:
        point += 1
        machine.start_again(direction)
        try:
            machine.switch(direction, crash_before=point, control_plane_last=last)
        except Crash:
            yield "before effect %d, after %s" % (point, machine.effects[-2:])
            continue
        assert point > 8
        if direction == "containerd":
            machine.switch("docker")
        return


@pytest.mark.parametrize(
    ("direction", "last"), [("containerd", False), ("containerd", True), ("docker", False)]
)
@pytest.mark.parametrize(
    "then", [["containerd"], ["docker"], ["containerd", "docker", "containerd"]]
)
def test_wherever_it_breaks_off_the_next_run_goes_on(machine, direction, last, then):
    for where in crash_points(machine, direction, last):
        for to in then:
            machine.switch(to, control_plane_last=last)
            assert not machine.masked_manifests.exists(), where
            assert len(os.listdir(machine.manifests)) == 3, where
            assert machine.kubelet.count("--network-plugin=cni") == (to == "docker"), where
            assert not machine.journal.exists() or machine.state == "done", where
            expected = (KUBEADM, EXTRA) if to == "docker" else (ON_CONTAINERD, EXTRA_AFTER)
            assert machine.files == expected, "%s, then to %s" % (where, to)
        machine.switch("docker")
        assert machine.files == (KUBEADM, EXTRA), where


def full_disk(path):
    return OSError(28, "No space left on device", path)


#: Each makes of the nth write, command or effect what goes wrong there, once or from there on.
FAULTS = {
    "a write finds the disk full": ("write", full_disk, False),
    "the disk stays full": ("write", full_disk, True),
    "a command fails": ("command", lambda text: commands.NodeError("%s: it says" % text), False),
    "somebody interrupts it": ("effect", lambda text: KeyboardInterrupt(), False),
}


def breaks_at(place, seen, fault):
    kind, make, stays = FAULTS[fault]

    def breaks(found, text):
        if found != kind:
            return None
        seen.append(text)
        here = len(seen) >= place if stays else len(seen) == place
        return make(text) if here else None

    return breaks


def broken_runs(machine, direction, last, fault):
    """Runs the switch with the fault at its first place, its second, …; the caller mends it."""
    place = 0
    while True:
        place += 1
        machine.start_again(direction)
        seen: list[str] = []

        machine.fault = breaks_at(place, seen, fault)
        before = (machine.files, machine.journal.exists() and machine.journal.read_text())
        said = ""
        try:
            machine.switch(direction, control_plane_last=last)
        except (Failed, commands.NodeError, DockerError, journal.SwitchFailed) as exc:
            said = str(exc)
        except KeyboardInterrupt:
            said = "Nothing was changed"  # before the first word of the journal
            assert "systemctl stop kubelet" not in machine.effects
        machine.fault = lambda kind, text: None
        if len(seen) < place:
            assert place > 3
            machine.switch("docker")
            return
        yield "%s, %d: %s; %s" % (fault, place, seen[place - 1], said), said, before


def reserves(machine):
    return sorted(pathlib.Path(machine.root).rglob(reserve.NAME))


def test_there_is_room_for_the_way_back(machine):
    """The disk fills while the kubelet starts on a containerd that does not work."""
    machine.broken = {"containerd"}
    refused = []

    def full_but_for_the_reserve(kind, text):
        if kind == "write" and reserves(machine) and "containerd" in machine.kubelet:
            refused.append(text)
            return full_disk(text)
        return None

    machine.fault = full_but_for_the_reserve
    with pytest.raises(Failed) as failure:
        machine.switch("containerd")
    result = failure.value.args[0]
    assert refused and result["rolled_back"] is True
    assert machine.files == (KUBEADM, EXTRA) and machine.state == "rolled_back"
    assert reserves(machine) == []


def test_the_room_is_kept_as_long_as_the_node_may_go_back(machine):
    for _twice in range(2):
        machine.switch("containerd")
        (kept,) = reserves(machine)
        assert kept.parent == machine.journal.parent
        assert kept.stat().st_blocks * 512 >= reserve.BYTES
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        machine.switch("docker")
        assert reserves(machine) == []


def test_each_file_system_that_is_written_to_has_room(machine):
    other = pathlib.Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == machine.flags.stat().st_dev:
        pytest.skip("there is no other file system here")
    with tempfile.TemporaryDirectory(dir=other) as directory:
        shutil.copytree(machine.flags.parent, directory, dirs_exist_ok=True)
        shutil.rmtree(machine.flags.parent)
        machine.flags.parent.symlink_to(directory)
        machine.switch("containerd")
        assert [path.stat().st_size for path in pathlib.Path(directory).glob(reserve.NAME)] == [
            reserve.BYTES
        ]
        assert len(reserves(machine)) == 1
        machine.switch("docker")
        assert list(pathlib.Path(directory).glob(reserve.NAME)) == reserves(machine) == []


def test_no_room_for_the_way_back_stops_it_before_anything(machine, engine, monkeypatch):
    def full(descriptor, offset, size):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(commands.NodeError, match=r"Nothing was changed.*reserve.*Make room"):
            machine.switch("containerd")
        assert machine.effects == [] and engine.stopped == [] and reserves(machine) == []
    # A way back that was interrupted is finished in any case.
    machine.switch("containerd")
    with pytest.raises(Crash):
        machine.switch("docker", crash_before=4)
    monkeypatch.setattr(os, "posix_fallocate", full)
    machine.switch("containerd")
    assert machine.state == "done" and machine.files == (ON_CONTAINERD, EXTRA_AFTER)


@pytest.mark.parametrize(
    ("direction", "last"), [("containerd", False), ("containerd", True), ("docker", False)]
)
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_whatever_fails_the_kubelet_runs_and_the_same_command_again_finishes(
    machine, direction, last, fault
):
    for where, said, before in broken_runs(machine, direction, last, fault):
        assert machine.kubelet_runs, where
        assert machine.bad_starts == [], where
        assert not machine.masked_manifests.exists() or machine.docker_runs, where
        if "othing was changed" in said or "write switch.json" not in machine.effects:
            text = machine.journal.exists() and machine.journal.read_text()
            assert (machine.files, text) == before, where
        elif machine.state in ("done", "rolled_back"):
            on_docker = "container-runtime-endpoint" not in machine.kubelet
            to = json.loads(machine.journal.read_text())["direction"]
            assert on_docker == (to == "docker"), where
        if "write" in FAULTS[fault] and said:
            assert "Make room" in said and "run this again" in said, where
        machine.switch(direction, control_plane_last=last)
        assert machine.state == "done" or "othing was changed" in said, where
        expected = (KUBEADM, EXTRA) if direction == "docker" else (ON_CONTAINERD, EXTRA_AFTER)
        assert machine.files == expected, where
        assert not machine.masked_manifests.exists(), where
        assert machine.switch(direction) == {"changed": False}, where
        assert machine.effects == [], where
        machine.switch("docker")

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tasks of the role switch_runtime in real runs on this machine, with a kubectl that answers.

The switch itself fails here before anything, because this machine has no kubelet.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import yaml
from support import ROOT, read_recorded

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or bool(shutil.which("kubelet")),
    reason="the tasks write files as root, and a node is not for tests",
)
TASKS = ROOT / "roles/switch_runtime/tasks"
#: Answers from files beside it, and notes what it was asked.
KUBECTL = """\
#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >> asked
case "$*" in
  "get nodes,"*) cat cluster.json ;;
  "get node "*) cat node.json ;;
  "get pods"*) cat pods.json ;;
  exec*) echo token ;;
esac
"""


class Play:
    """Runs task files of the role with the variables that the role would have."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.cluster = read_recorded("kubernetes-1.23.17/nodes.json")
        self.node = self.cluster["items"][0]
        self.pods = read_recorded("kubernetes-1.23.17/pods.json")
        self.before = directory / "state/before.json"

    def __call__(self, *files: str, status: int = 0, **more: object) -> str:
        written = {
            "cluster.json": json.dumps(self.cluster),
            "node.json": json.dumps(self.node),
            "pods.json": json.dumps(self.pods),
            "kubectl": KUBECTL,
            "asked": "",
        }
        for name, text in written.items():
            (self.directory / name).write_text(text)
        (self.directory / "kubectl").chmod(0o755)
        defaults = yaml.safe_load((ROOT / "roles/switch_runtime/defaults/main.yml").read_text())
        own = yaml.safe_load((ROOT / "roles/switch_runtime/vars/main.yml").read_text())
        variables = {
            **defaults,
            **own,
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "switch_runtime_kubectl_host": "node1",
            "__switch_runtime_kubectl": [str(self.directory / "kubectl")],
            "__switch_runtime_node": self.node,
            "__common_state_dir": str(self.before.parent),
            "__common_before": str(self.before),
            **more,
        }
        # Facts of the play take precedence over the role's variables as they do there.
        variables.pop("__switch_runtime_own_name", None)
        play = {
            "hosts": "node1",
            "gather_facts": False,
            "tasks": [{"ansible.builtin.include_tasks": str(TASKS / name)} for name in files],
            "module_defaults": {
                "homelab.containerd.node_runtime_info": {"docker_socket": "/no.sock"}
            },
        }
        (self.directory / "play.yml").write_text(json.dumps([play]))
        (self.directory / "variables.json").write_text(json.dumps(variables))
        done = subprocess.run(
            [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "play.yml"]
            + ["-i", "node1,", "-e", "@variables.json"],
            cwd=self.directory,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.directory),
                "LANG": "C.UTF-8",
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    @property
    def asked(self) -> str:
        return (self.directory / "asked").read_text()


@pytest.fixture
def play(tmp_path):
    return Play(tmp_path)


def test_a_second_try_keeps_the_record_of_the_first(play):
    probe = {"namespace": "home", "pod": "data-0", "command": ["cat", "/data/marker"]}
    play("snapshot.yml", switch_runtime_probes=[probe])
    first = json.loads(play.before.read_text())
    assert len(first["pods"]) == 11 and "token" not in play.before.read_text()
    # A drain that failed in the middle has evicted pods.
    play.pods["items"] = play.pods["items"][:4]
    assert "changed=0" in play("snapshot.yml")
    assert json.loads(play.before.read_text()) == first
    # After a switch that has ended, the time before is another one.
    play.before.write_text(json.dumps(dict(first, after_switch=1.0)))
    play("snapshot.yml")
    assert len(json.loads(play.before.read_text())["pods"]) == 4


SOCKET = "kubeadm.alpha.kubernetes.io/cri-socket"
DOCKERSHIM = "/var/run/dockershim.sock"
RUNNING = {"state": "running"}
FACTS = {
    "kubernetes": {"node_name": "node1"},
    "kubelet": {"config_text": None, "config_path": "/no", "flags": {}},
    "journal": None,
}


@pytest.mark.parametrize(
    ("journal", "runtime", "annotated", "corrected"),
    [
        # It went back to docker after a rollback that had been interrupted.
        (None, "docker://20.10.24", "unix:///run/containerd/containerd.sock", DOCKERSHIM),
        # Its pods were late after the switch, which an earlier run had begun.
        (RUNNING, "containerd://1.6", DOCKERSHIM, "unix:///run/containerd/containerd.sock"),
        (RUNNING, "docker://20.10.24", DOCKERSHIM, None),
        (None, "docker://20.10.24", "unix:///var/run/cri-dockerd.sock", None),
    ],
)
def test_a_failure_leaves_the_annotation_of_the_runtime_that_serves(
    play, journal, runtime, annotated, corrected
):
    play.node["metadata"]["annotations"][SOCKET] = annotated
    play.node["status"]["nodeInfo"]["containerRuntimeVersion"] = runtime
    other = "docker" if runtime.startswith("containerd") else "containerd"
    facts = dict(FACTS, journal=journal)
    said = play("run.yml", status=2, switch_runtime_to=other, switch_runtime_facts=facts)
    assert "node1: kubelet --version" in " ".join(said.split()), said
    changes = [line for line in play.asked.splitlines() if "annotate" in line]
    assert changes == (
        [f"annotate --overwrite node node1 {SOCKET}={corrected}"] if corrected else []
    )

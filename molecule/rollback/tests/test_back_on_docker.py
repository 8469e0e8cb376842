# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node is on docker again, as if nothing had been tried."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from testinfra.host import Host

KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"


def _json(host: Host, command: str) -> Any:
    return json.loads(host.check_output(command))


@pytest.fixture
def before(host: Host) -> Any:
    return _json(host, "cat /var/lib/homelab-containerd/before.json")


def test_api_reports_docker_and_ready(host: Host) -> None:
    (node,) = _json(host, f"{KUBECTL} get nodes -o json")["items"]
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("docker://")
    ready = [c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready"]
    assert ready == ["True"]
    assert not node["spec"].get("unschedulable")
    annotation = node["metadata"]["annotations"]["kubeadm.alpha.kubernetes.io/cri-socket"]
    assert annotation == "/var/run/dockershim.sock"


def test_every_pod_runs_on_docker(host: Host, before: Any) -> None:
    pods = _json(host, f"{KUBECTL} get pods -A -o json")["items"]
    # A static pod's mirror in the API (its owner is the node) is made anew; the rest is the same.
    assert {p["metadata"]["uid"] for p in pods} >= {
        p["uid"] for p in before["pods"] if p["owner"] and p["owner"]["kind"] != "Node"
    }
    assert {p["metadata"]["name"] for p in pods} >= {p["name"] for p in before["pods"]}
    for pod in pods:
        for status in pod["status"]["containerStatuses"]:
            assert status["ready"], (pod["metadata"]["name"], status)
            assert status["containerID"].startswith("docker://"), status


def test_flags_are_as_they_were(host: Host) -> None:
    pid = host.check_output("pgrep -xo kubelet")
    words = host.check_output(f"tr '\\0' ' ' < /proc/{pid}/cmdline")
    assert "--network-plugin=cni" in words
    assert "--container-runtime" not in words
    text = host.file("/var/lib/kubelet/kubeadm-flags.env").content_string
    assert "container-runtime" not in text
    assert "node-status-update-frequency" not in text


def test_owners_container_was_never_restarted(host: Host, before: Any) -> None:
    assert before["owner_containers"]
    for container in before["owner_containers"]:
        (now,) = _json(host, f"docker inspect {container['id']}")
        assert now["State"]["StartedAt"] == container["started_at"]
        assert now["State"]["Pid"] == container["pid"]


def test_containerd_runs_no_pod(host: Host) -> None:
    assert host.service("containerd").is_running
    assert host.check_output("ctr -n k8s.io tasks list -q") == ""


def test_no_address_is_held_by_a_stopped_sandbox(host: Host) -> None:
    held = host.check_output(
        "cd /var/lib/cni/networks && for f in */[0-9]*; do head -n1 $f | tr -d '\\r'; echo; done"
    )
    running = host.check_output("docker ps -q --no-trunc")
    for identity in held.split():
        assert identity in running


def test_data_is_what_it_was(host: Host, before: Any) -> None:
    assert before["probes"]
    for probe in before["probes"]:
        command = " ".join(probe["command"])
        told = host.check_output(
            f"{KUBECTL} exec -n {probe['namespace']} {probe['pod']} -- {command}"
        )
        assert hashlib.sha256(told.strip().encode()).hexdigest() == probe["sha256"]

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
import re

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes.pod_status import (
    container_ids,
    pods_not_ready,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.before_snapshot import (
    before_snapshot,
)


def test_a_healthy_node_has_nothing_to_wait_for(recorded):
    pods = recorded("kubernetes-1.23.17/pods.json")
    assert len(pods["items"]) == 11
    assert pods_not_ready(pods) == []


def test_containers_of_the_old_runtime_are_not_ready(recorded):
    pods = recorded("kubernetes-1.23.17/pods.json")
    assert pods_not_ready(pods, "docker://") == []
    late = pods_not_ready(pods, "containerd://")
    assert len(late) == 11
    assert {pod["phase"] for pod in late} == {"Pending"}


def test_after_a_reboot_the_phase_is_not_believed(recorded):
    """All phases are still Running, and seven pods' containers are terminated."""
    pods = recorded("kubernetes-1.23.17/pods-after-a-reboot.json")
    assert {pod["status"]["phase"] for pod in pods["items"]} == {"Running"}
    late = {pod["name"]: pod for pod in pods_not_ready(pods)}
    assert len(late) == 11
    assert late["home/data-0"] == {
        "name": "home/data-0",
        "phase": "Running",
        "reason": "not ready yet",
    }
    coredns = late["kube-system/coredns-bd6b6df9f-k8xrd"]
    assert coredns["phase"] == "Pending"
    assert re.fullmatch(r"Completed|Error|Unknown", coredns["reason"])


def test_a_crash_loop_is_named(recorded):
    pod = recorded("kubernetes-1.23.17/pods-after-a-reboot.json")["items"][0]
    pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert pods_not_ready({"items": [pod]})[0]["reason"] == "CrashLoopBackOff"


def test_ended_and_deleted_pods_do_not_count(recorded):
    pods = recorded("kubernetes-1.23.17/pods-after-a-reboot.json")
    pods["items"][0]["status"]["phase"] = "Succeeded"
    pods["items"][1]["status"]["phase"] = "Failed"
    pods["items"][2]["metadata"]["deletionTimestamp"] = "2026-11-24T02:30:00Z"
    assert len(pods_not_ready(pods)) == 8


def test_a_pod_without_any_status_is_waited_for():
    pod = {"metadata": {"namespace": "home", "name": "new"}, "status": {"phase": "Pending"}}
    assert pods_not_ready({"items": [pod]}) == [
        {"name": "home/new", "phase": "Pending", "reason": "not ready yet"}
    ]


def test_before_snapshot(recorded, facts):
    node = recorded("kubernetes-1.23.17/nodes.json")["items"][0]
    probe = {"namespace": "home", "pod": "data-0", "command": ["cat", "/data/marker"]}
    found = before_snapshot(
        recorded("kubernetes-1.23.17/pods.json"),
        facts,
        node,
        [{"item": probe, "stdout": "token\n"}],
    )
    assert found["node"] == "node1" and found["unschedulable"] is False
    assert found["runtime"] == "docker://20.10.24+dfsg1"
    assert [entry["name"] for entry in found["owner_containers"]] == ["owners-own"]
    assert "home/local-only:1" in [image["tags"][0] for image in found["local_only_images"]]
    assert "registry.lab:5000/web:1" not in str(found["local_only_images"])
    assert found["probes"] == [dict(probe, sha256=hashlib.sha256(b"token").hexdigest())]
    assert "token" not in str(found)
    pods = {pod["name"]: pod for pod in found["pods"]}
    assert len(pods) == 11
    assert all(pod["ready"] and pod["uid"] for pod in pods.values())
    assert pods["data-0"]["owner"] == {"kind": "StatefulSet", "name": "data"}
    assert pods["etcd-node1"]["owner"] == {"kind": "Node", "name": "node1"}
    local = next(pod for name, pod in pods.items() if name.startswith("local-only"))
    assert local["containers"][0]["image"] == "home/local-only:1"
    assert local["containers"][0]["imagePullPolicy"] == "Never"
    assert (local["containers"][0]["imageID"] or "").startswith("docker")


@pytest.fixture
def earlier(recorded, facts):
    """A record, and what a later try has to make one of: the node, and the node's pods by then."""
    node = recorded("kubernetes-1.23.17/nodes.json")["items"][0]
    record = before_snapshot(recorded("kubernetes-1.23.17/pods.json"), facts, node, [])
    return json.dumps(record), node


def test_a_record_is_kept_until_a_switch_has_ended(facts, earlier):
    text, node = earlier
    assert before_snapshot({"items": []}, facts, node, [], text) == json.loads(text)
    # Begun and not ended is another matter: there the role makes no record at all.
    facts["journal"] = {
        "direction": "docker",
        "state": "rolled_back",
        "start": 2.0,
        "flags_before": {},
    }
    again = before_snapshot({"items": []}, facts, node, [], text)
    assert again["pods"] == [] and again["after_switch"] == 2.0
    assert before_snapshot({"items": [{}]}, facts, node, [], json.dumps(again)) == again


@pytest.mark.parametrize(
    "change", [{"node": "node2"}, {"runtime": "containerd://1.6.20"}, {"after_switch": 1.0}]
)
def test_a_record_of_another_time_is_not_kept(facts, earlier, change):
    text, node = earlier
    other = json.dumps(dict(json.loads(text), **change))
    assert before_snapshot({"items": []}, facts, node, [], other)["pods"] == []


def test_a_record_stays_over_an_update_of_docker(facts, earlier):
    text, node = earlier
    other = dict(json.loads(text), runtime="docker://19.3")
    assert before_snapshot({"items": []}, facts, node, [], json.dumps(other)) == other


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pods": []}'])
def test_what_is_no_record_is_not_kept(facts, earlier, text):
    assert before_snapshot({"items": []}, facts, earlier[1], [], text)["pods"] == []


def test_a_stopped_container_of_the_owners_is_not_expected_to_run(recorded, facts):
    node = recorded("kubernetes-1.23.17/nodes.json")["items"][0]
    for entry in facts["docker"]["containers"]:
        entry["state"] = "exited"
    assert before_snapshot({"items": []}, facts, node, [])["owner_containers"] == []


def test_a_pod_of_stopped_containers_is_not_ready_though_the_api_still_says_so(recorded):
    pods = recorded("kubernetes-1.23.17/pods.json")
    assert pods_not_ready(pods, "docker://") == []
    stopped = container_ids(pods)
    assert len(pods_not_ready(pods, "docker://", stopped)) == len(pods["items"])

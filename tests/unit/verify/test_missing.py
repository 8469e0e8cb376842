# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which pods verify misses, against the recorded objects of a real cluster."""

from __future__ import annotations

import copy
import importlib.util

import pytest
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.before_snapshot import (
    before_snapshot,
)
from support import ROOT, read_recorded

spec = importlib.util.spec_from_file_location("verify_workloads", ROOT / "verify/test_workloads.py")
assert spec and spec.loader
workloads = importlib.util.module_from_spec(spec)
spec.loader.exec_module(workloads)


@pytest.fixture
def world():
    """The API's answers, and what the one node had before."""
    pods = copy.deepcopy(read_recorded("kubernetes-1.23.17/pods.json"))["items"]
    objects = copy.deepcopy(read_recorded("kubernetes-1.23.17/cluster.json"))["items"]
    before = {
        "pods": [
            {
                "namespace": pod["metadata"]["namespace"],
                "name": pod["metadata"]["name"],
                "ready": workloads.is_ready(pod),
                "owner": dict(zip(("kind", "name"), workloads.owner_of(pod), strict=True)),
                "containers": pod["spec"]["containers"],
            }
            for pod in pods
        ]
    }
    return World(pods, objects, before)


class World:
    def __init__(self, pods, objects, before):
        self.pods, self.objects, self.before = pods, objects, before

    def get(self, arguments):
        """What kubectl lists for "get pods" or "get deployments.apps,…"."""
        if arguments.startswith("pods"):
            return {"items": self.pods}
        kinds = [word.partition(".")[0] for word in arguments.split()[0].split(",")]
        return {"items": [o for o in self.objects if o["kind"].lower() + "s" in kinds]}

    def missing(self, before=None):
        return workloads.missing(before or self.before, self, "node1")

    def scale(self, name, replicas):
        for item in self.objects:
            if item["metadata"]["name"].startswith(name) and "replicas" in item.get("spec", {}):
                item["spec"]["replicas"] = replicas

    def lose(self, name):
        self.pods = [pod for pod in self.pods if not pod["metadata"]["name"].startswith(name)]


def test_nothing_is_missing(world):
    ready = [pod for pod in world.pods if workloads.is_ready(pod)]
    assert len(ready) == len(world.pods)
    assert world.missing() == []


def test_a_replica_that_no_node_had_alone(world):
    """Two nodes had one pod each; one is left, which is as many as each of them had."""
    left, lost = (p for p in world.pods if p["metadata"]["name"].startswith("from-registry"))
    world.pods.remove(lost)
    for mine in (left, lost):
        names = {pod["metadata"]["name"] for pod in (left, lost)} - {mine["metadata"]["name"]}
        half = {"pods": [pod for pod in world.before["pods"] if pod["name"] not in names]}
        assert world.missing(half) == ["Deployment home/from-registry: 1 of 2 pods are Ready"]


def test_a_replica_that_came_later_and_is_broken(world):
    world.scale("local-only", 2)
    assert world.missing() == ["Deployment home/local-only: 1 of 2 pods are Ready"]


def test_nobody_misses_what_is_not_wanted(world):
    world.lose("from-registry")
    world.scale("from-registry", 0)
    assert world.missing() == []
    world.objects = [
        item for item in world.objects if not item["metadata"]["name"].startswith("local-only")
    ]
    world.lose("local-only")
    assert world.missing() == []


def test_no_runtime_is_missed_for_a_pod_without_a_node(world):
    pending = copy.deepcopy(
        next(p for p in world.pods if p["metadata"]["name"].startswith("local-only"))
    )
    pending["metadata"]["name"] += "2"
    pending["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
    }
    world.scale("local-only", 2)
    world.pods.append(pending)
    assert world.missing() == []


def test_each_pod_alone(world):
    every = list(world.pods)
    for pod in every:
        world.pods = [other for other in every if other is not pod]
        assert len(world.missing()) == 1, pod["metadata"]["name"]


def test_probes_are_compared_by_what_the_migration_records(facts):
    item = {"namespace": "home", "pod": "data-0", "command": ["cat", "/data/marker"]}
    node = read_recorded("kubernetes-1.23.17/nodes.json")["items"][0]
    record = before_snapshot({"items": []}, facts, node, [{"item": item, "stdout": "token\n"}])
    (probe,) = record["probes"]
    assert workloads.printed_before(probe) == workloads.sha256("token")
    assert workloads.printed_before(probe) != workloads.sha256("other")
    # As the first release wrote it.
    assert workloads.printed_before({"stdout": "token\n"}) == workloads.sha256("token")

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What blocks the migration of all nodes together."""

from __future__ import annotations

import copy
import types
import typing as t

import pytest
from ansible.executor.playbook_executor import PlaybookExecutor
from ansible_collections.homelab.containerd.plugins.filter.plan import cluster_plan, plan
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import workloads
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.findings import describe
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.plan import batches


@pytest.fixture
def cluster(recorded):
    """The lab's cluster, with a second node beside the control plane."""
    found = workloads.look(recorded("kubernetes-1.23.17/cluster.json"))
    found["nodes"].append({**found["nodes"][0], "name": "node2", "roles": []})
    return found


@pytest.fixture
def plans(facts):
    second = copy.deepcopy(facts)
    second["kubernetes"].update(node_name="node2", control_plane=False)
    return [plan(second, {"node": "machine2"}), plan(facts, {"node": "machine1"})]


def decide(cluster, plans, **options):
    chosen: t.Any = {"drain": True} | options
    return cluster_plan(cluster, plans, chosen)


def codes(found, kind="blockers"):
    return [finding["code"] for finding in found[kind]]


def budget(**more):
    value = {"namespace": "home", "name": "b", "allowed": 0, "healthy": 1, "desired": 1}
    return dict(value, expected=1, nodes=["node2"], **more)


def test_the_control_plane_goes_first(cluster, plans):
    found = decide(cluster, plans)
    assert found["order"] == ["machine1", "machine2"]
    assert found["drained"] == ["node1", "node2"]
    assert found["blockers"] == [] and codes(found, "warnings") == ["HC215"]
    assert {entry["name"]: entry["host"] for entry in found["nodes"]} == {
        "node1": "machine1",
        "node2": "machine2",
    }


def test_an_api_that_does_not_answer(cluster, plans):
    nothing = dict(workloads.look({}), error="kubectl: exit status 1: refused")
    found = decide(nothing, plans)
    assert codes(found) == ["HC120"] and "refused" in describe(found["blockers"][0])
    # That is expected in the middle of an interrupted switch.
    plans[1]["unfinished"] = True
    assert decide(nothing, plans)["blockers"] == []


def test_a_node_that_is_not_ready(cluster, plans):
    cluster["nodes"][1]["ready"] = False
    found = decide(cluster, plans)
    assert codes(found) == ["HC121"] and found["blockers"][0]["evidence"]["node"] == "node2"
    plans[0]["unfinished"] = True
    assert decide(cluster, plans)["blockers"] == []


def test_a_node_that_nobody_named(cluster, plans):
    cluster["nodes"].append(dict(cluster["nodes"][1], name="forgotten"))
    assert "HC224" in codes(decide(cluster, plans), "warnings")
    cluster["nodes"][2]["runtime"] = "containerd://1.6.20"
    assert "HC224" not in codes(decide(cluster, plans), "warnings")


def test_budgets(cluster, plans):
    cluster["budgets"] = [budget()]
    found = decide(cluster, plans)
    assert codes(found) == ["HC122"] and "never allows" in found["blockers"][0]["text"]
    cluster["budgets"] = [dict(budget(), healthy=0)]
    assert "no eviction now" in decide(cluster, plans)["blockers"][0]["text"]
    for fine in (dict(budget(), allowed=1), dict(budget(), nodes=[])):
        cluster["budgets"] = [fine]
        assert decide(cluster, plans)["blockers"] == []


def test_where_nothing_is_drained_budgets_do_not_matter(cluster, plans):
    cluster["budgets"] = [budget()]
    cluster["bare_pods"] = [{"namespace": "a", "name": "b", "node": "node2"}]
    assert decide(cluster, plans, drain=False)["blockers"] == []
    cluster["nodes"][0]["tainted"] = True  # so node2's pods have nowhere to go
    assert decide(cluster, plans)["drained"] == ["node1"]
    assert decide(cluster, plans)["blockers"] == []


@pytest.mark.parametrize(
    ("serial", "drained"),
    [
        # node1 is the control plane and takes no pods; node4 is done and takes them.
        (1, ["node1", "node2", "node3", "node5"]),
        (2, ["node1", "node2", "node3", "node5"]),
        (4, ["node1"]),
        ("100%", ["node1"]),
        ("25%", ["node1", "node2", "node3", "node5"]),
        ([1, "75%"], ["node1", "node2", "node3", "node5"]),
    ],
)
def test_nodes_that_switch_at_once_take_no_pods_of_one_another(cluster, plans, serial, drained):
    cluster["nodes"][0]["tainted"] = True
    worker = plans[0]
    for number in (3, 4, 5):
        name = "node%d" % number
        cluster["nodes"].append({**cluster["nodes"][1], "name": name})
        plans.append(dict(copy.deepcopy(worker), node_name=name, node="machine%d" % number))
    plans[3].update(state="done", ours=True)
    assert decide(cluster, plans, serial=serial)["drained"] == drained
    # A budget matters where something is drained.
    cluster["budgets"] = [budget()]
    assert codes(decide(cluster, plans, serial=serial)) == ["HC122"] * ("node2" in drained)
    # The first three have nobody then, and node5 has the three.
    cluster["nodes"][4]["unschedulable"] = True
    assert decide(cluster, plans, serial=[3])["drained"] == ["node1", "node5"]


SERIALS: list[t.Any] = [1, 3, "50%", "1%", ["1", 2], [1, "30%", 2], 20]


def test_batches_are_those_of_ansible():
    for count in range(1, 9):
        for serial in SERIALS:
            hosts = [str(number) for number in range(count)]
            play = types.SimpleNamespace(serial=serial if isinstance(serial, list) else [serial])
            inventory = types.SimpleNamespace(get_hosts=lambda *a, hosts=hosts, **k: list(hosts))
            play.hosts, play.order = "all", None
            executor = types.SimpleNamespace(_inventory=inventory)
            wanted = PlaybookExecutor._get_serialized_batches(executor, play)
            assert batches(hosts, serial) == wanted, (count, serial)


def test_pods_that_a_drain_would_lose(cluster, plans):
    pod = {"namespace": "a", "name": "b", "node": "node2"}
    cluster["bare_pods"] = cluster["local_storage"] = [pod]
    found = decide(cluster, plans)
    assert codes(found) == ["HC123"] and "value a/b" in describe(found["blockers"][0])
    assert "HC216" in codes(found, "warnings")


@pytest.mark.parametrize(
    ("members", "ready", "code"),
    [
        (1, 1, "HC215"),
        (2, 2, "HC124"),
        (3, 3, None),
        (3, 2, "HC124"),
        (5, 4, None),
        (0, 0, "HC215"),
    ],
)
def test_etcd(cluster, plans, members, ready, code):
    cluster["etcd"] = {"members": members, "ready": ready}
    found = decide(cluster, plans)
    assert codes(found) + codes(found, "warnings") == ([code] if code else [])


def test_workers_alone_do_not_touch_etcd(cluster, plans):
    cluster["etcd"] = {"members": 2, "ready": 2}
    plans[1]["state"] = "done"
    assert decide(cluster, plans)["blockers"] == []


def test_users_of_dockers_socket(cluster, plans):
    user = {
        "namespace": "ci",
        "kind": "CronJob",
        "name": "build",
        "nodes": [],
        "path": "/run",
        "via": "parent",
        "purpose": "builds",
        "why": "it calls docker build",
        "active": False,
    }
    cluster["users"] = [user]
    found = decide(cluster, plans)
    (warning,) = [w for w in found["warnings"] if w["code"] == "HC203"]
    assert "directory above" in warning["text"] and "no pod just now" in warning["text"]
    assert "BuildKit" in warning["remedy"] and warning["evidence"]["value"] == "ci/build"
    assert found["docker_sock_users"] == [user]
    cluster["users"] = [dict(user, via="data", purpose="logs", nodes=["node2"], active=True)]
    (warning,) = [w for w in decide(cluster, plans)["warnings"] if w["code"] == "HC212"]
    assert warning["evidence"]["node"] == "node2"


def test_a_blocker_is_overridden_by_its_own_code(cluster, plans):
    cluster["budgets"] = [budget()]
    cluster["nodes"][1]["ready"] = False
    found = decide(cluster, plans, overrides=["HC122"])
    assert codes(found) == ["HC121"] and codes(found, "overridden") == ["HC122"]


def test_a_cordoned_node_stays_so(cluster, plans):
    cluster["nodes"][1]["unschedulable"] = True
    found = decide(cluster, plans)
    assert "HC225" in codes(found, "warnings")
    assert found["drained"] == ["node2"]

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans and results for the tests of the report, made by the functions that make the real ones.

The facts and the API's objects are recorded ones of the lab. What the tests need besides (three
nodes, a wrong cgroup driver, users of docker's socket) is changed in them, as a node would have it.
Names and labels are as hostile as the API and docker let them be.
"""

from __future__ import annotations

import copy
import json
import tempfile
import typing as t

import yaml
from ansible_collections.homelab.containerd.plugins.filter import plan as plan_filter
from ansible_collections.homelab.containerd.plugins.module_utils._host import host, paths
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import workloads
from ansible_collections.homelab.containerd.plugins.module_utils._switch import journal
from ansible_collections.homelab.containerd.plugins.modules import carry_images, switch_runtime
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
    ClusterFacts,
    ClusterPlan,
    NodeFacts,
    Plan,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan import before_snapshot
from support import read_recorded

NOW = 1_795_564_800.0  # 2026-11-25 00:00 UTC
SCRIPT = "<script>document.title='owned'</script>"
ESCAPES = "\x1b[31mred\x1b[0m\x07\u202egpj.exe\ud800\r\nsecond line"
Object = dict[str, t.Any]


# --- Nodes ---


def facts(name: str, *, control_plane: bool = False, layer_bytes: int = 451_000_000) -> Object:
    """runtime_info of a dockershim node."""
    found: Object = copy.deepcopy(read_recorded("runtime_info-dockershim.json"))
    found["kubernetes"].update(node_name=name, control_plane=control_plane)
    found["docker"]["layer_bytes"] = layer_bytes
    return found


def own_container(name: str, image: str, project: str = "") -> Object:
    """A container that is not Kubernetes', as node_runtime_info returns it."""
    recorded = read_recorded("runtime_info-dockershim.json")["docker"]["containers"]
    own = next(entry for entry in recorded if entry["owner"] == "user")
    return dict(own, id=name, name=name, image=image, project=project)


def without_drivers_that_differ(node: Object) -> Object:
    text = node["kubelet"]["config_text"]
    node["kubelet"]["config_text"] = text.replace("cgroupDriver: cgroupfs", "cgroupDriver: systemd")
    return node


def three_facts() -> list[Object]:
    cp1 = facts("cp1", control_plane=True)
    cp1["docker"]["containers"] += [
        own_container("pihole", "pihole/pihole:2024.07.0", "dns"),
        own_container(SCRIPT, "nas.home:5000/" + ESCAPES, ESCAPES),
    ]
    cp1["docker"]["daemon_json"]["value"] |= {
        "registry-mirrors": ["https://mirror.home"],
        "bip": "172.26.0.1/16",
        "insecure-registries": ["registry.lab:5000", "10.0.0.0/8"],
        ESCAPES: {"nested": [SCRIPT, float("nan")]},
    }
    workers = [
        facts("worker2", layer_bytes=2_700_000_000),
        facts("worker1", layer_bytes=6_200_000_000),
    ]
    for node in workers:
        text = node["kubelet"]["config_text"]
        node["kubelet"]["config_text"] = text.replace("systemd", "cgroupfs")
        local = {"id": "sha256:2", "tags": ["home/%s:2" % SCRIPT], "digests": [], "size": 1}
        node["docker"]["images"].append(local)
    return [cp1, *workers]


def plan(node: t.Any) -> Plan:
    return plan_filter.plan(node, {"node": node["kubernetes"]["node_name"]})


# --- The cluster ---


def user(kind: str, name: str, path: str, **container: t.Any) -> Object:
    """A workload that mounts a path of docker's."""
    mount = {"name": "docker", "mountPath": "/x"}
    spec = {
        "containers": [dict({"name": "main", "volumeMounts": [mount]}, **container)],
        "volumes": [{"name": "docker", "hostPath": {"path": path}}],
    }
    template = {"template": {"spec": spec}}
    return {
        "kind": kind,
        "metadata": {"namespace": "ci", "name": name},
        "spec": {"jobTemplate": {"spec": template}} if kind == "CronJob" else template,
    }


def _pod_of(workload: Object, node: str) -> Object:
    return {
        "kind": "Pod",
        "metadata": {
            "namespace": workload["metadata"]["namespace"],
            "name": "%s-%s" % (workload["metadata"]["name"], node),
            "uid": "%s-%s" % (workload["metadata"]["name"], node),
            "ownerReferences": [
                {"controller": True, "kind": workload["kind"], "name": workload["metadata"]["name"]}
            ],
        },
        "spec": dict(workload["spec"]["template"]["spec"], nodeName=node),
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def answer() -> Object:
    """What kubectl says of a cluster of three, of which node1 of the lab is the first."""
    found: Object = copy.deepcopy(read_recorded("kubernetes-1.23.17/cluster.json"))
    for entry in found["items"]:
        if entry["kind"] == "Node":
            entry["metadata"]["name"] = "cp1"
        elif entry["kind"] == "Pod":
            entry["spec"]["nodeName"] = "cp1"
    for name in ("worker1", "worker2"):
        node = copy.deepcopy(next(e for e in found["items"] if e["kind"] == "Node"))
        node["metadata"].update(name=name, labels={})
        found["items"].append(node)
    runner = user(
        "Deployment", "runner", "/var/run/docker.sock", image="x", args=["docker build ."]
    )
    monitor = user("DaemonSet", "cadvisor" + SCRIPT, "/var/run", image="gcr.io/cadvisor:v0.40")
    logs = user("DaemonSet", "logs", "/var/lib/docker/containers", image="fluent-bit:1.8")
    found["items"] += [
        runner,
        _pod_of(runner, "worker1"),
        monitor,
        _pod_of(monitor, "worker1"),
        _pod_of(monitor, "worker2"),
        logs,
        _pod_of(logs, "worker2"),
        user("CronJob", "prune", "/run/docker.sock", image="x", args=["docker system prune"]),
        user("CronJob", "nightly-" + ESCAPES, "/run/docker.sock", image="x"),
    ]
    return found


def cluster_info(objects: Object | None = None) -> ClusterFacts:
    """cluster_runtime_info's result on these objects, or on the lab's cluster."""
    objects = objects or read_recorded("kubernetes-1.23.17/cluster.json")
    found: t.Any = dict(workloads.look(objects), error=None)
    return found


def cluster(plans: t.Sequence[Plan], objects: Object | None = None) -> ClusterPlan:
    return plan_filter.cluster_plan(cluster_info(objects), list(plans), {"drain": True})


def one_node() -> tuple[list[Plan], ClusterPlan]:
    """The lab's, as it was recorded."""
    plans = [plan(read_recorded("runtime_info-dockershim.json"))]
    return plans, cluster(plans)


def three_nodes() -> tuple[list[Plan], ClusterPlan]:
    """(plans, cluster) with a blocker on two nodes, some warnings, and names that mean harm."""
    plans = [plan(node) for node in three_facts()]
    return plans, cluster(plans, answer())


def without_blockers() -> tuple[list[Plan], ClusterPlan]:
    plans = [plan(without_drivers_that_differ(node)) for node in three_facts()]
    return plans, cluster(plans, answer())


# --- A migration ---


class _Node(host.Host):
    """A node below a directory, whose clock a test sets."""

    now = 0.0

    def time(self) -> float:
        return self.now


def switched(start: float, rolled_back: bool = False) -> tuple[Object, list[t.Any]]:
    """(the journal of a switch that took 16 s, its steps as switch_runtime returns them)."""
    with tempfile.TemporaryDirectory() as directory:
        node = _Node(directory)
        node.now = start
        written = journal.Journal(node)
        written.begin("containerd", {}, {})
        written.step("stop kubelet")
        node.now = start + 4
        if rolled_back:
            written.begin("docker", {})
        written.step("start kubelet")
        node.now = start + 16
        written.finish("rolled_back" if rolled_back else "done")
        return json.loads(node.read_text(paths.JOURNAL) or ""), written.timings()


def result(module: t.Any, **values: t.Any) -> Object:
    """A module's result; its documentation has to name all that is in it."""
    documented = set(yaml.safe_load(module.RETURN)) | {"changed", "failed", "msg"}
    assert set(values) <= documented, sorted(set(values) - documented)
    return values


def migrated() -> tuple[list[Object], Object]:
    """(outcomes, api) of without_blockers(): two nodes went over, worker1 is back on docker."""
    before, after = answer(), answer()
    nodes = {e["metadata"]["name"]: e for e in before["items"] if e["kind"] == "Node"}
    outcomes = []
    for index, node in enumerate(three_facts()):
        name = node["kubernetes"]["node_name"]
        back = name == "worker1"
        begin = NOW + 200 + 70 * index
        record, steps = switched(begin + 24, rolled_back=back)
        pods = [
            e for e in before["items"] if e["kind"] == "Pod" and e["spec"].get("nodeName") == name
        ]
        images = [image for image in node["docker"]["images"] if image["tags"]][:3]
        switch = result(
            switch_runtime,
            changed=True,
            start=begin + 24,
            end=begin + 50,
            delta=26.0,
            outage_seconds=2.6,
            running_seconds=14.5,
            pods_ready_seconds=25.6,
            api_away_seconds=5.3 if name == "cp1" else None,
            steps=steps,
        )
        if back:
            switch = result(switch_runtime, failed=True, msg="", rolled_back=True, steps=steps)
        marks = {"prepare": NOW, "prepared": NOW + 190, "switch": begin}
        if not back:
            marks |= {"buildkit": NOW + 420, "verify": NOW + 445, "end": NOW + 630}
        outcomes.append(
            {
                "node": name,
                "before": before_snapshot.before_snapshot(
                    {"items": pods}, t.cast(NodeFacts, node), nodes[name], probes=[]
                ),
                "journal": record,
                "marks": marks,
                "carry": result(
                    carry_images,
                    changed=True,
                    start=NOW + 9,
                    end=NOW + 9 + 50 * (index + 1),
                    delta=50.0 * (index + 1),
                    bytes=1_353_000_000,
                    carried=[dict(image, bytes=image["size"], method="adopt") for image in images],
                ),
                "switch": switch,
                # As the role verify reads them from its tests' results.
                "verify": [
                    {
                        "name": "test_runtime.py::test_endpoint[ansible://cp1]",
                        "outcome": "passed",
                        "seconds": 0.4,
                    },
                    {
                        "name": "test_cri.py::test_pull[ansible://worker2-docker.io]",
                        "outcome": "failed",
                        "seconds": 1.4,
                    },
                ],
                "buildkit": not back,
            }
        )
    for entry in after["items"]:
        if entry["kind"] == "Node" and entry["metadata"]["name"] != "worker1":
            entry["status"]["nodeInfo"]["containerRuntimeVersion"] = "containerd://1.6.20"
    # One pod was replaced by its controller meanwhile.
    after["items"].remove(
        next(e for e in after["items"] if e["metadata"]["name"].startswith("local-only-"))
    )
    return outcomes, after

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import workloads
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def answer(recorded):
    return copy.deepcopy(recorded("kubernetes-1.23.17/cluster.json"))


def container(**more):
    return dict({"name": "c", "image": "registry.lab:5000/x:1"}, **more)


def entry(kind, name, spec, namespace="home", **metadata):
    return {
        "kind": kind,
        "metadata": dict({"name": name, "namespace": namespace}, **metadata),
        "spec": spec,
    }


def mounting(path, **more):
    mounts = [{"name": "v", "mountPath": "/x"}]
    return {
        "containers": [container(volumeMounts=mounts, **more)],
        "volumes": [{"name": "v", "hostPath": {"path": path}}],
    }


def look(*entries):
    return workloads.look({"items": list(entries)})


def test_the_labs_cluster(answer):
    found = workloads.look(answer)
    (node,) = found["nodes"]
    assert node["name"] == "node1" and node["ready"] and not node["tainted"]
    assert node["runtime"].startswith("docker://") and node["kubelet"] == "v1.23.17"
    assert "control-plane" in node["roles"]
    assert found["pods"] == 11
    assert found["users"] == [] and found["budgets"] == [] and found["bare_pods"] == []
    assert found["local_storage"] == []
    assert found["etcd"] == {"members": 1, "ready": 1}


def test_arguments_and_environment_stay_there(answer):
    spec = mounting(
        "/var/run/docker.sock",
        args=["docker build --build-arg T=hush"],
        env=[{"name": "A", "value": "hush"}],
    )
    answer["items"].append(entry("Deployment", "ci", {"template": {"spec": spec}}))
    found = workloads.look(answer)
    assert len(found["users"]) == 1 and "hush" not in json.dumps(found)


@pytest.mark.parametrize(
    ("path", "via"),
    [
        ("/var/run/docker.sock", "direct"),
        ("/run/docker.sock", "direct"),
        ("//run//docker.sock/", "direct"),
        ("/var/run/dockershim.sock", "direct"),
        ("/var/run", "parent"),
        ("/run/", "parent"),
        ("/var", "parent"),
        ("/", "parent"),
        ("/var/lib/docker/containers", "data"),
        ("/var/lib/docker", "data"),
        ("/var/run/docker", None),
        ("/run/containerd/containerd.sock", None),
        ("/var/lib/docker-registry", None),
        ("/var/log", None),
    ],
)
def test_how_a_path_reaches_docker(path, via):
    found = look(entry("DaemonSet", "d", {"template": {"spec": mounting(path)}}))["users"]
    assert [user["via"] for user in found] == ([via] if via else [])


def test_workloads_without_a_pod_are_found():
    template = {"template": {"spec": mounting("/run/docker.sock")}}
    found = look(
        entry("Deployment", "off", dict(template, replicas=0)),
        entry("CronJob", "nightly", {"jobTemplate": {"spec": template}}),
    )["users"]
    assert [(u["kind"], u["name"], u["active"], u["nodes"]) for u in found] == [
        ("Deployment", "off", False, []),
        ("CronJob", "nightly", False, []),
    ]


def test_a_pod_counts_for_what_made_it():
    spec = mounting("/run/docker.sock")
    owner = {"controller": True, "kind": "ReplicaSet", "name": "web-1"}
    above = {"controller": True, "kind": "Deployment", "name": "web"}
    pods = [
        entry("Pod", "web-1-%s" % n, dict(spec, nodeName=n), ownerReferences=[owner])
        for n in ("b", "a")
    ]
    (user,) = look(
        entry("Deployment", "web", {"template": {"spec": spec}}),
        entry("ReplicaSet", "web-1", {"template": {"spec": spec}}, ownerReferences=[above]),
        *pods,
    )["users"]
    assert (user["kind"], user["name"], user["nodes"]) == ("Deployment", "web", ["a", "b"])
    # What a controller made that was not asked for stands for itself.
    (alone,) = look(pods[0])["users"]
    assert (alone["kind"], alone["name"]) == ("Pod", "web-1-b")


def test_static_and_ended_pods():
    spec = mounting("/run/docker.sock")
    static = entry("Pod", "s-node1", spec, annotations={"kubernetes.io/config.mirror": "x"})
    over = dict(entry("Pod", "over", spec), status={"phase": "Succeeded"})
    found = look(static, over)
    assert [(user["kind"], user["name"]) for user in found["users"]] == [("static pod", "s-node1")]
    assert found["bare_pods"] == [] and found["pods"] == 1


@pytest.mark.parametrize(
    ("spec", "purpose"),
    [
        ({"command": ["sh", "-c", "docker build ."]}, "builds"),
        ({"args": ["docker", "ps"]}, "monitors"),
        ({"args": ["-c", "cd /x\ndocker run y\n"]}, "runs"),
        ({"image": "docker:20.10"}, "builds"),
        ({"image": "docker.io/library/docker:20.10-cli"}, "builds"),
        ({"image": "docker:20.10-dind"}, "runs"),
        ({"image": "gitlab/gitlab-runner:alpine"}, "builds"),
        ({"image": "jenkins/jenkins:lts"}, "builds"),
        ({"image": "gcr.io/cadvisor/cadvisor:v0.40"}, "monitors"),
        ({"image": "gcr.io/datadoghq/agent:7"}, "monitors"),
        ({"image": "portainer/portainer-ce"}, "runs"),
        ({"image": "containrrr/watchtower@sha256:" + "0" * 64}, "runs"),
        ({"image": "registry.lab:5000/my-own:1"}, "unknown"),
        ({"image": "timg:1"}, "unknown"),
        ({"image": None}, "unknown"),
    ],
)
def test_purposes(spec, purpose):
    pod = entry("Pod", "p", mounting("/run/docker.sock", **spec))
    (user,) = look(pod)["users"]
    assert user["purpose"] == purpose and user["why"]


def test_only_containers_that_mount_it_are_asked():
    spec = mounting("/run/docker.sock", image="x:1")
    spec["containers"].append(container(command=["docker", "build", "."]))
    assert look(entry("Pod", "p", spec))["users"][0]["purpose"] == "unknown"


@pytest.mark.parametrize(
    ("selector", "nodes"),
    [
        ({"matchLabels": {"app": "a"}}, ["n1"]),
        ({"matchLabels": {"app": "b"}}, []),
        ({}, ["n1"]),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}, ["n1"]),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}, []),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, ["n1"]),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, []),
        ({"matchExpressions": [{"key": "app", "operator": "Gt"}]}, []),
    ],
)
def test_whose_budget_it_is(selector, nodes):
    pod = entry("Pod", "p", {"nodeName": "n1"}, labels={"app": "a"})
    other = entry("Pod", "q", {"nodeName": "n2"}, namespace="other", labels={"app": "a"})
    budget = entry("PodDisruptionBudget", "b", {"selector": selector})
    budget["status"] = {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1}
    (found,) = look(pod, other, budget)["budgets"]
    assert found["nodes"] == nodes and found["allowed"] == 0 and found["desired"] == 1


def test_pods_that_a_drain_would_lose():
    scratch = {"nodeName": "n", "volumes": [{"name": "v", "emptyDir": {}}]}
    owner = [{"controller": True, "kind": "DaemonSet", "name": "d"}]
    found = look(
        entry("Pod", "bare", scratch),
        entry("Pod", "of-a-daemon-set", scratch, ownerReferences=owner),
    )
    assert found["bare_pods"] == [{"namespace": "home", "name": "bare", "node": "n"}]
    assert [pod["name"] for pod in found["local_storage"]] == ["bare"]


@given(st.dictionaries(st.sampled_from(["kind", "metadata", "x"]), st.none() | st.just({})))
def test_objects_that_are_none_are_left_out(value):
    assert workloads.look({"items": [dict(value, metadata=None)]})["pods"] == 0

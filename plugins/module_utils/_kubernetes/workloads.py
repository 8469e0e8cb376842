# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the API's objects say that a change of runtime has to know. Pure functions, no secrets.

Environment variables and arguments of pods are looked at and never returned.
"""

from __future__ import annotations

import json
import posixpath
import re
import tempfile
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._docker import clients
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import pod_status

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        ClusterFacts,
        ClusterNode,
        DisruptionBudget,
        PodPlace,
        SocketUser,
    )


def cluster_info(kubeconfig: str, timeout: int) -> ClusterFacts:
    try:
        # kubectl keeps what the API offers below its home: a look leaves nothing behind.
        with tempfile.TemporaryDirectory() as home:
            words = ["env", "HOME=" + home, "kubectl", "--kubeconfig", kubeconfig]
            words += ["--request-timeout=%ds" % timeout, "get", ",".join(KINDS)]
            words += ["--all-namespaces", "-o", "json"]
            answer = json.loads(commands.run(words, timeout=timeout + 10).stdout)
        if not isinstance(answer, dict):
            raise ValueError("kubectl printed no object")
    except (commands.NodeError, ValueError) as exc:
        return look({}, error=str(exc))
    return look(answer)


Object = t.Dict[str, t.Any]

#: What is asked for, in one kubectl get.
KINDS = (
    *("nodes", "pods", "deployments", "daemonsets", "statefulsets", "replicasets", "jobs"),
    *("cronjobs", "poddisruptionbudgets"),
)

#: The engine's sockets, and dockershim's own, which some agents talk to.
SOCKETS = (
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/var/run/dockershim.sock",
    "/run/dockershim.sock",
)

DOCKER_DATA = "/var/lib/docker"

#: Well-known images and what they want docker for, tried in this order after the command line.
IMAGES = tuple(
    (re.compile(r"(^|[/-])(%s)(\b|_)" % names), found)
    for names, found in (
        (r"docker:[\w.-]*dind|dind", "runs"),
        (r"docker(?=:|@|$)", "builds"),
        (r"gitlab-runner|drone(-runner-docker)?|woodpecker\S*|act_runner|actions-runner", "builds"),
        (r"jenkins|inbound-agent|jnlp-slave|buildkite|concourse|teamcity-agent", "builds"),
        (r"buildx|kaniko|img|skaffold|werf|s2i", "builds"),
        (r"portainer\S*|watchtower|ouroboros|yacht|swarmpit|rancher|docker-gc", "runs"),
        (r"cadvisor|datadog\w*|telegraf|netdata|node-exporter|scope|sysdig|falco", "monitors"),
        (r"fluentd?|fluent-bit|filebeat|promtail|vector|logspout|dozzle|diun|traefik", "monitors"),
    )
)


def items(answer: Object) -> t.Iterator[Object]:
    """The objects of a List; what is no object is left out."""
    for entry in answer.get("items") or []:
        if isinstance(entry, dict) and isinstance(entry.get("metadata"), dict):
            yield entry


def controller(entry: Object) -> t.Optional[t.Tuple[str, str]]:
    for reference in entry["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return str(reference.get("kind")), str(reference.get("name"))
    return None


def is_static(pod: Object) -> bool:
    return "kubernetes.io/config.mirror" in (pod["metadata"].get("annotations") or {})


def ended(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def pod_spec(entry: Object) -> t.Optional[Object]:
    """The pod template's spec of a workload, or a pod's own."""
    spec = entry.get("spec") or {}
    if entry.get("kind") == "Pod":
        return t.cast(Object, spec)
    if entry.get("kind") == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    template = spec.get("template")
    return (template.get("spec") or {}) if isinstance(template, dict) else None


def containers(spec: Object) -> t.List[Object]:
    return [
        container
        for key in ("initContainers", "containers", "ephemeralContainers")
        for container in spec.get(key) or []
    ]


def host_paths(spec: Object) -> t.Dict[str, str]:
    """Volume name to the normalised path on the node."""
    found = {}
    for volume in spec.get("volumes") or []:
        path = (volume.get("hostPath") or {}).get("path")
        if path:
            found[str(volume.get("name"))] = posixpath.normpath("/" + str(path).lstrip("/"))
    return found


def reaches(path: str, wanted: t.Iterable[str]) -> t.Optional[t.Literal["direct", "parent"]]:
    """ "direct" where PATH is one of the wanted ones, "parent" where it contains one, or None."""
    for name in wanted:
        if path == name:
            return "direct"
    for name in wanted:
        if path == "/" or name.startswith(path + "/"):
            return "parent"
    return None


def purpose(spec: Object, mounts: t.Container[str]) -> t.Tuple[str, str]:
    """What the containers that mount these volumes want docker for, and what says so."""
    users = [
        container
        for container in containers(spec)
        if any(mount.get("name") in mounts for mount in container.get("volumeMounts") or [])
    ] or containers(spec)
    for container in users:
        words = [str(w) for key in ("command", "args") for w in container.get(key) or []]
        # A list of words is one command; a script after "sh -c" has lines of its own.
        text = " ".join(words) if not any("\n" in word for word in words) else "\n".join(words)
        for call in clients.docker_calls(text):
            if call["purpose"] != "unknown":
                return call["purpose"], "it calls %s" % call["command"]
    for container in users:
        image = str(container.get("image") or "")
        repository = image.split("@", 1)[0]
        for pattern, found in IMAGES:
            if pattern.search(repository):
                return found, "its image is %s" % image
    return "unknown", "its image is %s" % (users[0].get("image") if users else "unknown")


def _selects(selector: Object, labels: t.Dict[str, str]) -> bool:
    """A label selector (apimachinery, metav1.LabelSelector); an empty one selects everything."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for term in selector.get("matchExpressions") or []:
        key, values = term.get("key"), term.get("values") or []
        there = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }.get(str(term.get("operator")), False)
        if not there:
            return False
    return True


def _node(entry: Object) -> ClusterNode:
    info = (entry.get("status") or {}).get("nodeInfo") or {}
    prefix = "node-role.kubernetes.io/"
    labels = entry["metadata"].get("labels") or {}
    return {
        "name": entry["metadata"]["name"],
        "roles": sorted(label[len(prefix) :] for label in labels if label.startswith(prefix)),
        "ready": pod_status.is_ready(entry),
        "unschedulable": bool((entry.get("spec") or {}).get("unschedulable")),
        "tainted": bool((entry.get("spec") or {}).get("taints")),
        "runtime": info.get("containerRuntimeVersion") or "",
        "kubelet": info.get("kubeletVersion") or "",
    }


def _workloads(objects: t.Sequence[Object]) -> t.List[t.Tuple[Object, Object, t.List[Object]]]:
    """(object, its pod spec, its pods) of all that nothing else makes: controllers, bare pods."""
    by_name = {
        (entry["metadata"].get("namespace"), entry.get("kind"), entry["metadata"]["name"]): entry
        for entry in objects
    }
    pods: t.Dict[t.Any, t.List[Object]] = {}
    roots: t.Dict[t.Any, Object] = {}
    for entry in objects:
        if pod_spec(entry) is None:
            continue
        top = entry
        for _depth in range(4):  # CronJob > Job > Pod, Deployment > ReplicaSet > Pod
            owner = controller(top)
            above = by_name.get((top["metadata"].get("namespace"),) + owner) if owner else None
            if above is None or pod_spec(above) is None:
                break
            top = above
        key = (top["metadata"].get("namespace"), top.get("kind"), top["metadata"]["name"])
        roots[key] = top
        if entry.get("kind") == "Pod" and not ended(entry):
            pods.setdefault(key, []).append(entry)
    return [(top, t.cast(Object, pod_spec(top)), pods.get(key, [])) for key, top in roots.items()]


def _users(workloads: t.Sequence[t.Tuple[Object, Object, t.List[Object]]]) -> t.List[SocketUser]:
    found: t.List[SocketUser] = []
    for entry, spec, pods in workloads:
        if entry.get("kind") == "Pod" and ended(entry):
            continue
        for path in sorted(set(host_paths(spec).values())):
            volumes = {name for name, place in host_paths(spec).items() if place == path}
            via = reaches(path, SOCKETS)
            inside = path == DOCKER_DATA or path.startswith(DOCKER_DATA + "/")
            if not via and not inside:
                continue
            kind = str(entry.get("kind"))
            what, why = purpose(spec, volumes)
            if inside:
                what = "logs" if what in ("monitors", "unknown") else what
            found.append(
                {
                    "namespace": entry["metadata"].get("namespace") or "default",
                    "kind": "static pod" if kind == "Pod" and is_static(entry) else kind,
                    "name": entry["metadata"]["name"],
                    "nodes": sorted({str((p.get("spec") or {}).get("nodeName")) for p in pods}),
                    "path": path,
                    "via": via if via and not inside else "data",
                    "purpose": what,
                    "why": why,
                    "active": bool(pods),
                }
            )
    return found


def _budgets(objects: t.Sequence[Object], pods: t.Sequence[Object]) -> t.List[DisruptionBudget]:
    found: t.List[DisruptionBudget] = []
    for entry in objects:
        if entry.get("kind") != "PodDisruptionBudget":
            continue
        status = entry.get("status") or {}
        namespace = entry["metadata"].get("namespace")
        selector = (entry.get("spec") or {}).get("selector") or {}
        nodes = {
            str((pod.get("spec") or {}).get("nodeName"))
            for pod in pods
            if pod["metadata"].get("namespace") == namespace
            and not ended(pod)
            and not is_static(pod)
            and _selects(selector, pod["metadata"].get("labels") or {})
        }
        found.append(
            {
                "namespace": namespace,
                "name": entry["metadata"]["name"],
                "allowed": int(status.get("disruptionsAllowed") or 0),
                "healthy": int(status.get("currentHealthy") or 0),
                "desired": int(status.get("desiredHealthy") or 0),
                "expected": int(status.get("expectedPods") or 0),
                "nodes": sorted(nodes),
            }
        )
    return found


def _place(pod: Object) -> PodPlace:
    return {
        "namespace": pod["metadata"].get("namespace") or "default",
        "name": pod["metadata"]["name"],
        "node": (pod.get("spec") or {}).get("nodeName") or "",
    }


def look(answer: Object, error: t.Optional[str] = None) -> ClusterFacts:
    """kubectl get KINDS --all-namespaces -o json, reduced to what decisions need.

    error: why there is no answer.
    """
    objects = list(items(answer))
    pods = [entry for entry in objects if entry.get("kind") == "Pod"]
    live = [pod for pod in pods if not ended(pod)]
    etcd = [
        pod
        for pod in live
        if pod["metadata"].get("namespace") == "kube-system"
        and (pod["metadata"].get("labels") or {}).get("component") == "etcd"
    ]
    return {
        "error": error,
        "nodes": [_node(entry) for entry in objects if entry.get("kind") == "Node"],
        "pods": len(live),
        "users": _users(_workloads(objects)),
        "budgets": _budgets(objects, live),
        "bare_pods": [_place(p) for p in live if not controller(p) and not is_static(p)],
        "local_storage": [
            _place(pod)
            for pod in live
            if (controller(pod) or ("",))[0] != "DaemonSet"
            and not is_static(pod)
            and any(
                volume.get("emptyDir") is not None
                for volume in (pod.get("spec") or {}).get("volumes") or []
            )
        ],
        "etcd": {"members": len(etcd), "ready": sum(map(pod_status.is_ready, etcd))},
    }

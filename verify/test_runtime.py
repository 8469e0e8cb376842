# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kubelet uses containerd, and says so to the API; nothing points to dockershim any more."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from nodes import CONTAINERD_SOCKET, STATE_DIR, Cluster, Node, flags, is_ready

# Gone in Kubernetes 1.24, where a kubelet with one of them does not start
# (kubernetes/kubernetes#106907).
DOCKERSHIM_FLAGS = {
    "cni-bin-dir",
    "cni-cache-dir",
    "cni-conf-dir",
    "docker-endpoint",
    "experimental-dockershim",
    "experimental-dockershim-root-directory",
    "image-pull-progress-deadline",
    "network-plugin",
    "network-plugin-mtu",
}


def socket_path(endpoint: str) -> str:
    """The path of a CRI endpoint, with or without its scheme."""
    path = endpoint.strip().strip("\"'")
    path = path[len("unix://") :] if path.startswith("unix://") else path
    return path[len("/var") :] if path.startswith("/var/run/") else path


def yaml_value(text: str | None, key: str) -> str:
    """A top-level string of a YAML file."""
    found = re.search(rf"^{key}:[ \t]*(\S+)", text or "", re.MULTILINE)
    return found.group(1).strip("\"'") if found else ""


@pytest.fixture
def api_node(cluster: Cluster, node_name: str) -> dict[str, Any]:
    return cluster.get(f"node {node_name}")


def test_api_reports_containerd(node: Node, api_node: dict[str, Any]) -> None:
    version = api_node["status"]["nodeInfo"]["containerRuntimeVersion"]
    node.check(
        version.startswith("containerd://"),
        "the kubelet reports containerd://… to the API",
        version,
        "kubelet",
    )


def test_node_is_ready(node: Node, api_node: dict[str, Any]) -> None:
    node.check(
        is_ready(api_node), "Ready", api_node["status"]["conditions"], "kubelet", "containerd"
    )


def test_node_takes_pods_as_before(node: Node, api_node: dict[str, Any]) -> None:
    # Without a record: as a node should be.
    record = json.loads(node.text(f"{STATE_DIR}/before.json") or "{}")
    cordoned_before = bool(record.get("unschedulable"))
    cordoned = bool(api_node["spec"].get("unschedulable"))
    node.check(
        cordoned == cordoned_before,
        "cordoned, as it was before" if cordoned_before else "not cordoned (kubectl uncordon)",
        f"unschedulable is {cordoned}",
    )


def test_kubelet_has_no_dockershim_flag(node: Node, kubelet: list[str]) -> None:
    found = flags(kubelet)
    left = sorted(DOCKERSHIM_FLAGS & set(found))
    if found.get("container-runtime", "remote") != "remote":
        left.append("container-runtime")
    node.check(
        not left,
        "a kubelet without flags of dockershim",
        f"--{', --'.join(left)} in: {' '.join(kubelet)}",
    )


def test_kubelet_endpoint_is_containerd(node: Node, kubelet: list[str]) -> None:
    found = flags(kubelet)
    file = found.get("config", "/var/lib/kubelet/config.yaml")
    instance = "/var/lib/kubelet/instance-config.yaml"
    key = "containerRuntimeEndpoint"
    # What is named later wins: kubeadm lays instance-config.yaml over the file, a flag over both.
    endpoint = (
        found.get("container-runtime-endpoint")
        or yaml_value(node.text(instance), key)
        or yaml_value(node.text(file), key)
    )
    node.check(
        socket_path(endpoint) == CONTAINERD_SOCKET,
        f"the kubelet's endpoint is unix://{CONTAINERD_SOCKET}",
        f"{endpoint or 'no endpoint'}, from {' '.join(kubelet)} and {file}",
        "kubelet",
    )


def test_kubeadm_knows_containerd(node: Node, api_node: dict[str, Any]) -> None:
    annotations = api_node["metadata"].get("annotations", {})
    noted = annotations.get("kubeadm.alpha.kubernetes.io/cri-socket")
    if noted is None:
        pytest.skip("the node has no kubeadm annotation: newer kubeadm keeps the socket elsewhere")
    node.check(
        socket_path(noted) == CONTAINERD_SOCKET,
        "the annotation that kubeadm upgrade reads names containerd's socket",
        f"kubeadm.alpha.kubernetes.io/cri-socket: {noted}",
    )


def test_crictl_points_to_containerd(node: Node, kubelet: list[str]) -> None:
    text = node.text("/etc/crictl.yaml")
    for key in ("runtime-endpoint", "image-endpoint"):
        node.check(
            socket_path(yaml_value(text, key)) == CONTAINERD_SOCKET,
            f"/etc/crictl.yaml has {key}: unix://{CONTAINERD_SOCKET}",
            text or "no such file",
        )
    if node.run("command -v crictl").rc == 0:
        node.sh("crictl pods --quiet", "containerd")


def test_docker_runs_no_pod(node: Node, kubelet: list[str]) -> None:
    # One that runs and does not answer may run pods: that fails.
    if node.run("systemctl is-active docker.service").stdout.strip() in ("inactive", "failed"):
        pytest.skip("docker does not run on this node")
    listed = node.sh("docker ps --filter=label=io.kubernetes.pod.uid --format='{{.ID}} {{.Names}}'")
    node.check(not listed.strip(), "docker runs no container of Kubernetes'", listed)

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods run what each way of building made, and what failed left nothing."""

from __future__ import annotations

import json
import time

import pytest
from testinfra.host import Host

BUILT = {
    # Image: pull policy, what it prints.
    "docker.io/home/repository:1": ("Never", "repository"),
    "registry.lab:5000/home/cached:1": ("Always", "cached"),
    "docker.io/home/ci:buildkit": ("Never", "ci-buildkit"),
    "registry.lab:5000/home/ci:buildx": ("Always", "ci-buildx"),
    "registry.lab:5000/home/ci:cluster": ("Always", "ci-cluster"),
    "registry.lab:5000/home/ci:dind": ("Always", "ci-dind"),
    "registry.lab:5000/home/ci:rootless": ("Always", "ci-rootless"),
    "registry.lab:5000/home/engine:buildah": ("Always", "buildah"),
    "registry.lab:5000/home/engine:buildkit": ("Always", "buildkit"),
    "registry.lab:5000/home/engine:node": ("Never", "node"),
}


@pytest.mark.parametrize("image", BUILT)
def test_the_kubelet_runs_it(host: Host, image: str) -> None:
    policy, word = BUILT[image]
    name = "test-" + image.rpartition("/")[2].replace(":", "-")
    host.run(f"kubectl delete pod {name} --ignore-not-found --now")
    host.check_output(
        f"kubectl run {name} --image={image} --image-pull-policy={policy} --restart=Never"
    )
    deadline = time.monotonic() + 90
    while True:
        pod = json.loads(host.check_output(f"kubectl get pod {name} -o json"))
        if pod["status"]["phase"] in ("Succeeded", "Failed") or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert pod["status"]["phase"] == "Succeeded", pod["status"]
    assert host.check_output(f"kubectl logs {name}") == f"built by {word}"
    host.run(f"kubectl delete pod {name} --now --wait=false")


def test_docker_is_gone(host: Host) -> None:
    assert host.run("systemctl is-enabled docker.service").stdout.strip() == "masked"


def test_the_cluster_builder_wants_a_certificate(host: Host) -> None:
    address = host.check_output(
        "kubectl get service -n buildkit buildkitd -o jsonpath={.spec.clusterIP}"
    )
    refused = host.run(f"timeout 20 buildctl --addr=tcp://{address}:1234 debug workers")
    assert refused.rc != 0 and refused.rc != 124, refused


@pytest.mark.parametrize("namespace", ["buildkit", "claimed"])
def test_nothing_of_the_rootless_builder_runs_as_root(host: Host, namespace: str) -> None:
    listed = json.loads(host.check_output(f"kubectl get pods -n {namespace} -o json"))["items"]
    (pod,) = listed
    owner = host.check_output(f"kubectl exec -n {namespace} {pod['metadata']['name']} -- id -u")
    assert owner == "1000"
    pids = host.check_output("pgrep -x buildkitd").split()
    owners = {pid: host.check_output(f"ps -o uid= -p {pid}").strip() for pid in pids}
    # Besides these the node's own runs.
    assert sorted(owners.values()) == ["0", "1000", "1000"], owners
    phases = "jsonpath='{.items[*].status.phase}'"
    claims = host.check_output(f"kubectl get pvc -n {namespace} -o {phases}")
    assert claims == ("Bound" if namespace == "claimed" else "")


def test_what_leaves_the_node_is_compressed_and_what_stays_is_not(host: Host) -> None:
    def layers(command: str) -> list[str]:
        manifest = json.loads(host.check_output(command))
        return [layer["mediaType"] for layer in manifest["layers"]]

    listed = host.check_output("ctr -n k8s.io images list").splitlines()
    (digest,) = (
        line.split()[2] for line in listed if line.startswith("registry.lab:5000/home/engine:node")
    )
    stays = layers(f"ctr -n k8s.io content get {digest}")
    # The base image came as it was in the registry; the other layer was built here.
    assert stays[-1] == "application/vnd.oci.image.layer.v1.tar"
    url = "http://registry.lab:5000/v2/home/engine/manifests/node"
    accept = "Accept: application/vnd.oci.image.manifest.v1+json"
    leaves = layers(f"curl -sf -H '{accept}' {url}")
    assert all(media.endswith("gzip") for media in leaves), leaves


def test_an_index_has_every_platform(host: Host) -> None:
    url = "http://registry.lab:5000/v2/home/platforms/manifests/1"
    accept = "Accept: application/vnd.oci.image.index.v1+json"
    index = json.loads(host.check_output(f"curl -sf -H '{accept}' {url}"))
    # Each has an attestation besides, "unknown/unknown".
    found = {entry["platform"]["architecture"] for entry in index["manifests"]}
    assert {"amd64", "arm64"} <= found


def test_nothing_is_left_of_what_failed(host: Host) -> None:
    names = host.check_output("ctr -n k8s.io images ls -q")
    assert "fault" not in names.lower()
    assert (
        host.check_output("ls -A /root/.docker /tmp 2>/dev/null | grep -c homelab || true") == "0"
    )

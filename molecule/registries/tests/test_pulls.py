# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What docker's configuration said holds for containerd, whichever it is: with real pulls."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from testinfra.host import Host

KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
IMAGES = {
    "plain": "plain.lab:5001/lab/web:1",
    "selfsigned": "selfsigned.lab:5002/lab/web:1",
    "ca": "ca.lab:5003/lab/web:1",
    "client": "client.lab:5004/lab/web:1",
    # Said in containerd's own configuration, of version 1, with a directory of its own.
    "owner": "owner.lab:5001/lab/web:1",
    # The first mirror does not answer, the second has it.
    "mirror": "docker.io/library/web:1",
    # No mirror has it.
    "fallback": "docker.io/library/only-there:1",
}


def _pod(name: str, image: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "web", "image": image, "imagePullPolicy": "Always"}
    metadata = {"name": "pull-" + name, "labels": {"test": "pulls"}}
    body = dict(spec, containers=[container], terminationGracePeriodSeconds=1)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}


@pytest.fixture(scope="module")
def pods(host: Host) -> dict[str, Any]:
    """A pod for each image, pulled by the kubelet through CRI; and one with docker's runtime."""
    runtime_class = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "noisy"},
        "handler": "noisy",
    }
    made = [_pod(name, image) for name, image in IMAGES.items()]
    noisy = _pod("noisy", IMAGES["plain"], runtimeClassName="noisy")
    wanted = {"apiVersion": "v1", "kind": "List", "items": [runtime_class, *made, noisy]}
    host.check_output(f"{KUBECTL} delete pods -l test=pulls --wait=true")
    host.check_output("ctr -n k8s.io images rm %s || true" % " ".join(IMAGES.values()))
    host.check_output("echo '%s' | %s apply -f -" % (json.dumps(wanted), KUBECTL))
    deadline = time.monotonic() + 180
    while True:
        found = json.loads(host.check_output(f"{KUBECTL} get pods -l test=pulls -o json"))["items"]
        if all(pod["status"]["phase"] == "Running" for pod in found):
            break
        if time.monotonic() > deadline:
            break
        time.sleep(1)
    return {pod["metadata"]["name"].removeprefix("pull-"): pod["status"] for pod in found}


@pytest.mark.parametrize("name", IMAGES)
def test_the_kubelet_pulls(pods: dict[str, Any], name: str) -> None:
    assert pods[name]["phase"] == "Running", pods[name]


@pytest.mark.parametrize("name", IMAGES)
def test_ctr_pulls(host: Host, pods: dict[str, Any], name: str) -> None:
    # In a namespace of its own, so that nothing is there yet.
    command = "ctr -n pulls images pull --hosts-dir /etc/containerd/certs.d"
    done = host.run(f"{command} {IMAGES[name]}")
    host.run(f"ctr -n pulls images rm {IMAGES[name]}")
    assert done.rc == 0, done.stderr


def test_dockers_other_runtime_runs_a_pod(host: Host, pods: dict[str, Any]) -> None:
    assert pods["noisy"]["phase"] == "Running", pods["noisy"]
    script = host.file("/usr/local/lib/homelab-containerd/runtimes/noisy")
    assert script.content_string.endswith('exec /usr/sbin/runc --debug "$@"\n')
    assert script.mode == 0o755


def test_containerd_has_dockers_proxies(host: Host) -> None:
    words = host.check_output("cat /proc/$(pidof containerd)/environ | tr '\\0' '\\n'").splitlines()
    (proxy,) = [word for word in words if word.startswith("HTTPS_PROXY=")]
    assert proxy.startswith("HTTPS_PROXY=http://me:hush%40hush@10.") and proxy.endswith(":9")
    assert "NO_PROXY=.lab,registry-1.docker.io,10.0.0.0/8,.svc,localhost" in words


def test_only_root_reads_the_password(host: Host) -> None:
    assert host.file("/etc/containerd/environment").mode == 0o600
    assert "hush" not in host.check_output("systemctl show containerd; systemctl cat containerd")
    assert "hush" not in host.check_output("grep -rl hush /var/lib/homelab-containerd || true")


def test_the_kubelet_rotates_logs_as_docker_did(host: Host) -> None:
    found = json.loads(host.check_output(f"{KUBECTL} get --raw /api/v1/nodes/node1/proxy/configz"))
    config = found["kubeletconfig"]
    assert config["containerLogMaxSize"] == "20M"
    # docker had one, and the kubelet wants two.
    assert config["containerLogMaxFiles"] == 2
    text = host.check_output(
        f"{KUBECTL} get configmap -n kube-system kubelet-config-1.23 -o jsonpath={{.data.kubelet}}"
    )
    assert "containerLogMaxSize: 20M\n" in text + "\n"


def test_containerd_downloads_as_many_layers_at_once(host: Host) -> None:
    dump = host.check_output("containerd config dump")
    assert "max_concurrent_downloads = 5" in dump


def test_the_owners_hosts_toml_is_kept(host: Host) -> None:
    found = host.check_output("cat /etc/containerd/certs.d/plain.lab:5001/hosts.toml.*~")
    assert "Written by the owner" in found

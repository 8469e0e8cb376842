# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people do with pods works through the kubelet's CRI: logs, exec, port-forward, pulls."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from nodes import (
    Cluster,
    Node,
    Settings,
    forget_image,
    full_name,
    pod,
    probe_pod,
    stored_images,
)

# Asks a port of a pod for /token through kubectl port-forward, and ends it in any case.
PORT_FORWARD = """
import re, subprocess, sys, urllib.request
forward = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
try:
    line = forward.stdout.readline().decode()
    port = re.search(r"127\\.0\\.0\\.1:(\\d+)", line)
    if not port:
        sys.exit(line + forward.stdout.read().decode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    print(opener.open("http://127.0.0.1:%s/token" % port.group(1), timeout=20).read().decode())
finally:
    forward.kill()
"""


@pytest.fixture(scope="module")
def server(
    node: Node, cluster: Cluster, node_name: str, namespace: str, base_image: str, token: str
) -> Iterator[dict[str, Any]]:
    """A pod that prints a token and serves it."""
    name = f"server-{token}"
    script = (
        f"mkdir /tmp/www && echo served-{token} >/tmp/www/token && echo logged-{token} && "
        "exec httpd -f -p 8080 -h /tmp/www"
    )
    cluster.start([pod(name, node_name, [base_image], "IfNotPresent", ["sh", "-c", script])])
    try:
        yield cluster.wait(node, name, "Running")
    finally:
        cluster.delete(name)


def test_logs(
    node: Node, cluster: Cluster, namespace: str, server: dict[str, Any], token: str
) -> None:
    name = server["metadata"]["name"]
    output = cluster.run(f"logs {name} --namespace={namespace}")
    node.check(f"logged-{token}" in output.stdout, f"logged-{token} in the log", output, "kubelet")


def test_log_file_is_cri(node: Node, namespace: str, server: dict[str, Any], token: str) -> None:
    """Collectors find the line in CRI's format, in a file and not a link to docker's JSON."""
    name, uid = server["metadata"]["name"], server["metadata"]["uid"]
    path = f"/var/log/pods/{namespace}_{name}_{uid}/c0/0.log"
    output = node.run(f"test ! -L {path} && cat {path}")
    node.check(f" stdout F logged-{token}" in output.stdout, "a log line as CRI has it", output)


def test_exec(
    node: Node, cluster: Cluster, namespace: str, server: dict[str, Any], token: str
) -> None:
    name = server["metadata"]["name"]
    output = cluster.run(
        f"exec {name} --namespace={namespace} -- sh -c 'cat /tmp/www/token; hostname'"
    )
    node.check(
        output.rc == 0 and output.stdout.split() == [f"served-{token}", name],
        f"served-{token} and {name}",
        output,
        "kubelet",
        "containerd",
    )


def test_port_forward(
    node: Node, cluster: Cluster, namespace: str, server: dict[str, Any], token: str
) -> None:
    name = server["metadata"]["name"]
    forward = (
        f"{cluster.kubectl_command} port-forward --address=127.0.0.1 --namespace={namespace}"
        f" pod/{name} :8080"
    )
    output = cluster.node.run(f"timeout 60 python3 -c {shlex.quote(PORT_FORWARD)} {forward}")
    wanted = f"served-{token}"
    node.check(output.stdout.strip() == wanted, wanted, output, "kubelet", "containerd")


@pytest.fixture(scope="module")
def registry_image(settings: Settings) -> str:
    if not settings.registry_image:
        pytest.skip("verify_registry_image is not set")
    return settings.registry_image


def test_pull_from_the_registry(
    node: Node,
    cluster: Cluster,
    node_name: str,
    namespace: str,
    registry_image: str,
    probe: tuple[str, ...],
    token: str,
) -> None:
    """containerd pulls from the registry that was docker's, by what was translated for it."""
    image = registry_image
    was_there = full_name(image) in stored_images(node)
    name = f"pull-{token}"
    cluster.start([probe_pod(name, node_name, [image], "Always", probe)])
    try:
        cluster.wait(node, name, "Succeeded")
        events = cluster.kubectl(
            f"get events --namespace={namespace} --output=json"
            f" --field-selector=involvedObject.name={name},reason=Pulled"
        )
        messages = [event["message"] for event in json.loads(events)["items"]]
        node.check(
            any(message.startswith("Successfully pulled image") for message in messages),
            f"an event that {image} was pulled",
            messages,
            "containerd",
        )
    finally:
        cluster.delete(name)
        if not was_there:
            forget_image(node, image)

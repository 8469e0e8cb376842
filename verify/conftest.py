# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the verification. Every test runs once for each host."""

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
import time
from collections.abc import Iterator
from typing import Any

import pytest
import testinfra
from nodes import STATE_DIR, Cluster, Node, Settings, flags, forget_image, full_name, stored_images
from testinfra.host import Host
from testinfra.utils.ansible_runner import AnsibleRunner

ORDER = ("test_runtime", "test_workloads", "test_cri", "test_builds")
PROBES = (("buildctl", "--version"), ("kubeadm", "version"), ("kubectl", "version", "--client"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", help="write each test's outcome to this file, as JSON")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the rest stands on comes first."""
    items.sort(key=lambda item: ORDER.index(item.path.stem))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The outcomes as the role verify wants them, in the order they came."""
    path = config.getoption("--results")
    if not path:
        return
    stats = terminalreporter.stats
    reports = [
        (outcome, report)
        for outcome in ("passed", "failed", "skipped", "error")
        for report in stats.get(outcome, [])
    ]
    reports.sort(key=lambda pair: pair[1].start)
    results = []
    failures = []
    lines = []
    for outcome, report in reports:
        seconds = round(report.duration, 2)
        line = f"{outcome:<7} {seconds:6.2f} s  {report.nodeid}"
        if outcome == "skipped":
            line += f": {report.longrepr[2].removeprefix('Skipped: ')}"
        if outcome in ("failed", "error"):
            failures.append({"name": report.nodeid, "text": report.longreprtext})
        lines.append(line)
        results.append({"name": report.nodeid, "outcome": outcome, "seconds": seconds})
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"results": results, "failures": failures, "lines": lines}, file)


def _variables(host: Host) -> dict[str, Any]:
    """The host's variables, where Ansible's inventory knows it."""
    with contextlib.suppress(RuntimeError, NotImplementedError):
        return dict(host.ansible.get_variables())
    return {}


@contextlib.contextmanager
def _as_root(host: Host) -> Iterator[Host]:
    if host.run("id -u").stdout.strip() == "0":
        yield host
    else:
        with host.sudo():
            yield host


@pytest.fixture(scope="module")
def settings(host: Host) -> Settings:
    return Settings.of(_variables(host))


@pytest.fixture(scope="module")
def node(host: Host) -> Iterator[Node]:
    """The machine under test, as root."""
    name = _variables(host).get("inventory_hostname") or host.backend.hostname
    with _as_root(host):
        yield Node(host, str(name))


@pytest.fixture(scope="module")
def kubelet(node: Node) -> list[str]:
    """The kubelet's real command line."""
    if not node.has_unit("kubelet.service"):
        pytest.skip(f"{node.name} has no kubelet")
    return node.command_line("kubelet.service")


@pytest.fixture(scope="module")
def cluster(
    request: pytest.FixtureRequest, host: Host, node: Node, kubelet: list[str], settings: Settings
) -> Iterator[Cluster]:
    """kubectl: on verify_kubectl_host, else the first control-plane node, else this node."""
    groups = _variables(host).get("groups", {})
    name = settings.kubectl_host or next(iter(groups.get("kube_control_plane", [])), "")
    if not name or name == node.name:
        yield Cluster(node, settings)
        return
    inventory = request.config.getoption("ansible_inventory")
    other = AnsibleRunner.get_runner(inventory).get_host(name)
    if other is None:
        other = testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory)
    with _as_root(other):
        yield Cluster(Node(other, name), settings)


@pytest.fixture(scope="module")
def node_name(node: Node, cluster: Cluster, kubelet: list[str]) -> str:
    """The node's name in the cluster."""
    known = {item["metadata"]["name"]: item for item in cluster.get("nodes")["items"]}
    override = flags(kubelet).get("hostname-override")
    for name in (override, node.sh("uname -n").strip().lower()):
        if name and name in known:
            return name
    machine = (node.text("/etc/machine-id") or "").strip()
    same = [n for n, item in known.items() if item["status"]["nodeInfo"]["machineID"] == machine]
    node.check(len(same) == 1, "a node of the cluster", f"none of {sorted(known)}", "kubelet")
    return str(same[0])


@pytest.fixture(scope="module")
def before(node: Node) -> dict[str, Any]:
    """What the migration recorded of this node before it changed anything."""
    text = node.text(f"{STATE_DIR}/before.json")
    if text is None:
        # A migration that left its journal and no record of before would hide what it lost.
        node.check(
            node.text(f"{STATE_DIR}/switch.json") is None,
            f"{STATE_DIR}/before.json, as this node was migrated",
            "a journal of the switch, and no record of the time before",
        )
        pytest.skip(f"{node.name} was not migrated: it has no {STATE_DIR}/before.json")
    record: dict[str, Any] = json.loads(text)
    return record


@pytest.fixture(scope="module")
def buildkit(node: Node, settings: Settings) -> str:
    """The command buildctl, where BuildKit is wanted."""
    if not settings.buildkit:
        pytest.skip("verify_buildkit is false")
    node.check(
        node.has_unit("buildkit.service"),
        "BuildKit (set verify_buildkit to false where it is not wanted)",
        "no buildkit.service",
    )
    return "buildctl --addr=unix:///run/buildkit/buildkitd.sock"


@pytest.fixture(scope="module")
def token(node: Node) -> str:
    """Something that nobody can have written before, and another for each node."""
    return secrets.token_hex(8)


@pytest.fixture(scope="module")
def tmp_dir(node: Node) -> Iterator[str]:
    """A directory on the node, removed afterwards."""
    path = node.sh("mktemp --directory").strip()
    yield path
    node.run(f"rm -rf {shlex.quote(path)}")


@pytest.fixture(scope="session")
def _namespaces(request: pytest.FixtureRequest) -> Iterator[dict[str, Cluster]]:
    """The namespaces that were made, by name; removed with all in them when all tests are done."""
    made: dict[str, Cluster] = {}
    yield made
    for name, cluster in made.items():
        with _as_root(cluster.node.host):
            cluster.kubectl(f"delete namespace {name} --timeout={cluster.settings.timeout:.0f}s")


@pytest.fixture(scope="module")
def namespace(
    node: Node, cluster: Cluster, settings: Settings, _namespaces: dict[str, Cluster]
) -> str:
    """A namespace for the tests' pods."""
    name = settings.namespace
    if name in _namespaces:
        return name
    # Of an earlier run that was interrupted, perhaps.
    cluster.kubectl(f"delete namespace {name} --ignore-not-found --timeout=60s")
    _namespaces[name] = cluster
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                # Some of the pods mount a program from the node.
                "labels": {"pod-security.kubernetes.io/enforce": "privileged"},
            },
        }
    )
    deadline = time.monotonic() + settings.timeout
    while (account := cluster.run(f"get serviceaccount default --namespace={name}")).rc:
        node.check(time.monotonic() < deadline, "a service account", account, "kubelet")
        time.sleep(0.3)
    return name


@pytest.fixture(scope="module")
def base_image(node: Node, settings: Settings) -> Iterator[str]:
    """A small image with a shell; removed afterwards where it was not there before."""
    was_there = full_name(settings.base_image) in stored_images(node)
    yield settings.base_image
    if not was_there:
        forget_image(node, settings.base_image)


@pytest.fixture(scope="module")
def probe(node: Node) -> tuple[str, ...]:
    """A static program that is on the node anyway, with harmless arguments.

    It is mounted into containers in place of an image's own program: so even an image without a
    shell can be tried, and nothing that the image does when it starts can do harm.
    """
    for program, *arguments in PROBES:
        path = node.run(f"command -v {program}").stdout.strip()
        # ldd fails on a static program.
        if path and node.run(f"ldd {path}").rc:
            return (path, *arguments)
    pytest.skip(f"{node.name} has no static program to try images with")

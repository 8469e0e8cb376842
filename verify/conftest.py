# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the verification. Every test runs once for each host."""

from __future__ import annotations

import contextlib
import datetime
import json
import secrets
import shlex
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import PurePath
from typing import Any

import proof
import pytest
import testinfra
from nodes import STATE_DIR, Cluster, Node, Settings, flags, forget_image, full_name, stored_images
from testinfra.host import Host
from testinfra.utils.ansible_runner import AnsibleRunner

ORDER = ("test_runtime", "test_workloads", "test_cri", "test_builds")
PROBES = (("buildctl", "--version"), ("kubeadm", "version"), ("kubectl", "version", "--client"))
#: On each namespace of ours, with the run's own value.
LABEL = "homelab.containerd/verify"
PREFIX = "homelab-containerd-verify-"
#: A namespace of ours that is older is of a run that was killed.
LEFTOVER = datetime.timedelta(hours=6)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", help="write each test's outcome to this file, as JSON")
    parser.addoption("--run-id", default="", help="what the file of results has to say")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Recorder(config), "homelab-containerd-recorder")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the rest stands on comes first."""
    items.sort(key=lambda item: ORDER.index(item.path.stem))


class Recorder:
    """Notes what each test said, and fails a run that proves nothing."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.reports: dict[str, list[pytest.TestReport]] = {}
        self.not_run: list[str] = []
        self.failures: list[dict[str, str]] = []
        self.problems: list[tuple[str, str]] = []

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self.not_run += [item.nodeid for item in items]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self.not_run.append(report.nodeid)
            self.failures.append({"name": report.nodeid, "text": report.longreprtext})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.setdefault(report.nodeid, []).append(report)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> Generator[None, None, None]:
        """Judge first: the summary is printed by the others, and the exit code is read last."""
        if self.config.option.collectonly:
            return (yield)
        results = [self._result(name, reports) for name, reports in self.reports.items()]
        tests = [_test(result) for result in results]
        try:
            hosts = _hosts(self.config)
        except Exception as exc:
            hosts = {}
            self.problems.append(("", f"the inventory could not be read: {exc}"))
        self.problems += proof.problems(tests, hosts, self.not_run)
        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            self.problems.append(("", f"pytest ended with exit code {int(exitstatus)}"))
        if self.problems and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._write(results, sorted(hosts))
        return (yield)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.problems:
            terminalreporter.section("this is no proof")
            for host, text in self.problems:
                terminalreporter.line(f"{host}: {text}" if host else text)

    def _result(self, name: str, reports: list[pytest.TestReport]) -> dict[str, Any]:
        """One outcome of a test's setup, call and teardown: the worst."""
        outcome, reason = "", ""
        for report in reports:
            if report.failed:
                outcome = "failed" if report.when == "call" else "error"
                self.failures.append({"name": name, "text": report.longreprtext})
            elif outcome in ("failed", "error"):
                continue
            elif hasattr(report, "wasxfail"):
                outcome = "xfailed" if report.skipped else "xpassed"
            elif report.outcome not in ("passed", "skipped"):
                # A plugin's own: a test that is tried again.
                outcome = report.outcome
            elif report.skipped:
                outcome = outcome or "skipped"
                told = report.longrepr
                reason = told[2].removeprefix("Skipped: ") if isinstance(told, tuple) else str(told)
            elif report.when == "call":
                outcome = outcome or "passed"
        return {
            "name": name,
            "outcome": outcome or "not run",
            "seconds": round(sum(report.duration for report in reports), 2),
            "reason": reason,
        }

    def _write(self, results: list[dict[str, Any]], hosts: list[str]) -> None:
        """The outcomes as the role verify wants them, in the order they came."""
        path = self.config.getoption("--results")
        if not path:
            return
        lines = []
        for result in results:
            line = f"{result['outcome']:<7} {result['seconds']:6.2f} s  {result['name']}"
            lines.append(line + (f": {result['reason']}" if result["reason"] else ""))
        for host, text in self.problems:
            name = f"proof[ansible://{host}]" if host else "proof"
            lines.append(f"failed           {name}: {text}")
            self.failures.append({"name": name, "text": text})
            results.append({"name": name, "outcome": "failed", "seconds": 0.0, "reason": text})
        written = {
            "run": self.config.getoption("--run-id"),
            "hosts": hosts,
            "results": results,
            "failures": self.failures,
            "lines": lines,
        }
        with open(path, "w", encoding="utf-8") as file:
            json.dump(written, file)


def _test(result: dict[str, Any]) -> proof.Test:
    """test_cri.py::test_logs[ansible://node1]"""
    file, _colons, rest = result["name"].partition("::")
    name, _bracket, parameter = rest.partition("[")
    host = parameter.removesuffix("]").partition("://")[2]
    kind = PurePath(file).stem.removeprefix("test_")
    return proof.Test(host, kind, name, result["outcome"], result["reason"])


def _hosts(config: pytest.Config) -> dict[str, frozenset[str]]:
    """The hosts that the options name, each with the kinds of tests that it has to pass.

    As testinfra's own pytest_generate_tests reads them: without --hosts, --connection says which.
    """
    found = {}
    option = config.option
    for asked in option.hosts.split(",") if option.hosts else [None]:
        hosts = testinfra.get_hosts(
            [asked], connection=option.connection, ansible_inventory=option.ansible_inventory
        )
        if not hosts:
            name = str(asked or option.connection)
            found[name.partition("://")[2] or name] = proof.KINDS
        for host in hosts:
            variables = _variables(host)
            name = host.backend.get_pytest_id().partition("://")[2]
            found[name] = proof.expected_kinds(
                variables.get("group_names", []), Settings.of(variables).buildkit
            )
    return found


def _variables(host: Host) -> dict[str, Any]:
    """The host's variables, where it comes from Ansible's inventory."""
    return dict(host.ansible.get_variables()) if host.backend.HAS_RUN_ANSIBLE else {}


@contextlib.contextmanager
def _as_root(host: Host) -> Iterator[Host]:
    if host.run("id -u").stdout.strip() == "0":
        yield host
        return
    with host.sudo():
        # Without root little is found, and it would look as if it were not there.
        user = host.run("id -u")
        if user.stdout.strip() != "0":
            pytest.fail(
                f"{host.backend.get_pytest_id()}: the tests have to be root on the node, and sudo"
                f" failed: {(user.stderr or user.stdout).strip()}. Check the user and the become"
                " settings of the inventory, or give ansible-playbook the password with -K.",
                pytrace=False,
            )
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
def kubelet(node: Node, host: Host) -> list[str]:
    """The kubelet's real command line."""
    if not node.has_unit("kubelet.service"):
        groups = sorted(set(_variables(host).get("group_names", [])) & set(proof.GROUPS))
        node.check(
            not groups,
            f"a kubelet, as the inventory has the node in {' and '.join(groups)}",
            "no kubelet.service",
        )
        pytest.skip(
            f"{node.name} has no kubelet, and is neither in kube_control_plane nor in kube_node"
        )
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
def _namespaces() -> Iterator[dict[str, Cluster]]:
    """The clusters where this run made its namespace, by the node of kubectl.

    It is removed when all tests are done, by the run's label: whatever has not got it is not ours.
    """
    made: dict[str, Cluster] = {}
    yield made
    for cluster in made.values():
        with _as_root(cluster.node.host):
            cluster.kubectl(
                f"delete namespace --selector={LABEL}={cluster.namespace.removeprefix(PREFIX)}"
                f" --timeout={cluster.settings.timeout:.0f}s"
            )


def _delete_leftovers(cluster: Cluster) -> None:
    """Remove the namespaces of runs that were killed. Their age is told by the API's own clock."""
    made = cluster.get(f"namespace {cluster.namespace}")
    for other in cluster.get(f"namespaces --selector={LABEL}")["items"]:
        metadata = other["metadata"]
        age = _created(made) - _created(other)
        # Somebody may have copied our label; and a run beside this one needs its namespace.
        ours = metadata["name"] == PREFIX + metadata["labels"][LABEL]
        if ours and age > LEFTOVER:
            cluster.kubectl(f"delete namespace {metadata['name']} --wait=false")


def _created(item: dict[str, Any]) -> datetime.datetime:
    text = item["metadata"]["creationTimestamp"]
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def namespace(node: Node, cluster: Cluster, _namespaces: dict[str, Cluster]) -> str:
    """A namespace for the tests' pods, of this run alone."""
    earlier = _namespaces.get(cluster.node.name)
    if earlier:
        cluster.namespace = earlier.namespace
        return cluster.namespace
    run = secrets.token_hex(6)
    cluster.namespace = PREFIX + run
    # Before it is made, so that it is removed even if the answer is lost.
    _namespaces[cluster.node.name] = cluster
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": cluster.namespace,
                "labels": {
                    LABEL: run,
                    # Some of the pods mount a program from the node.
                    "pod-security.kubernetes.io/enforce": "privileged",
                },
            },
        }
    )
    _delete_leftovers(cluster)
    deadline = time.monotonic() + cluster.settings.timeout
    get_account = f"get serviceaccount default --namespace={cluster.namespace}"
    while (account := cluster.run(get_account)).rc:
        node.check(time.monotonic() < deadline, "a service account", account, "kubelet")
        time.sleep(0.3)
    return cluster.namespace


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
    node.sh("command -v ldd")
    for program, *arguments in PROBES:
        path = node.run(f"command -v {program}").stdout.strip()
        # ldd fails on a static program.
        if path and node.run(f"ldd {path}").rc:
            return (path, *arguments)
    names = ", ".join(program for program, *_arguments in PROBES)
    node.fail("a static program to try images with", f"none of {names} is one")

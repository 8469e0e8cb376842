# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Recorded facts, and what the functions really return, against the contracts."""

from __future__ import annotations

import pathlib
import re
import typing as t

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._docker import clients
from ansible_collections.homelab.containerd.plugins.module_utils._facts import docker
from ansible_collections.homelab.containerd.plugins.module_utils._host import paths
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import workloads
from ansible_collections.homelab.containerd.plugins.module_utils._switch import journal
from ansible_collections.homelab.containerd.plugins.modules import node_runtime_info
from ansible_collections.homelab.containerd.plugins.plugin_utils import contracts
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan import before_snapshot
from support import ROOT, mismatches


@pytest.mark.parametrize("runtime", ["dockershim", "containerd"])
def test_recorded_facts(recorded, runtime):
    found = recorded("runtime_info-%s.json" % runtime)
    assert mismatches(found, contracts.NodeFacts) == []


def test_facts_of_this_machine():
    """Whatever is installed here: the form is the same."""
    found = node_runtime_info.look(set(node_runtime_info.SUBSETS), "/no/docker.sock", "/no")
    assert mismatches(found, contracts.NodeFacts) == []


def test_facts_of_a_docker_that_answers(engine, program):
    program("dockerd", "exit 0")
    program("systemctl", "echo BindsTo=containerd.service")
    found = docker.docker_facts(engine.path)
    assert mismatches(found, contracts.DockerFacts) == []
    every = set(t.get_type_hints(contracts.DockerFacts))
    assert set(found) == every
    assert found["containers"] and found["images"]


def test_each_subset_has_its_contract():
    assert set(t.get_type_hints(contracts.NodeFacts)) == set(node_runtime_info.SUBSETS)


def test_users_of_docker(tmp_path):
    place = tmp_path / "etc/cron.d"
    place.mkdir(parents=True)
    (place / "clean").write_text("0 3 * * * root docker system prune -f\n")
    found = clients.calling_files(str(tmp_path))
    assert found and mismatches(found, list[contracts.DockerCallInFile]) == []


def test_cluster_facts(recorded):
    answer = recorded("kubernetes-1.23.17/cluster.json")
    pod = next(item for item in answer["items"] if item["kind"] == "Pod")
    volume = {"name": "socket", "hostPath": {"path": "/var/run/docker.sock"}}
    pod["metadata"]["ownerReferences"] = []
    pod["spec"]["volumes"] = [volume, {"name": "cache", "emptyDir": {}}]
    answer["items"].append(
        {"kind": "PodDisruptionBudget", "metadata": {"namespace": "home", "name": "db"}}
    )
    found = workloads.look(answer)
    for part in ("nodes", "users", "budgets", "bare_pods", "local_storage"):
        assert found[part], part
    assert mismatches(found, contracts.ClusterFacts) == []
    assert mismatches(workloads.look({}, "no answer"), contracts.ClusterFacts) == []


def test_the_journal(tmp_path):
    host = Host(str(tmp_path))
    written = journal.Journal(host)
    written.begin("containerd", {paths.KUBEADM_FLAGS[0]: "after"}, {paths.KUBEADM_FLAGS[0]: None})
    written.step("stop kubelet")
    written.finish("done")
    data = journal.parse(host.read_text(paths.JOURNAL))
    assert mismatches(data, contracts.JournalData) == []
    assert mismatches(written.timings(), list[contracts.SwitchStep]) == []
    assert mismatches(journal.journal_facts(host), contracts.JournalFacts) == []


def test_the_snapshot_of_before(recorded, facts):
    item = {"namespace": "home", "pod": "web", "command": ["id"]}
    found = before_snapshot.before_snapshot(
        recorded("kubernetes-1.23.17/pods.json"),
        facts,
        recorded("kubernetes-1.23.17/nodes.json")["items"][0],
        [{"item": item, "stdout": "uid=0"}],
    )
    assert found["pods"] and found["owner_containers"] and found["local_only_images"]
    assert mismatches(found, contracts.BeforeSnapshot) == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"members": 1}, [".ready is missing"]),
        ({"members": 1, "ready": 1, "left": 0}, [".left is in no contract"]),
        ({"members": True, "ready": 1}, [".members is True, not <class 'int'>"]),
        ({"members": None, "ready": 1}, [".members is None, not <class 'int'>"]),
        ([], [" is no EtcdMembers"]),
    ],
)
def test_the_check_itself_sees_what_is_wrong(value, said):
    assert mismatches(value, contracts.EtcdMembers) == said


def keys(contract: t.Any) -> set[str]:
    """The keys of a TypedDict and of all those in it."""
    if t.is_typeddict(contract):
        hints = t.get_type_hints(contract)
        return set(hints).union(*map(keys, hints.values()))
    return set().union(*map(keys, t.get_args(contract)))


@pytest.mark.parametrize("contract", [contracts.NodeFacts, contracts.ClusterFacts])
def test_somebody_reads_each_fact(contract):
    folders = ("plugins", "roles", "playbooks", "verify", "molecule")
    makers = ("plugins/module_utils/_facts/", "plugins/plugin_utils/contracts.py")
    texts = [
        path.read_text(encoding="utf-8")
        for folder in folders
        for path in pathlib.Path(ROOT, folder).rglob("*")
        if path.suffix in (".py", ".yml", ".j2")
        and not str(path.relative_to(ROOT)).startswith(makers)
    ]
    # As an attribute, or as a string that is not a key of a dict that is being made.
    pattern = r"""\.(\w+)|[\[(,]\s*["'](\w+)["'](?!\s*:)"""
    read = {word for words in re.findall(pattern, "\n".join(texts)) for word in words}
    assert keys(contract) - read == set()

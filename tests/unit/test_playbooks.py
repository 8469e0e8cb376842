# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks, run by ansible-playbook as far as they get without a node."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import typing as t

import pytest
import yaml
from support import ROOT

CHECK = "check_inventory"
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml") if path.stem != CHECK)
#: What of migrate runs with each tag, besides what always does.
PHASES = {
    "assess": [],
    "prepare": ["Prepare the nodes"],
    # Never without what prepares the nodes for it.
    "switch": ["Prepare the nodes", "Switch the control plane", "Switch the other nodes"],
    "buildkit": ["Install BuildKit"],
    "verify": ["Verify the nodes"],
    "retire": ["Retire docker"],
    "report": ["Show what happened"],
}
ALWAYS = ["Check the inventory", "Check the options", "Assess the nodes"]
PROTECTS = [
    "Check the groups of the inventory",
    "Check the options of all roles",
    "homelab.containerd.assess : Look at the node",
    "homelab.containerd.assess : Look at the cluster",
    "Fail if something blocks the migration, before anything is changed",
]


class Run(t.NamedTuple):
    rc: int
    said: str


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> t.Callable[..., list[Run]]:
    """Run several command lines at the same time, with one inventory of groups."""
    directory = tmp_path_factory.mktemp("playbooks")
    program = pathlib.Path(sys.executable).with_name("ansible-playbook")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    }

    def run(groups: dict[str, list[str]], *commands: list[str]) -> list[Run]:
        children = {name: {"hosts": dict.fromkeys(hosts)} for name, hosts in groups.items()}
        # Nobody answers there, should a node be asked all the same.
        variables = {"ansible_host": "192.0.2.1", "ansible_ssh_timeout": 1}
        inventory = directory / "inventory.yml"
        inventory.write_text(yaml.safe_dump({"all": {"vars": variables, "children": children}}))

        def one(command: list[str]) -> Run:
            done = subprocess.run(
                [str(program), "-i", str(inventory), "homelab.containerd." + command[0]]
                + command[1:],
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            return Run(done.returncode, " ".join(done.stdout.split()))

        with concurrent.futures.ThreadPoolExecutor(max_workers=3) as pool:
            return list(pool.map(one, commands))

    return run


def refused(run: Run, words: str) -> bool:
    """Whether it failed with these words, and before a node was asked."""
    return run.rc == 2 and words in run.said and "UNREACHABLE" not in run.said


def test_a_misspelt_group_is_refused_by_every_playbook(play):
    groups = {"kube_control_plane": ["cp1"], "kube_nodes": ["cp1", "worker1"]}
    for name, run in zip(PLAYBOOKS, play(groups, *([name] for name in PLAYBOOKS)), strict=True):
        assert refused(run, "Rename it to kube_node,"), (name, run.said)


def test_hosts_and_limits(play):
    """buildkit has hosts of its own; --limit leaves localhost's play out."""
    typo, limited = play(
        {"kube_control_plane": ["cp1"], "kube_nodes": ["worker1"], "builders": ["b1"]},
        ["buildkit", "-e", "buildkit_hosts=biulders"],
        ["migrate", "--limit", "cp1"],
    )
    assert refused(typo, "Did you mean builders?"), typo.said
    assert refused(limited, "Rename it to kube_node,"), limited.said


def test_a_single_node_needs_no_kube_node(play):
    checks = '{"check_roles": ["build"]}'
    (run,) = play({"kube_control_plane": ["cp1"]}, [CHECK, "-e", checks])
    assert run.rc == 0, run.said


def test_bad_options_are_refused_before_a_node_is_looked_at(play):
    bad = {
        "switch_runtime_grace_seconds=soon": "whole number",
        "verify_timeout=soon": "whole number",
        "retire_docker_packages=docker.io": "is not a list",
        "migrate_serial=abc": "number from 1",
        "switch_runtime_graceseconds=3": "Did you mean switch_runtime_grace_seconds?",
    }
    words = [word for option in bad for word in ("-e", option)]
    groups = {"kube_control_plane": ["cp1"], "kube_node": ["cp1"]}
    (run,) = play(groups, ["migrate", "--skip-tags", "prepare", *words])
    for option, said in bad.items():
        assert refused(run, said) and option.partition("=")[0] in run.said, (option, run.said)
    # Nodes that are not prepared are not to be switched.
    assert "--skip-tags prepare would leave out what protects" in run.said


def test_no_tag_skips_what_protects(play):
    groups = {"kube_control_plane": ["cp1"], "kube_node": ["cp1", "worker1"]}
    (run,) = play(groups, ["migrate", "--list-tasks"])
    plays = re.findall(
        r"play #\d+ \([^)]*\): (.*?) TAGS: .*? tasks: (.*?) (?=play #|$)", run.said + " "
    )
    assert len(plays) == len(re.findall("play #", run.said))
    tasks = [
        (name, task, set(tags.split(", ")))
        for name, listed in plays
        for task, tags in re.findall(r"(.*?) TAGS: \[(.*?)\] ?", listed)
    ]
    for tag, phases in PHASES.items():
        chosen = [(name, task) for name, task, tags in tasks if tags & {tag, "always"}]
        ran = list(dict.fromkeys(name for name, _task in chosen))
        assert len(ran) == len(ALWAYS + phases), (tag, ran)
        assert all(map(str.startswith, ran, ALWAYS + phases)), (tag, ran)
        assert set(PROTECTS) <= {task for _name, task in chosen}


def roles_of(value: t.Any) -> t.Iterator[str]:
    """The collection's roles that a playbook uses."""
    for entry in value or []:
        for word in ("import_role", "include_role"):
            yield from [task["name"] for task in [entry.get("ansible.builtin." + word)] if task]
        yield from (role["role"] for role in entry.get("roles") or [])
        yield from roles_of(entry.get("tasks"))


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_playbook_checks_the_options_of_the_roles_it_uses(name):
    first, *plays = yaml.safe_load((ROOT / "playbooks" / (name + ".yml")).read_text())
    assert first["ansible.builtin.import_playbook"] == CHECK + ".yml"
    used = {role.removeprefix("homelab.containerd.") for role in roles_of(plays)}
    assert set(first["vars"]["check_roles"]) == used


def test_the_docs_have_every_option_of_the_playbooks():
    page = (ROOT / "docs/playbooks.md").read_text()
    specs = yaml.safe_load((ROOT / "meta/argument_specs.yml").read_text())
    for option in specs["argument_specs"]["playbooks"]["options"]:
        assert "| `%s` |" % option in page
    for tag in PHASES:
        assert "| `%s` |" % tag in page

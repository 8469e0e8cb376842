# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What counts as a proof: the judge alone, and pytest with it over tests of every outcome."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys

import proof
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT

HOSTS = ("n1", "n2")
NAMES = [(kind, f"test_{kind}_{number}") for kind in sorted(proof.KINDS) for number in (1, 2)]
ALLOWED = "verify_probes named nothing to compare when this node was migrated"
GOOD = {("passed", ""), ("skipped", ALLOWED)}
OUTCOMES = [
    *sorted(GOOD),
    ("skipped", "cannot be tested today"),
    ("xfailed", ""),
    ("xpassed", ""),
    ("rerun", ""),
    ("not run", ""),
    ("failed", ""),
    ("error", ""),
    None,
]
tables = st.fixed_dictionaries(
    {(host, *name): st.sampled_from(OUTCOMES) for host in HOSTS for name in NAMES}
)


@given(tables, st.sets(st.sampled_from(sorted(proof.KINDS))))
def test_only_a_whole_table_is_a_proof(table, kinds):
    """Each test of each host passed or is skipped for a listed reason, and a kind passed once."""
    tests = [
        proof.Test(host, kind, name, *cell) for (host, kind, name), cell in table.items() if cell
    ]
    found = proof.problems(tests, dict.fromkeys(HOSTS, frozenset(kinds)), [])
    proven = not found and not any(test.failed for test in tests)
    every = {key[1:] for key, cell in table.items() if cell}
    whole = {kind for kind, _name in every} == proof.KINDS and all(
        table[(host, *name)] in GOOD for host in HOSTS for name in every
    )
    passed = all(
        any(table[(host, *name)] == ("passed", "") for name in NAMES if name[0] in group)
        for host in HOSTS
        for group in [*([kind] for kind in kinds), proof.KINDS]
    )
    assert proven == (whole and passed)


def good():
    return [proof.Test(host, *name, "passed") for host in HOSTS for name in NAMES]


def test_a_host_is_not_lost_and_none_comes_in():
    hosts = dict.fromkeys(HOSTS, proof.KINDS)
    assert proof.problems(good(), hosts, []) == []
    assert proof.problems([test for test in good() if test.host == "n1"], hosts, []) == [
        ("n2", "it was not tested")
    ]
    assert ("n2", "it was tested, and was not to be") in proof.problems(
        good(), {"n1": proof.KINDS}, []
    )
    assert ("", "no host was to be tested") in proof.problems([], {}, [])
    assert proof.problems(good(), hosts, ["x"]) == [("", "x was not run")]


def test_every_skip_of_the_tests_is_listed_and_every_listed_one_is_used():
    told = []
    for path in (ROOT / "verify").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.skip":
                value = ast.unparse(call.args[0])
                # What is filled in is a word.
                told.append(re.sub(r"\{[^}]*\}", "x", ast.literal_eval(value.removeprefix("f"))))
    for reason in told:
        assert any(pattern.fullmatch(reason) for pattern in proof.SKIPS), reason
    for pattern in proof.SKIPS:
        assert any(pattern.fullmatch(reason) for reason in told), pattern


PASS = "def test_one(host): pass\n"
MODULES = {f"test_{kind}.py": PASS for kind in sorted(proof.KINDS)}


@pytest.fixture
def session(tmp_path):
    """pytest with verify's conftest.py over other tests."""
    for name in ("conftest.py", "nodes.py", "proof.py", "pytest.ini"):
        shutil.copy(ROOT / "verify" / name, tmp_path)

    (tmp_path / "inventory.ini").write_text("[kube_node]\nn1 ansible_connection=local\n")

    def run(modules, *arguments, hosts="--hosts=ansible://n1"):
        for name, text in modules.items():
            (tmp_path / name).write_text("import pytest\n" + text)
        command = [sys.executable, "-m", "pytest", str(tmp_path), f"--rootdir={tmp_path}"]
        command += [f"--config-file={tmp_path}/pytest.ini", hosts, "--run-id=this"]
        command += [f"--ansible-inventory={tmp_path}/inventory.ini"]
        command += [f"--results={tmp_path}/results.json", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        results = tmp_path / "results.json"
        return done, json.loads(results.read_text()) if results.exists() else None

    return run


@pytest.mark.parametrize("hosts", ["--hosts=ansible://n1", "--connection=ansible"])
def test_a_session_that_proves(session, hosts):
    """The second is how molecule's verifier calls pytest."""
    done, results = session(MODULES, hosts=hosts)
    assert done.returncode == 0, done.stdout
    assert results["run"] == "this"
    assert results["failures"] == []
    assert results["hosts"] == ["n1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PASS + "def test_x(host): pytest.skip('later')\n", "test_x was skipped: later"),
        ("@pytest.mark.skip\n" + PASS, "test_one was skipped"),
        (
            PASS + "@pytest.mark.xfail\ndef test_x(host): assert 0\n",
            "test_x proves nothing: xfailed",
        ),
        (PASS + "@pytest.mark.xfail\ndef test_x(host): pass\n", "test_x proves nothing: xpassed"),
        (
            PASS + "@pytest.mark.parametrize('a', [])\ndef test_x(host, a): pass\n",
            "Empty parameter set",
        ),
        ("", "no test of the kind cri"),
        ("import nowhere\n", "nowhere"),
        ("pytest.skip('all', allow_module_level=True)\n", "test_cri.py was not run"),
        (
            PASS + "@pytest.fixture\ndef f():\n    yield\n    assert 0, 'late'\n"
            "def test_x(host, f): pass\n",
            "late",
        ),
        (PASS + "def test_x(host): pytest.exit('stop', returncode=0)\n", "test_x"),
        (f"def test_one(host): pytest.skip({ALLOWED!r})\n", "no test of the kind cri passed"),
    ],
)
def test_a_session_that_proves_nothing(session, text, said):
    done, results = session(MODULES | {"test_cri.py": text})
    assert done.returncode != 0, done.stdout
    assert said in done.stdout
    assert results is None or results["failures"]


def test_a_selection_is_no_proof(session):
    done, results = session(MODULES, "-k", "not cri")
    assert done.returncode == 1
    assert "test_cri.py::test_one[ansible://n1] was not run" in done.stdout, done.stdout


def test_a_host_that_the_inventory_does_not_know(session):
    done, results = session(MODULES, hosts="--hosts=ansible://n1,ansible://n2")
    assert done.returncode == 1
    assert {"name": "proof[ansible://n2]", "text": "it was not tested"} in results["failures"]
    assert results["hosts"] == ["n1", "n2"]

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""tests/parts.py: which parts run, and what counts as passed for this content."""

from __future__ import annotations

import importlib.util
import subprocess

import pytest
from support import ROOT

spec = importlib.util.spec_from_file_location("parts", ROOT / "tests/parts.py")
assert spec and spec.loader
parts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parts)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with one file of code and one of prose."""
    place = tmp_path / "checkout"
    place.mkdir()
    subprocess.run(["git", "init", "--quiet", place], check=True)
    (place / "code.py").write_text("1")
    (place / "page.md").write_text("1")
    monkeypatch.setattr(parts, "ROOT", place)
    monkeypatch.setattr(parts, "CACHE", tmp_path)
    monkeypatch.setattr(parts, "PASSED", tmp_path / "passed")
    monkeypatch.delenv("ONLY", raising=False)
    monkeypatch.setenv("RESUME", "1")
    monkeypatch.chdir(place)
    return place


def ran(root, name, script=":", program=("pytest",)):
    """How often a part ran, of two times; each adds a letter to an ignored file."""
    (root / ".git/info/exclude").write_text("runs")
    for _time in range(2):
        parts.run(name, ["sh", "-c", "printf x >>runs; " + script, *program])
    return len((root / "runs").read_text()) if (root / "runs").exists() else 0


def test_what_passed_is_skipped(root):
    assert ran(root, "a") == 1


def test_what_failed_runs_again(root):
    assert ran(root, "a", "exit 1") == 2


def test_without_resume_it_runs_again(root, monkeypatch):
    monkeypatch.setenv("RESUME", "")
    assert ran(root, "a") == 2


def test_other_content_runs_again(root):
    assert ran(root, "a") == 1
    (root / "code.py").write_text("2")
    assert ran(root, "a") == 2
    (root / "page.md").write_text("2")
    assert ran(root, "a") == 3


def test_a_scenario_reads_code_and_itself_alone(root):
    def write(name, text):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    for name in ("one", "two", "three", "shared"):
        write(f"molecule/{name}/molecule.yml", "")
    write("molecule/one/molecule.yml", "create: ../two/create.yml\nprepare: ../shared/prepare.yml")
    runs = 1
    for name, matters in [
        ("page.md", False),
        ("tests/unit/test_code.py", False),
        ("molecule/three/molecule.yml", False),
        ("molecule/two/create.yml", True),
        ("molecule/shared/prepare.yml", True),
        ("molecule/one/verify.yml", True),
        ("code.py", True),
    ]:
        assert ran(root, "a", program=("molecule", "test", "-s", "one")) == runs
        write(name, "changed")
        runs += matters
    assert ran(root, "a", program=("molecule", "test", "-s", "one")) == runs


def test_what_was_edited_while_it_ran_is_not_remembered(root):
    assert ran(root, "a", "printf x >>code.py") == 2


def test_only(root, monkeypatch):
    monkeypatch.setenv("ONLY", "b, c")
    assert ran(root, "a") == 0
    assert ran(root, "c") == 1


def test_a_misspelt_part_is_refused(root, capsys):
    known = parts.parts("echo x\npython3 tests/parts.py run a env X=\"-k 'b c'\" pytest\n")
    assert known == [("a", ["env", "X=-k 'b c'", "pytest"])]
    assert parts.check(known, ["a"]) == 0
    assert parts.check(known, ["a", "aa"]) == 1
    assert "ONLY names aa" in capsys.readouterr().err

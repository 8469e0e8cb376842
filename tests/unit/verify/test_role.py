# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook verify, with the real tests, against this machine: it must never say passed.

A systemctl of ours stands for the one of a node that has no such service.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from support import ROOT

BIN = pathlib.Path(sys.executable).parent
TESTS = sorted((ROOT / "verify").glob("test_*.py"))
LOCAL = {"ansible_connection": "local", "ansible_become": False}
OLD = {"run": "old", "hosts": ["n1"], "results": [], "failures": [], "lines": ["all passed"]}


@pytest.fixture
def verify(tmp_path):
    """Run the playbook; what an earlier run left is all passed."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text("#!/bin/sh\necho not-found\n")
    (programs / "systemctl").chmod(0o755)
    (programs / "sudo").write_text('#!/bin/sh\necho "sudo: a password is required" >&2\nexit 1\n')
    (programs / "sudo").chmod(0o755)
    report = tmp_path / "report"
    report.mkdir()
    (report / "n1.json").write_text(json.dumps(OLD))

    def run(*arguments, variables=None, environment=(), hosts=("n1",)):
        group = {"hosts": dict.fromkeys(hosts)}
        inventory = {
            "all": {
                "vars": {
                    "ansible_python_interpreter": sys.executable,
                    "verify_report_dir": str(report),
                    **(LOCAL if variables is None else variables),
                },
                "children": {"kube_control_plane": group, "kube_node": group},
            }
        }
        (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory))
        done = subprocess.run(
            [str(BIN / "ansible-playbook"), "-i", str(tmp_path / "inventory.yml")]
            + ["homelab.containerd.verify", *arguments],
            cwd=tmp_path,
            env={
                "PATH": f"{programs}:{BIN}:{os.environ['PATH']}",
                "HOME": str(tmp_path),
                "TMPDIR": str(tmp_path),
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                **dict(environment),
            },
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=200,
            check=False,
        )
        # The tests' inventory is gone, whatever happened.
        assert not list(tmp_path.glob("homelab-containerd-verify-*"))
        return done.returncode, " ".join(done.stdout.split())

    return run


NO_KUBELET = (
    "expected: a kubelet, as the inventory has the node in kube_control_plane and kube_node"
)


def test_a_host_without_a_kubelet_fails(verify, tmp_path):
    """An option comes from a vault, and the user's environment would leave tests out."""
    (tmp_path / "password").write_text("secret")
    text = subprocess.run(
        [str(BIN / "ansible-vault"), "encrypt_string", "--vault-password-file"]
        + [str(tmp_path / "password"), "no"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    folder = tmp_path / "group_vars"
    folder.mkdir()
    (folder / "all.yml").write_text("verify_buildkit: " + text)
    asked = {"PYTEST_ADDOPTS": "-k nothing -x", "PYTHONOPTIMIZE": "2", "VERIFY_BUILDKIT": "yes"}
    code, said = verify(
        *("--vault-password-file", str(tmp_path / "password"), "--limit", "n1"),
        environment=asked,
        hosts=("n1", "n2"),
    )
    assert code == 2, said
    assert NO_KUBELET in said
    assert "all passed" not in said
    for name in re.findall(r"(?m)^def (test_\w+)", "".join(map(pathlib.Path.read_text, TESTS))):
        assert f"::{name}[ansible://n1]" in said, name
    assert "verify_buildkit is false" in said
    assert "This run tested n1 alone. It says nothing about n2," in said


def test_tests_that_cannot_be_read_are_no_earlier_ones(verify, tmp_path):
    """pytest does not get as far as a test; the results of an earlier run are still there."""
    broken = tmp_path / "site"
    broken.mkdir()
    (broken / "cryptography.py").write_text("raise ImportError('broken')")
    code, said = verify(environment={"PYTHONPATH": str(broken)})
    assert code == 2, said
    # Not before, and not with what an earlier run wrote.
    assert re.search(r"TASK \[homelab.containerd.verify : Run the tests\] \*+ (?!ok)", said), said
    assert "all passed" not in said


def test_without_root_nothing_is_proven(verify, tmp_path):
    """A user who is not root, and a sudo that wants a password."""
    login = tmp_path / "bin/id"
    login.write_text("#!/bin/sh\necho 1000\n")
    login.chmod(0o755)
    code, said = verify()
    assert code == 2, said
    assert "have to be root on the node, and sudo failed: sudo: a password is required" in said
    assert "says nothing about" not in said


@pytest.mark.parametrize("password", [False, True])
def test_what_ansible_knows_of_a_host_reaches_the_tests(tmp_path, password):
    """From a vault and the command line; nothing of it is printed."""
    for name in ("vault", "become"):
        (tmp_path / name).write_text(f"{name}-secret")
    address = subprocess.run(
        [str(BIN / "ansible-vault"), "encrypt_string", "--vault-password-file"]
        + [str(tmp_path / "vault"), "192.0.2.7"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    hosts = "all:\n  hosts:\n    n1:\n      ansible_host: "
    (tmp_path / "inventory.yml").write_text(hosts + address.replace("\n", "\n      "))
    written = tmp_path / "written.json"
    task = {"path": str(written), "groups": ["kube_node"], "variables": {"verify_timeout": "9"}}
    play = {
        "hosts": "all",
        "gather_facts": False,
        "become": True,
        "tasks": [{"homelab.containerd.write_test_inventory": task}],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    command = [str(BIN / "ansible-playbook"), "-vvvi", str(tmp_path / "inventory.yml")]
    command += [str(tmp_path / "play.yml"), "--user=admin", f"--vault-id={tmp_path}/vault"]
    command += [f"--become-password-file={tmp_path}/become"] if password else []
    done = subprocess.run(
        command,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        },
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "-secret" not in done.stdout
    assert ("native: false" in done.stdout) == password, done.stdout
    assert written.stat().st_mode & 0o777 == 0o600
    content = json.loads(written.read_text())["all"]
    assert content["children"] == {"kube_node": {"hosts": {"n1": {}}}}
    host = content["hosts"]["n1"]
    wanted = {
        "ansible_connection": "ssh",
        "ansible_host": "192.0.2.7",
        "ansible_user": "admin",
        "ansible_become": True,
        "verify_timeout": "9",
    }
    assert wanted.items() <= host.items(), host
    assert ("become-secret" in host.values()) == password

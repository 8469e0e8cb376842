# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin show_report, run by ansible-playbook as a playbook does."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import report_samples as samples
from support import ROOT

PLAY = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    homelab.containerd.show_report:
      plans: "{{ plans }}"
      cluster: "{{ cluster }}"
      directory: "{{ playbook_dir }}/made/by it"
  tasks:
    - homelab.containerd.show_report:
      register: shown
    - homelab.containerd.show_report:
        directory: "{{ playbook_dir }}/not made"
      check_mode: true
      register: checked
    - homelab.containerd.show_report:
        directory: "{{ playbook_dir }}/play.yml/report"
      register: refused
    - homelab.containerd.show_report:
        mode: sometimes
      ignore_errors: true
      register: wrong
    - ansible.builtin.copy:
        content: "{{ [shown, checked, refused, wrong] | to_json }}"
        dest: "{{ playbook_dir }}/results.json"
        mode: "0644"
"""


def test_it_shows_lines_and_writes_files(tmp_path):
    """Also in check mode, where it cannot write, and with an argument that makes no sense."""
    plans, cluster = samples.three_nodes()
    # Ansible itself refuses these two in a file of variables.
    text = json.dumps({"plans": plans, "cluster": cluster})
    (tmp_path / "variables.json").write_text(text.replace("\\ud800", "").replace("NaN", "1"))
    (tmp_path / "play.yml").write_text(PLAY)
    words = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "play.yml"]
    done = subprocess.run(
        [*words, "-e@variables.json"],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_NOCOLOR": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown, checked, refused, wrong = json.loads((tmp_path / "results.json").read_text())

    lines = done.stdout.splitlines()
    assert lines.count("The migration is blocked by 2 findings: nothing will be changed") == 3
    assert "      worker2: /var/lib/kubelet/config.yaml, cgroupDriver = cgroupfs" in lines
    assert "registry-mirrors" not in done.stdout
    assert not set(done.stdout) & set("\x1b\x07\u202e")

    directory = tmp_path / "made/by it"
    assert shown["changed"] is False and shown["verdict"] == "blocked"
    assert sorted(path.name for path in directory.iterdir()) == [
        "report.html",
        "report.json",
        "report.txt",
    ]
    content = json.loads((directory / "report.json").read_text())
    assert content["schema"] == "homelab.containerd/report/1"
    assert content["nodes"][0]["findings"][0]["doc"].startswith("docs/codes.md#hc")
    assert (directory / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert (directory / "report.html").stat().st_mode & 0o777 == 0o644
    assert "registry-mirrors" in (directory / "report.txt").read_text()
    assert "This report as a page: %s" % (directory / "report.html") in lines

    assert checked["files"] == {} and not (tmp_path / "not made").exists()

    said = " ".join(done.stderr.split())
    assert "The report could not be written on the controller" in said
    assert "Set migrate_report_dir to a directory that can be written to." in said
    assert refused["files"] == {} and not refused.get("failed")

    assert wrong["failed"] and "sometimes" in wrong["msg"]

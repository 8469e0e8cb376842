# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The journal of a switch: written, read back, and refused where it cannot be understood."""

from __future__ import annotations

import json
import pathlib

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, paths
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._switch import journal
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import Files

KUBEADM = paths.KUBEADM_FLAGS[0]
EXTRA = paths.EXTRA_ARGS[0][0]
BEFORE: Files = {KUBEADM: 'KUBELET_KUBEADM_ARGS="--v=2"', EXTRA: "KUBELET_EXTRA_ARGS=--x"}
AFTER: Files = {KUBEADM: "after", EXTRA: None}


@pytest.fixture
def host(tmp_path):
    return Host(str(tmp_path))


def test_what_is_written_is_read_back(host):
    written = journal.Journal(host)
    assert written.unfinished is None
    written.begin("containerd", AFTER, BEFORE)
    written.step("stop kubelet")
    read = journal.Journal(host)
    assert read.data == written.data
    assert read.unfinished == "containerd"
    assert read.files_before == BEFORE
    written.finish("done")
    assert journal.Journal(host).unfinished is None


def test_a_switch_to_docker_keeps_what_the_one_to_containerd_wrote(host):
    journal.Journal(host).begin("containerd", AFTER, BEFORE)
    for _interrupted in range(2):
        journal.Journal(host).begin("docker", BEFORE)
    read = journal.Journal(host)
    assert read.unfinished == "docker"
    assert read.files_before == BEFORE
    assert read.written(KUBEADM) == [BEFORE[KUBEADM], "after"]


def test_a_step_ends_when_the_next_one_starts(host, monkeypatch):
    clock = iter([100.0, 101.0, 103.5, 110.0])
    monkeypatch.setattr(host, "time", lambda: next(clock))
    written = journal.Journal(host)
    written.begin("containerd", AFTER, BEFORE)
    written.step("stop kubelet")
    written.step("stop pods")
    assert [step["name"] for step in written.timings()] == ["stop kubelet"]
    written.finish("done")
    assert written.timings() == [
        {"name": "stop kubelet", "start": 101.0, "end": 103.5, "delta": 2.5},
        {"name": "stop pods", "start": 103.5, "end": 110.0, "delta": 6.5},
    ]


def test_facts(host):
    assert journal.journal_facts(host) is None
    written = journal.Journal(host)
    written.begin("containerd", AFTER, BEFORE)
    assert journal.journal_facts(host) == {
        "direction": "containerd",
        "state": "running",
        "start": written.current["start"],
        "flags_before": {"v": "2"},
    }


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", '"x"', "{}", '{"version": "1"}', '{"version": 1, "state": "done"}'],
)
def test_a_damaged_one_is_refused(text):
    with pytest.raises(commands.NodeError, match="cannot be read .*move the journal away"):
        journal.parse(text)


def test_there_is_none(host):
    assert journal.parse(None) is None
    assert journal.read(host) is None


def test_one_that_cannot_be_opened_is_not_none(host):
    pathlib.Path(host.path(paths.JOURNAL)).mkdir(parents=True)
    for read in (journal.Journal, journal.journal_facts):
        with pytest.raises(commands.NodeError, match="cannot be read .*opened.* Nothing was chang"):
            read(host)


def full(path, text, mode=None):
    raise OSError(28, "No space left on device", path)


def test_a_first_word_that_cannot_be_written_begins_nothing(host, monkeypatch):
    monkeypatch.setattr(host, "write_text", full)
    written = journal.Journal(host)
    with pytest.raises(
        commands.NodeError,
        match=r"Nothing was changed.*No space left.*switch.json.*Make room.*run this again",
    ):
        written.begin("containerd", AFTER, BEFORE)
    assert written.data is None and written.unfinished is None


def test_a_full_disk_later_is_told_and_stops_nothing(host, monkeypatch):
    written = journal.Journal(host)
    written.begin("containerd", AFTER, BEFORE)
    with monkeypatch.context() as patched:
        patched.setattr(host, "write_text", full)
        written.begin("docker", BEFORE)
        written.step("stop kubelet")
        assert "Make room" in written.complaint
        assert journal.Journal(host).unfinished == "containerd"
    written.finish("done")
    assert written.complaint == "" and journal.Journal(host).unfinished is None


def test_the_pods_to_wait_for_are_those_of_the_first_start(host):
    journal.Journal(host).begin("containerd", AFTER, BEFORE, ["home/data-0"])
    second = journal.Journal(host)
    assert second.waited_for == ["home/data-0"]
    second.begin("docker", BEFORE, waited_for=[])
    assert journal.Journal(host).waited_for == ["home/data-0"]
    second.finish("done")
    assert journal.Journal(host).waited_for is None


def test_one_of_a_newer_version_is_refused(host):
    journal.Journal(host).begin("containerd", AFTER, BEFORE)
    data = json.loads(host.read_text(paths.JOURNAL))
    host.write_text(paths.JOURNAL, json.dumps(dict(data, version=journal.VERSION + 1)))
    for read in (journal.Journal, journal.journal_facts):
        with pytest.raises(commands.NodeError, match="has version 2, .* reads version 1.*newer"):
            read(host)

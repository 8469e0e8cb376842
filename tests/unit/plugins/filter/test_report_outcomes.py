# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters that the playbooks rollback and report use."""

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.homelab.containerd.plugins.filter import report, versions

outcomes = report.FilterModule().filters()["report_outcomes"]
has_dockershim = versions.FilterModule().filters()["has_dockershim"]


def host(name, **facts):
    """The variables of a host for which the role report has looked, as ansible registers them."""
    missing = {"msg": "file not found", "failed_when_result": False}
    records = [missing, missing]
    if "journal" in facts:
        records[1] = {"content": base64.b64encode(json.dumps(facts.pop("journal")).encode())}
    found = {"stat": {"exists": True}}
    return {
        "inventory_hostname": name,
        "assess_time": 100.0,
        "__report_records": {"results": records},
        "__report_buildkit": found,
        **facts,
    }


def test_a_phase_starts_when_the_one_before_ends():
    """On whichever node that was: the nodes switch one after the other."""
    times = {"start": 400.0, "end": 500.0}
    first, second = outcomes(
        [
            host(
                "a",
                carry_images_result={"start": 110.0, "end": 150.0},
                switch_runtime_result={"changed": True, "start": 210.0, "end": 250.0},
                verify_times=times,
                verify_results=[{"name": "x"}],
                journal={"state": "done"},
            ),
            host(
                "b",
                carry_images_result={"start": 110.0, "end": 200.0},
                switch_runtime_result={"changed": True, "start": 270.0, "end": 300.0},
                verify_times=times,
            ),
        ],
        600.0,
    )
    common = {"prepare": 100.0, "prepared": 110.0, "buildkit": 300.0, "verify": 400.0, "end": 500.0}
    assert first["marks"] == common | {"switch": 200.0}
    assert second["marks"] == common | {"switch": 250.0}
    assert (first["node"], first["journal"], first["before"]) == ("a", {"state": "done"}, {})
    assert first["verify"] == [{"name": "x"}] and second["verify"] == []
    assert first["buildkit"] is True


def test_a_run_with_nothing_to_do_has_no_phases():
    """Nothing was carried or switched, and nothing verified."""
    (only,) = outcomes([host("a", switch_runtime_result={"changed": False, "end": 1.0})], 600.0)
    assert only["marks"] == {"prepare": 100.0, "verify": 600.0}


@pytest.mark.parametrize(
    ("version", "has"),
    [("v1.23.17", True), ("v1.18.0", True), ("v1.24.0", False), ("v2.0.0", False), (None, False)],
)
def test_dockershim(version, has):
    assert has_dockershim(version) is has


@pytest.mark.parametrize(
    ("version", "flag"),
    [("v1.19.16", "--delete-local-data"), ("v1.20.0", "--delete-emptydir-data")],
)
def test_drain_arguments(version, flag):
    drain_arguments = versions.FilterModule().filters()["drain_arguments"]
    given = ["--ignore-daemonsets", "--delete-emptydir-data"]
    assert drain_arguments(given, version) == ["--ignore-daemonsets", flag]

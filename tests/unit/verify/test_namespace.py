# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""verify deletes a namespace of its own alone: of this run, or of one that was killed."""

from __future__ import annotations

import importlib.util
import json
import re
import typing as t

import pytest
from support import ROOT

spec = importlib.util.spec_from_file_location("verify_conftest", ROOT / "verify/conftest.py")
assert spec and spec.loader
verify = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verify)

NOW = "2026-11-29T12:00:00Z"
LONG_AGO = "2026-11-29T05:00:00Z"
LATELY = "2026-11-29T07:00:00Z"


def item(name: str, label: str | None, created: str) -> dict[str, t.Any]:
    labels = {verify.LABEL: label} if label else {}
    return {"metadata": {"name": name, "labels": labels, "creationTimestamp": created}}


class Cluster:
    """What kubectl does with namespaces."""

    namespace = ""

    def __init__(self) -> None:
        self.items = [
            item("home", None, LONG_AGO),
            item("copied", "aa", LONG_AGO),
            item(verify.PREFIX + "bb", None, LONG_AGO),
            item(verify.PREFIX + "cc", "cc", LONG_AGO),
            item(verify.PREFIX + "dd", "dd", LATELY),
        ]
        self.node = type("Node", (), {"name": "n1", "host": None})()
        self.settings = type("Settings", (), {"timeout": 60.0})()

    def names(self) -> set[str]:
        return {entry["metadata"]["name"] for entry in self.items}

    def get(self, arguments: str) -> dict[str, t.Any]:
        if arguments == f"namespaces --selector={verify.LABEL}":
            return {"items": [e for e in self.items if verify.LABEL in e["metadata"]["labels"]]}
        (found,) = (e for e in self.items if "namespace " + e["metadata"]["name"] == arguments)
        return found

    def create(self, manifest: dict[str, t.Any]) -> None:
        metadata = manifest["metadata"]
        assert metadata["name"] not in self.names()
        self.items.append(item(metadata["name"], metadata["labels"][verify.LABEL], NOW))

    def run(self, arguments: str) -> t.Any:
        return type("Output", (), {"rc": 0})()

    def kubectl(self, arguments: str) -> None:
        value = re.search(rf"--selector={verify.LABEL}=(\w+)( |$)", arguments)
        name = re.match(r"delete namespace ([a-z-]+\w*)", arguments)
        assert arguments.startswith("delete namespace "), arguments
        self.items = [
            entry
            for entry in self.items
            if not (
                entry["metadata"]["labels"].get(verify.LABEL) == value[1]
                if value
                else name and entry["metadata"]["name"] == name[1]
            )
        ]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(verify, "_as_root", verify.contextlib.nullcontext)

    def start(cluster):
        """A run's fixtures: the name of its namespace, and what ends it."""
        made = verify._namespaces.__wrapped__()
        name = verify.namespace.__wrapped__(cluster.node, cluster, made_by := next(made))
        assert list(made_by) == ["n1"]
        return name, lambda: next(made, None)

    return start


def test_only_our_own_is_deleted(run):
    cluster = Cluster()
    before = cluster.names()
    name, end = run(cluster)
    assert name not in before
    end()
    # The one of a killed run is gone too; a younger one may be of a run that is under way.
    assert cluster.names() == before - {verify.PREFIX + "cc"}


def test_two_runs_leave_each_others(run):
    first, second = Cluster(), Cluster()
    name, end = run(first)
    second.items = first.items
    other, end_other = run(second)
    assert name != other
    end_other()
    assert name in second.names() and other not in second.names()


def test_nobody_can_name_a_namespace():
    assert "namespace" not in verify.Settings.__annotations__
    assert "verify_namespace" not in json.dumps((ROOT / "roles/verify/vars/main.yml").read_text())

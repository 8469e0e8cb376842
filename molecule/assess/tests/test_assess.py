# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that was spoiled is found, nothing is invented, and the look leaves no trace."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
FIRST, SECOND = "hc-mol-assess-node1", "hc-mol-assess-node2"
#: Code, node in the evidence, and what the sentence with its evidence has to say.
FOUND = [
    ("HC117", FIRST, r"/etc/containerd/conf.d/nocri.toml.*disabled_plugins"),
    ("HC122", "node1", r"never allows an eviction.*spoiled/precious"),
    ("HC123", "node1", r"without a controller.*spoiled/by-hand"),
    ("HC201", FIRST, r"insecure-registries.*10\.0\.0\.0/8"),
    ("HC202", FIRST, r"home/local-only:1"),
    ("HC203", "node2", r"Deployment mounts docker's socket.*docker build.*BuildKit|spoiled/ci"),
    (
        "HC203",
        "cluster",
        r"Deployment can reach docker's socket.*no pod just now.*spoiled/portainer",
    ),
    ("HC203", "cluster", r"CronJob mounts.*docker system prune.*no pod.*spoiled/nightly-prune"),
    ("HC203", "node1", r"static pod mounts docker's socket.*kube-system/cadvisor-node1"),
    ("HC204", FIRST, r"process python3 .*watching\.service"),
    (
        "HC205",
        FIRST,
        r"systemd unit calls docker: it builds.*image-of-the-day\.service.*docker build",
    ),
    ("HC205", FIRST, r"cron job calls docker: it runs.*/etc/cron\.d/backup.*docker run"),
    (
        "HC205",
        FIRST,
        r"script calls docker: it will see.*/usr/local/bin/metrics, key line 3.*docker ps",
    ),
    ("HC206", FIRST, r"31mred.*<script>.*\(compose project, 1\), media .*, owners-own"),
    ("HC208", FIRST, r"without asking for a certificate.*tcp://127\.0\.0\.1:2375"),
    ("HC209", FIRST, r"live-restore"),
    ("HC212", FIRST, r"/etc/filebeat/filebeat\.yml.*line 3"),
    ("HC212", "node2", r"DaemonSet mounts docker's data.*spoiled/logs"),
    ("HC213", FIRST, r"other runtimes than runc.*nvidia"),
    ("HC214", FIRST, r"/root/\.docker/config\.json.*registry\.example\.org"),
    ("HC215", "node1", r"single control plane"),
    ("HC216", "node1", r"emptyDir.*spoiled/precious"),
    ("HC219", FIRST, r"no equivalent.*/etc/docker/daemon\.json.*log-opts\.tag"),
    ("HC221", FIRST, r"/etc/default/kubelet.*--pod-infra-container-image"),
    ("HC222", FIRST, r"20-docker\.conf.*Requires.*docker\.service"),
    ("HC223", FIRST, r"imports a file.*oom\.toml"),
    ("HC225", "node1", r"cordoned"),
]
#: What any node of the lab has.
CLEAN = {FIRST: {"HC202", "HC206", "HC215"}, SECOND: {"HC202", "HC215"}}
BLOCKERS = {"HC117", "HC122", "HC123"}


def looked(name: str, host: str) -> Any:
    return json.loads((EPHEMERAL / f"{name}-{host}.json").read_text(encoding="utf-8"))


def findings(look: Any) -> list[dict[str, Any]]:
    lists = [look[plan][kind] for plan in ("plan", "cluster") for kind in ("blockers", "warnings")]
    return [finding for some in lists for finding in some]


def sentence(finding: dict[str, Any]) -> str:
    evidence = finding["evidence"]
    place = "".join(f", {key} {evidence[key]}" for key in ("file", "key", "value"))
    return f"{finding['text']}{place}. {finding['remedy']}"


@pytest.mark.parametrize("host", [FIRST, SECOND])
def test_nothing_is_invented_on_a_clean_cluster(host: str) -> None:
    assert {finding["code"] for finding in findings(looked("clean", host))} == CLEAN[host]


@pytest.mark.parametrize(("code", "node", "says"), FOUND, ids=lambda v: str(v)[:24])
def test_it_is_found(code: str, node: str, says: str) -> None:
    matching = [
        finding
        for finding in findings(looked("spoiled", FIRST))
        if finding["code"] == code and finding["evidence"]["node"] == node
    ]
    assert [f for f in matching if re.search(says, sentence(f))], matching
    assert all(finding["remedy"] for finding in matching)


def test_nothing_is_invented_on_a_spoiled_cluster() -> None:
    seen = sorted(finding["code"] for finding in findings(looked("spoiled", FIRST)))
    assert seen == sorted(code for code, _node, _says in FOUND)
    others = {f["code"] for f in looked("spoiled", SECOND)["plan"]["warnings"]}
    assert others == {"HC202", "HC207"}


def test_the_migration_refuses_with_each_blocker() -> None:
    said = " ".join((EPHEMERAL / "refused.txt").read_text(encoding="utf-8").split())
    for code in BLOCKERS:
        assert f"{code}: " in said
    assert "Prepare containerd" not in said


def test_no_credential_is_in_what_was_found() -> None:
    look = looked("spoiled", FIRST)
    found = json.dumps([look[part] for part in ("plan", "cluster", "facts")])
    assert "hush" not in found and "aHVzaDpodXNo" not in found


@pytest.mark.parametrize("host", [FIRST, SECOND])
@pytest.mark.parametrize("name", ["clean", "spoiled"])
def test_the_look_leaves_no_file_behind(name: str, host: str) -> None:
    look = looked(name, host)
    before, idle, after = (look[when]["files"] for when in ("before", "idle", "after"))
    # What the node itself writes while nobody looks is not ours.
    lively = {path for path in before.keys() | idle.keys() if before.get(path) != idle.get(path)}
    changed = {path for path in idle.keys() | after.keys() if idle.get(path) != after.get(path)}
    assert len(idle) > 5000  # so the listing is one
    assert not changed - lively - {p for p in changed if living(p)}


def living(path: str) -> bool:
    """Pods' own business goes on: volumes that are synced, docker's and containerd's state."""
    return bool(
        re.match(
            r"/var/lib/kubelet/pods/.*|/run/docker/.*|/run/containerd/.*|/var/lib/containerd/.*\.db"
            r"|/var/lib/docker/(?:network/files/.*|.*\.db|swarm/.*)|/run/user/.*",
            path,
        )
    )


@pytest.mark.parametrize("host", [FIRST, SECOND])
@pytest.mark.parametrize("name", ["clean", "spoiled"])
def test_the_look_leaves_no_process_behind(name: str, host: str) -> None:
    look = looked(name, host)
    new = look["after"]["processes"].items() - look["idle"]["processes"].items()
    # Ansible's own way in, and what the kubelet starts for a probe, come and go.
    passing = re.compile(
        r"ansible|listing\.py|^(ps|runc|/bin/sh -c|sleep|containerd-shim|/coredns)"
    )
    assert [words for _pid, words in new if not passing.search(words)] == []

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans and outcomes for the tests of the report: a cluster of three, as an owner may have it.

Names and labels are as hostile as the API and docker let them be.
"""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import workloads
from support import ROOT, read_recorded

NOW = 1_795_564_800.0  # 2026-11-25 00:00 UTC
SCRIPT = "<script>document.title='owned'</script>"
ESCAPES = "\x1b[31mred\x1b[0m\x07\u202egpj.exe\ud800\r\nsecond line"


def codes_text() -> str:
    return (ROOT / "docs/codes.md").read_text(encoding="utf-8")


def cluster_info() -> dict[str, t.Any]:
    """cluster_runtime_info's result on the lab's cluster."""
    return dict(workloads.look(read_recorded("kubernetes-1.23.17/cluster.json")))


def finding(
    code: str,
    node: str,
    text: str,
    remedy: str,
    file: str | None = None,
    key: str | None = None,
    value: t.Any = None,
) -> dict[str, t.Any]:
    evidence = {"node": node, "file": file, "key": key, "value": value}
    return {"code": code, "text": text, "evidence": evidence, "remedy": remedy}


def step(
    phase: str, text: str, seconds: float, count: int = 0, outage: bool = False
) -> dict[str, t.Any]:
    return {"phase": phase, "text": text, "seconds": seconds, "bytes": count, "outage": outage}


def setting(
    key: str, value: t.Any, fate: str, to: str, text: str, remedy: str = ""
) -> dict[str, t.Any]:
    return {
        "key": key,
        "value": value,
        "origin": "/etc/docker/daemon.json",
        "fate": fate,
        "to": to,
        "text": text,
        "remedy": remedy,
    }


def plan(
    node: str,
    *,
    control_plane: bool = False,
    pods: int = 8,
    images: int = 10,
    image_bytes: int = 451_000_000,
    own: t.Sequence[dict[str, t.Any]] = (),
) -> dict[str, t.Any]:
    """assess_plan of a dockershim node."""
    return {
        "node": node,
        "node_name": node,
        "state": "migrate",
        "unfinished": False,
        "ours": False,
        "runtime": "dockershim",
        "kubelet_version": "v1.23.17",
        "containerd": {"install": "keep", "version": "1.6.20", "config_version": 2},
        "cgroup_driver": "systemd",
        "sandbox_image": "registry.k8s.io/pause:3.6",
        "registries": [],
        "warnings": [],
        "blockers": [],
        "overridden": [],
        "steps": [
            step("prepare", "keep containerd 1.6.20 and turn its CRI on", 8),
            step(
                "prepare",
                "carry %d images from docker to containerd" % images,
                image_bytes / 38e6,
                image_bytes,
            ),
            step("switch", "drain what may run elsewhere", 0 if control_plane else 25),
            step(
                "switch",
                "stop %d pods, turn the kubelet to containerd, start them again" % pods,
                27,
                0,
                True,
            ),
            step("buildkit", "install buildkitd with containerd's worker", 22, 61_000_000),
            step("verify", "run the tests on the node", 58),
        ],
        "settings": [],
        "summary": {
            "os": "Debian GNU/Linux 12 (bookworm)",
            "kernel": "6.1.0-28-amd64",
            "cgroup_version": 2,
            "docker_version": "20.10.24",
            "containerd_version": "1.6.20",
            "storage_driver": "overlay2",
            "pods": pods,
            "containers_kubernetes": 2 * pods,
            "containers_own": list(own),
            "images": images,
            "image_bytes": image_bytes,
            "control_plane": control_plane,
        },
    }


def own(name: str, image: str, project: str = "", state: str = "running") -> dict[str, t.Any]:
    return {"name": name, "image": image, "state": state, "project": project, "swarm": False}


def three_nodes() -> tuple[list[dict[str, t.Any]], dict[str, t.Any]]:
    """(plans, cluster) with two blockers, some warnings, and names that mean harm."""
    cp1 = plan(
        "cp1",
        control_plane=True,
        pods=11,
        own=[
            own("pihole", "pihole/pihole:2024.07.0", "dns"),
            own(SCRIPT, "nas.home:5000/" + ESCAPES, ESCAPES),
        ],
    )
    worker1 = plan("worker1", pods=19, images=34, image_bytes=6_200_000_000)
    worker2 = plan("worker2", pods=14, images=21, image_bytes=2_700_000_000)
    for entry in (worker1, worker2):
        entry["blockers"].append(
            finding(
                "HC104",
                entry["node"],
                "The kubelet's cgroup driver is cgroupfs, docker's is systemd",
                "Give both the same (systemd where systemd runs the node) before the switch.",
                "/var/lib/kubelet/config.yaml",
                "cgroupDriver",
                "cgroupfs",
            )
        )
        entry["warnings"].append(
            finding(
                "HC202",
                entry["node"],
                "3 images are in no registry, and this kubelet and containerd do not heed pins: "
                "the kubelet's garbage collection may remove them, and a timer on the node brings "
                "them back from docker",
                "Push them to a registry before docker is retired.",
                None,
                "images",
                "home/app:1, home/%s:2, home/job:latest" % SCRIPT,
            )
        )
    cp1["warnings"].append(
        finding(
            "HC201",
            "cp1",
            "A network of insecure registries has no equivalent outside docker",
            "Name its registries one by one in containerd_registries.",
            "/etc/docker/daemon.json",
            "insecure-registries",
            "10.0.0.0/8",
        )
    )
    cp1["settings"] = [
        setting(
            "registry-mirrors",
            ["https://mirror.home"],
            "translated",
            "hosts.toml of docker.io",
            "containerd asks the mirror first, and docker.io where it does not answer",
        ),
        setting("bip", "172.26.0.1/16", "not_needed", "", "pods get their network from CNI"),
        setting(
            "insecure-registries",
            "10.0.0.0/8",
            "no_equivalent",
            "",
            "containerd knows hosts, not networks",
            "Name its registries one by one in containerd_registries.",
        ),
        setting(
            ESCAPES, {"nested": [SCRIPT, float("nan")]}, "unknown", "", "docker does not know it"
        ),
    ]
    cluster = {
        "kubernetes_version": "v1.23.17",
        "nodes": [
            {
                "name": name,
                "host": name,
                "roles": roles,
                "ready": True,
                "runtime": "docker://20.10.24",
                "kubelet": "v1.23.17",
            }
            for name, roles in (
                ("cp1", ["control-plane"]),
                ("worker1", ["worker"]),
                ("worker2", ["worker"]),
            )
        ],
        "pods": 44,
        "docker_sock_users": [
            {
                "namespace": "ci",
                "kind": "Deployment",
                "name": "runner",
                "node": "worker1",
                "path": "/var/run/docker.sock",
                "via": "direct",
                "purpose": "builds",
                "why": "its image is docker:20.10-cli and its command says docker build",
                "active": True,
            },
            {
                "namespace": "monitoring",
                "kind": "DaemonSet",
                "name": "cadvisor" + SCRIPT,
                "node": "worker2",
                "path": "/var/run",
                "via": "parent",
                "purpose": "monitors",
                "why": "its image is cadvisor",
                "active": True,
            },
            {
                "namespace": "ci",
                "kind": "CronJob",
                "name": "nightly-" + ESCAPES,
                "node": "",
                "path": "/var/run/docker.sock",
                "via": "direct",
                "purpose": "unknown",
                "why": "",
                "active": False,
            },
        ],
        "warnings": [
            finding(
                "HC230",
                "cluster",
                "A PodDisruptionBudget never allows an eviction, so a drain waits until its end",
                "Scale the workload up, or let one pod go, before its node is switched.",
                None,
                "home/db",
                "minAvailable: 1 of 1",
            )
        ],
        "blockers": [],
        "overridden": [],
        "order": ["cp1", "worker2", "worker1"],
    }
    return [cp1, worker1, worker2], cluster


def without_blockers() -> tuple[list[dict[str, t.Any]], dict[str, t.Any]]:
    plans, cluster = three_nodes()
    for entry in plans:
        entry["blockers"] = []
    return plans, cluster


def _pod(node: str, number: int, runtime: str = "") -> dict[str, t.Any]:
    return {
        "kind": "Pod",
        "metadata": {"namespace": "home", "name": "%s-app-%d" % (node, number)},
        "spec": {"nodeName": node},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def migrated() -> tuple[list[dict[str, t.Any]], dict[str, t.Any]]:
    """(outcomes, api) of without_blockers(): two nodes went over, worker1 is back on docker."""
    outcomes = []
    items = []
    begin = NOW
    for index, (node, pods) in enumerate((("cp1", 11), ("worker2", 14), ("worker1", 19))):
        switched = begin + 200 + 70 * index
        back = node == "worker1"
        outcomes.append(
            {
                "node": node,
                "before": {
                    "time": "2026-11-25T00:03:00Z",
                    "runtime": "docker://20.10.24",
                    "pods": [
                        {
                            "namespace": "home",
                            "name": "%s-app-%d" % (node, number),
                            "phase": "Running",
                            "ready": True,
                        }
                        for number in range(pods)
                    ],
                    "docker_images": [{"id": "sha256:1", "size": 451_000_000}] * 3,
                    "owner_containers": [{"name": "pihole"}] if node == "cp1" else [],
                },
                "journal": {
                    "state": "rolled_back" if back else "done",
                    "direction": "docker" if back else "containerd",
                    "start": switched + 24,
                    "end": switched + 40,
                    "steps": [{"name": "stop kubelet", "start": switched + 24}],
                },
                "marks": {"prepare": begin, "prepared": begin + 190, "switch": switched}
                | (
                    {}
                    if back
                    else {"buildkit": begin + 420, "verify": begin + 445, "end": begin + 630}
                ),
                "carry": {
                    "changed": True,
                    "start": begin + 9,
                    "end": begin + 9 + 50 * (index + 1),
                    "delta": 50.0 * (index + 1),
                    "bytes": 1_353_000_000,
                    "carried": [{"id": "sha256:1"}] * 3,
                },
                "switch": {"failed": True, "rolled_back": True}
                if back
                else {
                    "changed": True,
                    "start": switched + 24,
                    "end": switched + 50,
                    "outage_seconds": 2.6,
                    "running_seconds": 14.5,
                    "pods_ready_seconds": 25.6,
                    "api_away_seconds": 5.3 if node == "cp1" else None,
                    "steps": [{"name": "stop kubelet", "delta": 0.2}],
                },
                "verify": [
                    {
                        "name": "test_runtime.py::test_endpoint[ansible://cp1]",
                        "outcome": "passed",
                        "seconds": 0.4,
                    },
                    {
                        "name": "test_cri.py::test_pull[ansible://worker2-docker.io]",
                        "outcome": "failed",
                        "seconds": 1.4,
                    },
                ],
                "buildkit": not back,
            }
        )
        items.append(
            {
                "kind": "Node",
                "metadata": {"name": node},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "nodeInfo": {
                        "containerRuntimeVersion": "docker://20.10.24"
                        if back
                        else "containerd://1.6.20"
                    },
                },
            }
        )
        items += [_pod(node, number) for number in range(1, pods)]
    return outcomes, {"items": items}

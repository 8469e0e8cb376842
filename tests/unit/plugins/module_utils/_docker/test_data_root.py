# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docker's data directory is removed only if all of it is docker's."""

from __future__ import annotations

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._docker import data_root
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, mounts

#: The lab's node with a running docker: its own entries of /proc/self/mountinfo, and ls.
ROOT = "/var/lib/docker"
ENTRIES = [
    "buildkit",
    "containers",
    "image",
    "network",
    "overlay2",
    "plugins",
    "runtimes",
    "swarm",
    "tmp",
    "trust",
    "volumes",
]
OTHERS = {"containerd": "/var/lib/containerd", "the kubelet": "/var/lib/kubelet"}


def line(point: str, file_system: str = "ext4", root: str = "/", device: str = "254:1") -> str:
    return "40 30 %s %s %s rw - %s /dev/sdb rw" % (device, root, point, file_system)


TABLE = [line("/", device="254:0")]


def problems(extra=(), entries=(), others=None, docker_runs=False, root=ROOT):
    table = mounts.read_mounts("\n".join(TABLE + list(extra)))
    found = data_root.problems(root, ENTRIES + list(entries), table, others or OTHERS, docker_runs)
    return "; ".join(found)


def test_dockers_own_directory():
    assert problems() == ""
    assert problems(entries=["100000.100000"]) == ""


@pytest.mark.parametrize("docker_runs", [False, True])
def test_mounts(docker_runs):
    said = problems([line(ROOT + "/volumes/photos/_data")], docker_runs=docker_runs)
    assert said == "/dev/sdb is mounted at /var/lib/docker/volumes/photos/_data"
    assert "is mounted at /var/lib/docker" in problems([line(ROOT)], docker_runs=docker_runs)
    assert problems([line("/var/lib/docker2")]) == ""


def test_what_a_running_docker_has_mounted_has_to_be_gone_once_it_has_stopped():
    own = [
        line(ROOT, root=ROOT, device="254:0"),
        line(ROOT + "/overlay2/0a/merged", "overlay"),
        line(ROOT + "/containers/0a/mounts/shm", "tmpfs"),
    ]
    assert problems(own, docker_runs=True) == ""
    assert "overlay2/0a/merged" in problems(own)


@pytest.mark.parametrize(
    ("root", "others"),
    [
        ("/srv", {"containerd": "/srv/containerd"}),
        ("/srv/containerd", {"containerd": "/srv/containerd"}),
        ("/srv/containerd/docker", {"containerd": "/srv/containerd"}),
        ("/var/lib", {"the kubelet": "/var/lib/kubelet"}),
        ("/", {"containerd": "/var/lib/containerd"}),
    ],
)
def test_the_data_of_others(root, others):
    assert "has its data in" in problems(root=root, others=others)
    assert "has its data in" not in problems(root="/srv/containerd-docker", others=others) or (
        root == "/"
    )


def test_what_docker_did_not_make():
    said = problems(entries=["photos", "kubelet"])
    assert said == "docker did not make kubelet, photos"


def test_removing(tmp_path):
    root, link = tmp_path / "disk/docker", tmp_path / "docker"
    (root / "volumes/db").mkdir(parents=True)
    link.symlink_to(root)
    assert data_root.remove(str(link), OTHERS, check_mode=True) is True
    (root / "photos").mkdir()
    with pytest.raises(commands.NodeError, match="docker did not make photos"):
        data_root.remove(str(link), OTHERS, check_mode=False)
    assert (root / "volumes/db").is_dir()
    (root / "photos").rmdir()
    assert data_root.remove(str(link), OTHERS, check_mode=False) is True
    assert not root.exists() and not link.is_symlink()
    assert data_root.remove(str(link), OTHERS, check_mode=False) is False

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Adopted images: the same, apart from docker's, safe from what breaks off, whole when restored.

In the order written: the last test takes docker's directory away.
"""

from __future__ import annotations

import json
import time

import pytest
from image_node import JOURNAL, POINTING, STAGING, Node
from testinfra.host import Host

ODD = "docker.io/home/odd:1"
LIST = "/var/lib/homelab-containerd/keep-images/carry_images"
#: A digest over all that may not change in the layers' directories; links and ctime may.
DIGEST = """
import hashlib, os, stat, sys
total = hashlib.sha256()
for top in sys.argv[1:]:
    for place, directories, files in os.walk(os.fsencode(top)):
        directories.sort()
        for name in sorted(directories + files) + [b"."]:
            path = os.path.join(place, name)
            found = os.lstat(path)
            facts = [path, found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_rdev]
            facts += [found.st_mtime_ns, found.st_ino]
            facts += [(a, os.getxattr(path, a, follow_symlinks=False))
                      for a in sorted(os.listxattr(path, follow_symlinks=False))]
            total.update(repr(facts).encode())
            if stat.S_ISREG(found.st_mode):
                total.update(open(path, "rb").read())
print(total.hexdigest())
"""
WRITES = (
    "echo more >> odd/first",
    "truncate -s 3 odd/big",
    "chmod 777 odd/no-rights && chmod 700 odd/sub",
    "chown 9:9 odd/setuid odd/fifo odd/null",
    "touch -d 2001-01-01 odd/old",
    "rm odd/second small/00/7",
    "ln odd/first odd/another",
    "mv odd/empty odd/moved && rm -r small/01 && mkdir small/01",
    "echo new > etc/cron.d/job && mv odd/noted.d odd/renamed.d",
)


#: True with the module halted, and a blob of its that is written in part.
STOPPED_IN_A_BLOB = """
pkill -STOP -f [A]nsiballZ_restore_blobs
sleep 0.2
ctr -n k8s.io content active | grep -Eq 'homelab-restore\\S+\\s+[0-9.]+[kMG]B' ||
  { pkill -CONT -f [A]nsiballZ_restore_blobs; exit 1; }
"""


@pytest.fixture(scope="module")
def node(
    host: Host, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Node:
    inventory = request.config.getoption("ansible_inventory")
    made = Node(host, str(inventory), tmp_path_factory.mktemp("images"))
    # It would bring back from docker what the tests take from containerd.
    made.sh("systemctl stop homelab-keep-images.timer")
    return made


def docker_layers(node: Node) -> str:
    """The directories of docker's image layers, without those that containers write."""
    return node.sh(
        "cd /var/lib/docker;"
        " for id in $(sed 's/$/ /' image/overlay2/layerdb/sha256/*/cache-id);"
        " do echo overlay2/$id/diff; done | sort"
    ).replace("overlay2/", "/var/lib/docker/overlay2/")


def containerd_layers(node: Node) -> str:
    """The directories of committed snapshots: those that an active one has below itself."""
    places = json.loads(node.sh("cat /var/lib/homelab-containerd/adopted.json"))["snapshots"]
    return " ".join(sorted(places.values()))


def digest(node: Node, directories: str) -> str:
    node.sh(f"cat > /root/digest.py <<'EOF'\n{DIGEST}\nEOF")
    return node.sh("python3 /root/digest.py " + " ".join(directories.split()))


# --- the same ------------------------------------------------------------------------------------


def test_each_image_is_the_same_file_by_file(node: Node) -> None:
    compared = {name: image for image in node.compare() for name in image["names"]}
    assert compared["home/deep:1"]["layers"] == 125
    assert compared["home/odd:1"] is compared["odd:3"] is compared["registry.lab:5000/home/odd:2"]
    assert compared["home/odd:1"]["files"] > 6000
    assert "home/built-with-buildkit:1" in compared and "home/nothing:1" in compared
    node.assert_clean()


def test_the_comparison_sees_what_differs(node: Node) -> None:
    """A test that cannot fail is none: change one of containerd's own directories, by hand."""
    for layer in containerd_layers(node).split():
        if node.ok(f"test -d {layer}/odd/bare"):
            node.sh(f"chmod 701 {layer}/odd/bare")
            break
    said = node.refused("compare", images=["home/odd:1"])
    node.sh(f"chmod 755 {layer}/odd/bare")
    assert "mode of /odd/bare is 0o40755 for docker, 0o40701 for containerd" in said


def test_a_collected_image_comes_back_from_docker(node: Node) -> None:
    name = "docker.io/" + POINTING
    row = f"awk '$1 == \"{name}\"'"
    listed = node.sh(f"cat {LIST}")
    assert name in listed
    digest = node.ctr(f"images list | {row}").split()[2]
    names = node.ctr(f"images list | awk '$3 == \"{digest}\" {{print $1}}'").split()
    node.ctr("images rm --sync " + " ".join(names))

    # While containerd does not answer, no image is taken for lost or for another one.
    script = "/usr/local/sbin/homelab-keep-images"
    assert not node.ok(f"sed s/containerd.sock/gone.sock/ {script} | bash")
    assert node.sh(f"cat {LIST}") == listed

    node.sh("systemctl start homelab-keep-images.service")
    assert node.ctr(f"images list | {row}").split()[2] == digest
    assert node.sh(f"cat {LIST}") == listed
    # docker's archive has no pins: the role adds them again.
    assert node.do("carry")["pinned"]


def test_the_manifests_are_those_of_save_and_import(node: Node) -> None:
    node.sh(
        "docker save $(docker image ls --format '{{.Repository}}:{{.Tag}}' |"
        " grep -v -e none -e nothing) | ctr -n compared images import --no-unpack -"
    )
    theirs = node.sh("ctr -n compared images list | awk 'NR > 1 {print $1, $3}' | sort")
    ours = node.ctr("images list | awk 'NR > 1 {print $1, $3}' | sort")
    node.sh("ctr -n compared images list -q | xargs ctr -n compared images rm")
    assert set(theirs.splitlines()) <= set(ours.splitlines())


def test_the_files_are_docker_s_but_for_crontabs(node: Node) -> None:
    def having(name: str, layers: str) -> list[str]:
        words = " ".join(layers.split())
        return node.sh(f"for x in {words}; do if [ -e $x/{name} ]; then echo $x; fi; done").split()

    (ours,) = having("odd/fifo", containerd_layers(node))
    number = node.sh(f"stat -c %i {ours}/odd/fifo")
    (docker,) = [
        layer
        for layer in having("odd/fifo", docker_layers(node))
        if node.sh(f"stat -c %i {layer}/odd/fifo") == number
    ]
    for name in ("odd/first", "odd/null", "small/00/7", "odd/zeros"):
        numbers = node.sh(f"stat -c '%i %b' {ours}/{name} {docker}/{name}").splitlines()
        assert numbers[0] == numbers[1], name
    links = node.sh(f"stat -c '%i %h' {ours}/etc/cron.d/job {docker}/etc/cron.d/job").splitlines()
    assert links[0] != links[1] and all(line.endswith(" 1") for line in links)


def test_it_runs(node: Node) -> None:
    told = node.ctr(
        f"run --rm {ODD} t sh -c 'cat odd/second gone.d/* twice/file swapped.d; ls opaque'"
    )
    assert told.splitlines() == [
        "linked",
        *(["of the third layer"] * 2),
        "a file now",
        "below",
    ]


def test_a_second_run_changes_nothing(node: Node) -> None:
    carried = node.do("carry")
    assert not carried["changed"] and carried["carried"] == []


def test_who_insists_is_told_of_the_one_image_that_cannot_be(node: Node) -> None:
    node.ctr(
        "images rm --sync docker.io/home/pointing:1"
        " $(docker image inspect home/pointing:1 -f '{{.Id}}')"
    )
    before = node.ctr("snapshots list")
    said = node.refused("carry", method="adopt")
    assert "cannot be adopted: pointing has trusted.overlay.redirect" in said
    assert "carry_images_method" in said and "nothing was changed" in said
    assert node.ctr("snapshots list") == before
    node.assert_clean()
    assert node.do("carry")["carried"][0]["method"] == "stream"


# --- apart ---------------------------------------------------------------------------------------


def test_no_write_goes_through_a_link(node: Node) -> None:
    """Whatever either side does with its copy, every layer of both stays as it is."""
    directories = docker_layers(node) + " " + containerd_layers(node)
    before = digest(node, directories)
    script = " && ".join(WRITES)
    node.ctr(f"run --rm {ODD} w sh -c '{script}'")
    assert digest(node, directories) == before, "containerd's container reached a layer"
    node.sh(f"docker run --rm --network=none home/odd:1 sh -c '{script}'")
    assert digest(node, directories) == before, "docker's container reached a layer"
    # Extended attributes and times, through a mount as a container has it.
    node.ctr(f"images mount --rw {ODD} /mnt")
    try:
        node.sh(
            "cd /mnt && python3 -c \"import os; os.setxattr('odd/noted', 'user.note', b'changed');"
            " os.removexattr('odd/capable', 'security.capability'); os.utime('odd/old', (5, 5));"
            " os.truncate('odd/zeros', 1); os.link('odd/big', 'odd/bigger')\""
        )
        assert digest(node, directories) == before, "a mount reached a layer"
    finally:
        node.ctr("images unmount --rm /mnt")
    # Something committed on top, on either side.
    node.sh(
        "cid=$(docker run -d --network=none home/odd:1"
        " sh -c 'echo x >> odd/first; rm -r small; chmod 1 odd/big');"
        " docker wait $cid; docker commit $cid home/on-top:1;"
        " docker rm $cid; docker rmi home/on-top:1"
    )
    assert digest(node, directories) == before, "docker commit reached a layer"
    chain = node.sh(
        "id=$(docker image inspect home/odd:1 -f '{{.Id}}');"
        " ctr -n k8s.io content ls | grep ^$id | grep -o 'snapshot.overlayfs=[^,]*' | cut -d= -f2"
    )
    upper = node.ctr(
        f"snapshots prepare --mounts top-key {chain} | grep -o 'upperdir=[^\"]*' | cut -d= -f2"
    )
    try:
        node.sh(
            "mkdir -p /mnt/top; eval $(ctr -n k8s.io snapshots mounts /mnt/top top-key);"
            " echo x >> /mnt/top/odd/first; ln /mnt/top/odd/big /mnt/top/odd/bigger;"
            " umount /mnt/top"
        )
        node.ctr("snapshots commit top-chain top-key")
        assert node.sh(f"stat -c %h {upper}/odd/bigger") == "2", "linked within the new layer alone"
        assert digest(node, directories) == before, "a snapshot on top reached a layer"
    finally:
        node.sh("for key in top-key top-chain; do ctr -n k8s.io snapshots rm $key || true; done")
    node.compare()


# --- broken off ----------------------------------------------------------------------------------


MOMENTS = {
    "while it links": f'test -n "$(ls -A {STAGING} 2>/dev/null)"',
    "while it prepares": "ctr -n k8s.io snapshots list | grep -q homelab-adopt",
    "when half is committed": "test $(ctr -n k8s.io snapshots list | grep -c Committed) -gt 60",
    "before the marks are off": f"test -e {JOURNAL} && ctr -n k8s.io images list | grep -q odd:1",
}

# The brackets keep the pattern from its own shell.
KILL = "pkill -KILL -f [A]nsiballZ_carry_images"


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed(node: Node, moment: str) -> None:
    node.forget()
    code, said = node.interrupt("carry", MOMENTS[moment], KILL)
    assert code != 0 and "Run the playbook again" in said
    # The kernel took the mounts of the dead process away with it.
    assert node.sh("grep -c homelab-containerd/view /proc/1/mountinfo || true") == "0"
    node.collect()
    node.do("carry")
    node.assert_clean()
    node.compare()
    assert not node.do("carry")["changed"]


def test_what_a_power_cut_took_is_carried_again(node: Node) -> None:
    """tests/power_cut cuts it; here is what it leaves at worst, with images on it already."""
    node.forget()
    assert node.interrupt("carry", MOMENTS["before the marks are off"], KILL)[0] != 0
    record = json.loads(node.sh("cat /var/lib/homelab-containerd/adopted.json"))
    emptied = [
        place for place in record["snapshots"].values() if node.ok(f"test -d {place}/odd/bare")
    ]
    manifest = next(image["manifest"] for image in record["images"].values()).replace(":", "/")
    blobs = "/var/lib/containerd/io.containerd.content.v1.content/blobs"
    node.sh(f"find {emptied[0]} -mindepth 1 -delete; rm {blobs}/{manifest}")
    node.sh("for x in /var/lib/homelab-containerd/tar-split/*; do truncate -s 0 $x; done")
    node.do("carry")
    node.assert_clean()
    node.compare()
    assert not node.do("carry")["changed"]


def test_containerd_is_killed(node: Node) -> None:
    node.forget()
    code, said = node.interrupt(
        "carry", MOMENTS["when half is committed"], "systemctl kill -s KILL containerd"
    )
    assert code != 0 and "ctr" in said
    node.wait(lambda: node.ok("ctr version"), "containerd is back")
    node.do("carry")
    node.assert_clean()
    node.compare()


def test_garbage_is_collected_all_the_time(node: Node) -> None:
    node.forget()
    running = node.begin("carry")
    rounds = 0
    while running.poll() is None:
        node.collect()
        rounds += 1
    code, said = node.end(running)
    assert code == 0 and rounds > 5, said
    node.assert_clean()
    node.compare()
    node.collect()
    node.compare()


def test_docker_removes_an_image_meanwhile_and_all_others_afterwards(node: Node) -> None:
    node.forget()
    node.sh("docker tag home/on-odd:1 home/short-lived:1 && docker rmi home/on-odd:1")
    code, said = node.interrupt("carry", MOMENTS["while it links"], "docker rmi home/short-lived:1")
    assert code == 0, said
    node.assert_clean()
    node.compare()
    # Not carried half: either it is not there, or it is whole.
    if node.ok("ctr -n k8s.io images list -q | grep -q short-lived"):
        told = node.ctr(
            "run --rm docker.io/home/short-lived:1 s sh -c 'cat steps/0; ls small | wc -l'"
        )
        assert told.split() == ["0", "60"]
    # What containerd has is its own: docker's prune takes nothing from it.
    node.sh("docker rmi home/again:1 && docker image prune --force")
    assert node.ctr("run --rm docker.io/home/again:1 a cat steps/0") == "0"


def test_removing_from_containerd_takes_nothing_from_docker(node: Node) -> None:
    layers = docker_layers(node)
    before = digest(node, layers)
    node.ctr(
        "images rm --sync docker.io/home/deep:1 $(docker image inspect home/deep:1 -f '{{.Id}}')"
    )
    count = len(node.ctr("snapshots list").splitlines())
    node.wait(lambda: len(node.ctr("snapshots list").splitlines()) < 60, "its layers are collected")
    assert digest(node, layers) == before
    assert node.sh("docker run --rm --network=none home/deep:1 ls steps").split() == [
        "122",
        "123",
    ], count
    node.do("carry")
    node.compare()


# --- whole ---------------------------------------------------------------------------------------


def test_without_blobs_it_says_so_and_docker_stays(node: Node) -> None:
    said = node.host.run(f"ctr -n k8s.io images export /root/odd.tar {ODD}")
    assert said.rc != 0 and "not found" in said.stderr
    # On dockershim there is a better reason to refuse.
    node.sh("systemctl stop kubelet")
    try:
        refusal = node.refused("retire")
    finally:
        node.sh("systemctl start kubelet")
    assert "miss layers' blobs" in refusal and "home/odd:1" in refusal


def test_restoring_blobs_resumes_after_it_was_interrupted(node: Node) -> None:
    running = node.begin("restore")
    count = len(node.ctr("content list -q").splitlines())
    node.wait(lambda: len(node.ctr("content list -q").splitlines()) > count + 5, "a few are there")
    node.wait(lambda: node.ok(STOPPED_IN_A_BLOB), "it is stopped in the middle of a blob")
    node.sh("pkill -KILL -f [A]nsiballZ_restore_blobs")
    assert node.end(running)[0] != 0
    assert "homelab-restore" in node.ctr("content active")
    kept = set(node.ctr("content list -q").splitlines())
    started = time.time()
    restored = node.do("restore")
    assert restored["changed"] and restored["waiting"] and restored["bytes"] > 0
    assert kept <= set(node.ctr("content list -q").splitlines())
    assert not node.do("restore")["changed"], time.time() - started
    lines = node.ctr("images check").splitlines()
    assert [line for line in lines if "/home/" in line and "complete (" not in line] == []
    assert [line for line in lines if "/home/" in line and "incomplete (" in line] == []


def test_then_it_can_be_exported_and_pushed(node: Node) -> None:
    node.ctr(f"images export /root/odd.tar {ODD}")
    node.ctr("images push --plain-http registry.lab:5000/home/odd:2")
    # The blobs are docker's own streams: what docker loads from them are the same layers.
    node.sh("docker rmi home/built:1 home/built-with-buildkit:1")
    assert "Loaded image" in node.sh("docker load -i /root/odd.tar")
    node.compare()


def test_docker_s_directory_is_taken_away(node: Node) -> None:
    """Images of registries are completed, and everything runs, from what containerd has."""
    layers = containerd_layers(node)
    before = digest(node, layers)
    node.sh(
        "systemctl stop kubelet docker.socket docker;"
        " (grep -o ' /var/lib/docker/[^ ]*' /proc/mounts || true) | sort -r | xargs -r umount -l;"
        " rm -rf /var/lib/docker/*"
    )
    assert digest(node, layers) == before
    assert node.ctr(f"run --rm {ODD} t cat odd/second") == "linked"
    assert node.ctr("run --rm docker.io/home/deep:1 d ls steps").split() == ["122", "123"]
    restored = node.do("restore", restore="all")
    names = [name for image in restored["waiting"] for name in image["names"]]
    assert "registry.lab:5000/web:1" in names and restored["remaining"] == []
    assert "incomplete (" not in node.ctr("images check")

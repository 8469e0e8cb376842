# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The script that keeps images: whatever fails, it says so and keeps its list."""

from __future__ import annotations

import json
import shlex
import subprocess

import jinja2
import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import adoption
from support import RECORDED, ROOT

TEMPLATE = ROOT / "roles/keep_images/templates/homelab-keep-images.sh.j2"
NAME = "docker.io/home/local-only:1"
OTHER = "registry.k8s.io/etcd:3.5.6-0"
IMAGES = RECORDED / "containerd-1.6.20/images-list.txt"


def listed(name):
    return next(line.split() for line in IMAGES.read_text().splitlines() if line.startswith(name))


def identity(name=NAME):
    """The ID that containerd's image of this name has: CRI names it so."""
    digest = listed(name)[2]
    (found,) = (
        words[0]
        for words in map(str.split, IMAGES.read_text().splitlines())
        if words[2] == digest and words[0].startswith("sha256:")
    )
    return found


@pytest.fixture
def lists(tmp_path):
    (tmp_path / "lists").mkdir()
    return tmp_path / "lists"


@pytest.fixture
def keeper(tmp_path, program, lists):
    """Runs the script on a list with two images of docker's: its result, and if it is kept."""
    environment = jinja2.Environment(keep_trailing_newline=True)
    environment.filters.update(comment=lambda text: "# " + text, quote=shlex.quote)
    rows = (f"k8s.io {name} {name} {identity(name)}\n" for name in (NAME, OTHER))
    (lists / "carry_images").write_text("".join(rows))
    script = tmp_path / "script"
    script.write_text(
        environment.from_string(TEMPLATE.read_text()).render(
            ansible_managed="written",
            __common_keep_images=str(lists),
            __keep_images_copies="copies",
            keep_images_containerd_address="/run/c.sock",
        )
    )

    def run(ctr="", docker="exit 1", images=f"cat {IMAGES}"):
        program(
            "ctr",
            'echo "$*" >> %s/asked; case "$*" in *--help) ;; %s\n'
            "*copies*list) echo REF;; *list) %s;; *) exit 1;; esac" % (tmp_path, ctr, images),
        )
        program("docker", docker)
        before = (lists / "carry_images").read_text()
        done = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
        return done, (lists / "carry_images").read_text() == before

    return run


def test_what_is_there_is_left(keeper):
    done, same = keeper()
    assert done.returncode == 0 and same, done.stderr


@pytest.mark.parametrize(
    "images",
    [
        "echo 'connection refused' >&2; exit 1",
        # It breaks off before the image's line.
        f"head -1 {IMAGES}; echo 'transport is closing' >&2; exit 1",
    ],
)
def test_a_containerd_that_does_not_answer_loses_no_row(keeper, images):
    done, same = keeper(images=images)
    assert done.returncode != 0 and same
    assert "refused" in done.stderr or "closing" in done.stderr


def without(tmp_path, *names):
    """containerd's list without some names."""
    path = tmp_path / "images"
    lines = IMAGES.read_text().splitlines()
    path.write_text("".join(line + "\n" for line in lines if line.split()[0] not in names))
    return f"cat {path}"


@pytest.mark.parametrize("docker", ["echo 'no such daemon' >&2; exit 1", "printf x; exit 1"])
def test_a_docker_that_breaks_off_fails_and_loses_no_row(keeper, tmp_path, docker):
    done, same = keeper(
        ctr="*import*) cat >/dev/null;;", docker=docker, images=without(tmp_path, NAME)
    )
    assert done.returncode != 0 and same


def manifest(config):
    """A manifest as adoption writes it."""
    made = json.loads(adoption.manifest(b"{}", []))
    made["config"]["digest"] = config
    return shlex.quote(json.dumps(made))


def test_an_image_that_cri_has_no_name_for_yet_is_the_same(keeper, tmp_path):
    images = without(tmp_path, identity())
    done, same = keeper(ctr=f"*content*) echo {manifest(identity())};;", images=images)
    assert done.returncode == 0 and same, done.stderr
    done, same = keeper(ctr="*content*) echo 'not found' >&2; exit 1;;", images=images)
    assert done.returncode != 0 and same


def test_another_image_under_the_name_is_dropped_by_a_rename(keeper, tmp_path, lists):
    before = (lists / "carry_images").stat().st_ino
    ctr = "*content*) echo %s;;" % manifest("sha256:" + "0" * 64)
    images = without(tmp_path, identity())
    done, same = keeper(ctr=ctr, images=images)
    assert done.returncode == 0 and not same and "another image now" in done.stdout
    assert (lists / "carry_images").read_text().split()[1:2] == [OTHER]
    assert (lists / "carry_images").stat().st_ino != before


def test_a_full_disk_fails_and_keeps_the_list(keeper, tmp_path, lists):
    (lists / ".new").symlink_to("/dev/full")
    ctr = "*content*) echo %s;;" % manifest("sha256:" + "0" * 64)
    done, same = keeper(ctr=ctr, images=without(tmp_path, identity()))
    assert done.returncode != 0 and same and "No space left" in done.stderr

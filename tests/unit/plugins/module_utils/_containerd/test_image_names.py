# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._containerd.image_names import (
    chain_ids,
    full_name,
    missing,
    normalize,
    unregistered_tags,
)
from hypothesis import given
from hypothesis import strategies as st

parts = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,6}[a-z0-9])?", fullmatch=True)
hosts = st.one_of(
    st.just("localhost"),
    st.builds("{}.{}".format, parts, parts),
    st.builds("{}:5000".format, parts),
)
references = st.builds(
    "{}{}:{}".format,
    st.one_of(st.just(""), hosts.map("{}/".format)),
    st.lists(parts, min_size=1, max_size=3).map("/".join),
    parts,
)


@pytest.mark.parametrize(
    ("docker", "containerd"),
    [
        ("app:1", "docker.io/library/app:1"),
        ("home/local-only:1", "docker.io/home/local-only:1"),
        ("docker.io/app:1", "docker.io/library/app:1"),
        ("index.docker.io/app:1", "docker.io/library/app:1"),
        ("index.docker.io/a/b:1", "docker.io/a/b:1"),
        ("docker.io/a/b:1", "docker.io/a/b:1"),
        ("NAS/app:1", "NAS/app:1"),
        ("localhost/app:1", "localhost/app:1"),
        ("localhost:5000/app:1", "localhost:5000/app:1"),
        ("registry:5000/app:1", "registry:5000/app:1"),
        ("registry.lab:5000/a/b@sha256:0", "registry.lab:5000/a/b@sha256:0"),
        ("app:1.2", "docker.io/library/app:1.2"),
    ],
)
def test_normalize(docker, containerd):
    assert normalize(docker) == containerd


@given(references)
def test_a_full_name_is_the_normalized_one(reference):
    untagged = reference.rpartition(":")[0]
    assert full_name(reference) == normalize(reference)
    assert full_name(untagged) == normalize(untagged) + ":latest"


@given(references)
def test_normalize_is_idempotent(reference):
    assert normalize(normalize(reference)) == normalize(reference)


def test_recorded_tags_have_their_recorded_names(recorded):
    lines = recorded("containerd-1.6.20/images-list.txt").splitlines()
    present = {line.split()[0] for line in lines}
    tags = [tag for image in recorded("docker-20.10.24/images.json") for tag in image["RepoTags"]]
    assert tags
    assert {normalize(tag) for tag in tags} <= present


def test_chain_ids():
    first, second = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    chain = hashlib.sha256(("%s %s" % (first, second)).encode()).hexdigest()
    assert chain_ids([first, second]) == [first, "sha256:" + chain]
    assert chain_ids([]) == []


BASE = {"id": "sha256:b", "tags": ["base:1"], "digests": ["base@sha256:d"]}
NAMES = ["docker.io/library/base:1", "docker.io/library/base@sha256:d"]


def test_what_is_nowhere_is_carried_and_tagged():
    assert missing([BASE], {}) == {
        "carry": [BASE],
        "tag": [(BASE, NAMES[0]), (BASE, NAMES[1])],
        "kept": [],
        "dangling": [],
    }


def test_what_is_there_is_left_alone():
    found = missing([BASE], dict.fromkeys(NAMES, "sha256:b"))
    assert found == {"carry": [], "tag": [], "kept": [], "dangling": []}


def test_a_known_image_gets_only_its_new_name():
    found = missing([BASE], {NAMES[0]: "sha256:b"})
    assert found["carry"] == [] and found["tag"] == [(BASE, NAMES[1])]


def test_a_name_of_another_image_is_kept_unless_it_is_to_be_overwritten():
    present = {NAMES[0]: "sha256:other", NAMES[1]: "sha256:b"}
    assert missing([BASE], present)["kept"] == [NAMES[0]]
    assert missing([BASE], present)["tag"] == []
    assert missing([BASE], present, overwrite=True)["tag"] == [(BASE, NAMES[0])]


def test_a_nameless_image_is_dangling():
    image = {"id": "sha256:n", "tags": [], "digests": []}
    assert missing([image], {}) == {"carry": [], "tag": [], "kept": [], "dangling": ["sha256:n"]}


def test_a_tag_is_unregistered_unless_its_repository_has_a_digest():
    image = {"tags": ["busybox:1", "home/bb:1"], "digests": ["busybox@sha256:2"]}
    assert unregistered_tags(image) == ["home/bb:1"]
    image = {"tags": ["nas.home:5000/app:1"], "digests": ["nas.home:5000/app@sha256:2"]}
    assert unregistered_tags(image) == []
    assert unregistered_tags({"tags": [], "digests": []}) == []

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._host.flags import (
    flag_values,
    split_flags,
)
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes.kubelet_flags import (
    read_env,
    to_containerd,
    to_dockershim,
    without,
    write_env,
)
from hypothesis import given
from hypothesis import strategies as st

VARIABLE = "KUBELET_KUBEADM_ARGS"
DOCKERSHIM = ["--network-plugin=cni", "--pod-infra-container-image=registry.k8s.io/pause:3.6"]

names = st.from_regex(r"[a-z][a-z-]{0,12}", fullmatch=True)
values = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)
flags = st.one_of(
    st.builds("--{}={}".format, names, values),
    st.builds("--{}".format, names),
)


def test_recorded_kubeadm_flags(recorded):
    text = recorded("kubernetes-1.23.17/kubeadm-flags.env")
    assert read_env(text, VARIABLE) == (DOCKERSHIM, None)
    assert write_env(text, VARIABLE, DOCKERSHIM) == text


def test_recorded_extra_args_are_empty(recorded):
    text = recorded("kubernetes-1.23.17/default-kubelet.env")
    assert read_env(text, "KUBELET_EXTRA_ARGS") == ([], None)


def test_to_containerd_is_what_kubeadm_writes():
    assert to_containerd(DOCKERSHIM, (1, 23)) == [
        "--container-runtime=remote",
        "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
        "--pod-infra-container-image=registry.k8s.io/pause:3.6",
    ]


def test_to_containerd_from_1_24_has_no_container_runtime():
    words = to_containerd([], (1, 24))
    assert not [word for word in words if word.startswith("--container-runtime=")]


def test_there_and_back():
    assert to_dockershim(to_containerd(DOCKERSHIM, (1, 23))) == DOCKERSHIM


@pytest.mark.parametrize(
    "words",
    [
        ["--network-plugin=cni", "--cni-bin-dir=/opt/cni/bin", "--v=2"],
        ["--network-plugin", "cni", "--cni-bin-dir", "/opt/cni/bin", "--v=2"],
        ["-network-plugin=kubenet", "--image-pull-progress-deadline=5m", "--v=2"],
    ],
)
def test_dockershim_flags_go_however_they_are_written(words):
    assert to_containerd(words, (1, 23))[2:] == ["--v=2"]


def test_without_leaves_flags_that_only_begin_the_same():
    words = ["--docker-endpoint-x=1", "--container-runtime-endpoint-x=1"]
    assert to_containerd(words, (1, 24))[1:] == words
    assert without(words, {"docker-endpoint"}) == words


def test_the_last_of_a_repeated_flag_counts():
    assert flag_values(["--v=1", "--v", "2", "--fail-swap-on"]) == {
        "v": "2",
        "fail-swap-on": "true",
    }


def test_a_word_that_is_no_flag_is_kept():
    assert split_flags(["start", "--v", "2", "more"]) == [
        ("", ["start"]),
        ("v", ["--v", "2"]),
        ("", ["more"]),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('%s="--a=1 --b=2"', ["--a=1", "--b=2"]),
        ("%s='--a=1 --b=2'", ["--a=1", "--b=2"]),
        ("%s=--a=1 --b=2", ["--a=1", "--b=2"]),
        ("# %s=--a=1\n", []),
        ("OTHER=--x\n  %s=--a=1\n", ["--a=1"]),
        ('%s="--a=1"\n%s="--a=2"', ["--a=2"]),
        ("%s=\"--labels='a b'\"", ["--labels=a b"]),
    ],
)
def test_forms_that_systemd_reads(text, words):
    assert read_env(text.replace("%s", VARIABLE), VARIABLE) == (words, None)


@pytest.mark.parametrize("text", ['%s="--a=1', "%s=--a=1 \\", '%s="--a=1 \\\n--b=2"'])
def test_what_cannot_be_read_is_an_error_and_never_a_guess(text):
    words, error = read_env(text % VARIABLE, VARIABLE)
    assert words == []
    assert error is not None and VARIABLE in error


def test_write_env_keeps_the_other_lines():
    text = "# kept\nOTHER=1\n%s=--old\n\n%s=--older\n" % (VARIABLE, VARIABLE)
    assert write_env(text, VARIABLE, ["--new"]) == '# kept\nOTHER=1\n%s="--new"\n\n' % VARIABLE


def test_write_env_adds_what_is_missing():
    assert write_env("", VARIABLE, ["--new"]) == '%s="--new"\n' % VARIABLE


@given(st.lists(st.one_of(flags, values)))
def test_split_flags_loses_no_word(words):
    assert [word for _name, written in split_flags(words) for word in written] == words


@given(st.lists(st.one_of(flags, values)))
def test_without_is_idempotent_and_complete(words):
    removed = {"a", "b", "network-plugin"}
    once = without(words, removed)
    assert without(once, set()) == once
    assert not removed & set(flag_values(once))


@given(st.lists(values))
def test_what_is_written_reads_back(words):
    assert read_env(write_env("A=1\n", VARIABLE, words), VARIABLE) == (words, None)


@given(st.lists(st.from_regex(r"[^\s'\"\\]+([ \t]+[^\s'\"\\]+)?", fullmatch=True)))
def test_words_without_quotes_read_back(words):
    assert read_env(write_env("A=1\n", VARIABLE, words), VARIABLE) == (words, None)

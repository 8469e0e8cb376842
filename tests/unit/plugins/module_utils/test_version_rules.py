# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils.version_rules import (
    config_version,
    pair_problem,
    parse_version,
    show,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v1.23.17", (1, 23, 17)),
        ("Kubernetes v1.23.17", (1, 23, 17)),
        ("v1.22.5+k3s1", (1, 22, 5)),
        ("1.6.20~ds1", (1, 6, 20)),
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", (1, 6, 20)),
        ("containerd github.com/containerd/containerd/v2 v2.4.2 ", (2, 4, 2)),
        ("containerd containerd.io 1.6.33 d2d58213f83a351ca8f528a95fbd145f5654e957", (1, 6, 33)),
        ("20.10.24+dfsg1", (20, 10, 24)),
        ("2.2", (2, 2, 0)),
        ("", None),
        (None, None),
        ("newest", None),
    ],
)
def test_parse_version(text, version):
    assert parse_version(text) == version


@given(st.tuples(*[st.integers(0, 999)] * 3))
def test_shown_versions_parse(version):
    assert parse_version(show(version)) == version
    assert parse_version("v" + show(version)) == version


@pytest.mark.parametrize(
    ("containerd", "version"),
    [
        ((1, 4, 13), 2),
        ((1, 7, 24), 2),
        ((2, 0, 0), 3),
        ((2, 2, 9), 3),
        ((2, 3, 0), 4),
        ((2, 4, 2), 4),
    ],
)
def test_config_version(containerd, version):
    assert config_version(containerd) == version


@pytest.mark.parametrize(
    ("kubelet", "containerd"),
    [
        ((1, 23, 17), (1, 6, 20)),
        ((1, 23, 17), (2, 4, 2)),
        ((1, 18, 0), (1, 4, 13)),
        ((1, 22, 17), (1, 7, 24)),
        ((1, 26, 0), (1, 6, 15)),
        ((1, 34, 0), (2, 2, 0)),
        ((1, 36, 0), (2, 2, 0)),
    ],
)
def test_pairs_that_work(kubelet, containerd):
    assert pair_problem(kubelet, containerd) is None


@pytest.mark.parametrize(
    ("kubelet", "containerd", "why"),
    [
        ((1, 17, 17), (1, 6, 20), "only kubelets 1.18 to"),
        ((1, 99, 0), (2, 4, 0), "only kubelets 1.18 to"),
        ((1, 23, 17), (1, 3, 9), "only containerd 1.4 to"),
        ((1, 23, 17), (3, 0, 0), "only containerd 1.4 to"),
        ((1, 22, 17), (2, 0, 0), "v1alpha2"),
        ((1, 26, 0), (1, 5, 18), "only CRI v1"),
        ((1, 26, 0), (1, 6, 14), "at least 1.6.15"),
        ((1, 34, 0), (2, 1, 2), "at least 1.7.28 or 2.0.6 or 2.1.3"),
        ((1, 36, 0), (1, 7, 35), "at least 2.2.0"),
    ],
)
def test_pairs_that_do_not(kubelet, containerd, why):
    problem = pair_problem(kubelet, containerd)
    assert problem is not None and why in problem
    assert problem.startswith("kubelet %s and containerd %s: " % (show(kubelet), show(containerd)))


def test_a_line_older_than_the_newest_in_the_table_is_not_enough():
    assert pair_problem((1, 35, 0), (2, 0, 7)) is not None

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes.versions import (
    cgroup_problem,
    cni_problem,
    config_version,
    cri,
    has_dockershim,
    kubelet_configmap,
    needs_runtime_flag,
    pair_problem,
    parse_version,
    show,
    supports_image_pinning,
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


KUBELETS = [(1, minor, 9) for minor in range(18, 38)]
CONTAINERDS = [(1, 4, 13), (1, 5, 18), (1, 6, 20), (1, 7, 35)] + [(2, n, 9) for n in range(5)]


@pytest.mark.parametrize("kubelet", KUBELETS, ids=show)
@pytest.mark.parametrize("containerd", CONTAINERDS, ids=show)
def test_the_whole_matrix(kubelet, containerd):
    """What each pair speaks, written down a second way: by the releases that dropped a version."""
    kubelet_speaks = {"v1alpha2"} if kubelet[1] < 23 else {"v1"}
    if 23 <= kubelet[1] < 26:
        kubelet_speaks = {"v1", "v1alpha2"}
    containerd_speaks = {"v1alpha2"} if containerd < (1, 6) else {"v1"}
    if (1, 6) <= containerd < (2, 0):
        containerd_speaks = {"v1", "v1alpha2"}
    common = kubelet_speaks & containerd_speaks
    assert cri(kubelet, containerd) == (
        ("v1" if "v1" in common else "v1alpha2") if common else None
    )
    problem = pair_problem(kubelet, containerd)
    if not common:
        assert problem and "CRI" in problem
    elif kubelet[1] < 26:
        assert problem is None
    else:
        # containerd's own table, which asks for more than a common CRI.
        oldest = {
            26: (1, 6),
            32: (1, 7),
            33: (1, 7),
            34: (1, 7),
            35: (1, 7),
            36: (2, 2),
            37: (2, 2),
        }
        line = max((v for minor, v in oldest.items() if minor <= kubelet[1]), default=(1, 6))
        listed = (kubelet[1], containerd[:2]) not in {(35, (2, 0))}
        assert (problem is None) is (containerd[:2] >= line and listed), problem


@pytest.mark.parametrize("kubelet", KUBELETS, ids=show)
@pytest.mark.parametrize("cgroup", [1, 2])
@pytest.mark.parametrize("fails", [None, True, False])
def test_cgroup_versions(kubelet, cgroup, fails):
    starts = kubelet[1] >= 19 if cgroup == 2 else kubelet[1] < 35 or fails is False
    assert (cgroup_problem(kubelet, cgroup, fails) is None) is starts


@pytest.mark.parametrize(
    ("kubelet", "dockershim", "runtime_flag", "configmap", "pinning"),
    [
        ((1, 18, 20), True, True, "kubelet-config-1.18", False),
        ((1, 23, 17), True, True, "kubelet-config-1.23", False),
        ((1, 24, 0), False, False, "kubelet-config", False),
        ((1, 28, 9), False, False, "kubelet-config", False),
        ((1, 29, 0), False, False, "kubelet-config", True),
        ((1, 37, 0), False, False, "kubelet-config", True),
    ],
)
def test_what_changed_with_a_kubelet(kubelet, dockershim, runtime_flag, configmap, pinning):
    assert has_dockershim(kubelet) is dockershim
    assert needs_runtime_flag(kubelet) is runtime_flag
    assert kubelet_configmap(kubelet) == configmap
    assert supports_image_pinning(kubelet) is pinning


@pytest.mark.parametrize(
    ("containerd", "supports", "works"),
    [
        ((1, 6, 0), ["0.4.0"], False),
        ((1, 6, 3), ["0.3.1", "0.4.0"], False),
        ((1, 6, 3), ["0.4.0", "1.0.0"], True),
        ((1, 6, 4), ["0.4.0"], True),
        ((1, 5, 18), ["0.4.0"], True),
        ((2, 4, 2), [], True),
    ],
)
def test_cni(containerd, supports, works):
    assert (cni_problem(containerd, "0.3.1", supports) is None) is works

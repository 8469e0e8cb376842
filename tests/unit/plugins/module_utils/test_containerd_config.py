# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import tomllib

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils.containerd_config import (
    CRI_PLUGINS,
    merge_settings,
    problem,
)
from hypothesis import given
from hypothesis import strategies as st
from support import SETTINGS

DOCKERS_OWN = {"disabled_plugins": ["cri"]}


def merged(document, **changes):
    merge_settings(document, dict(SETTINGS, **changes))
    return document


def leaves(value, path=()):
    """(path, value) of everything in nested mappings that is no mapping."""
    for key, item in value.items():
        if isinstance(item, dict):
            yield from leaves(item, (*path, key))
        else:
            yield (*path, key), item


def test_dockers_own_config_gets_a_version_and_cri():
    document = merged(copy.deepcopy(DOCKERS_OWN))
    assert document == {
        "version": 2,
        "plugins": {
            "io.containerd.grpc.v1.cri": {
                "sandbox_image": "registry.k8s.io/pause:3.6",
                "registry": {"config_path": "/etc/containerd/certs.d"},
                "cni": {"bin_dir": "/usr/lib/cni", "conf_dir": "/etc/cni/net.d"},
                "containerd": {
                    "runtimes": {
                        "runc": {
                            "runtime_type": "io.containerd.runc.v2",
                            "options": {"SystemdCgroup": True},
                        }
                    }
                },
            }
        },
    }


def test_version_3_has_its_own_tables():
    plugins = merged({}, config_version=3)["plugins"]
    images, runtime = (
        plugins["io.containerd.cri.v1.images"],
        plugins["io.containerd.cri.v1.runtime"],
    )
    assert images["pinned_images"] == {"sandbox": "registry.k8s.io/pause:3.6"}
    assert images["registry"] == {"config_path": "/etc/containerd/certs.d"}
    assert runtime["cni"] == {"bin_dir": "/usr/lib/cni", "conf_dir": "/etc/cni/net.d"}
    assert runtime["containerd"]["runtimes"]["runc"]["options"] == {"SystemdCgroup": True}
    assert "io.containerd.grpc.v1.cri" not in plugins


def test_containerd_2_4_knows_only_bin_dirs():
    """It says `Ignoring unknown key in TOML for plugin … key="cni bin_dir"`."""
    cni = merged({}, config_version=4)["plugins"]["io.containerd.cri.v1.runtime"]["cni"]
    assert cni == {"bin_dirs": ["/usr/lib/cni", "/opt/cni/bin"], "conf_dir": "/etc/cni/net.d"}


def test_an_owners_version_2_file_stays_so_on_a_newer_containerd():
    document = merged({"version": 2}, config_version=4)
    assert document["version"] == 2
    assert list(document["plugins"]) == ["io.containerd.grpc.v1.cri"]


def test_cgroupfs():
    document = merged({}, cgroup_driver="cgroupfs")
    cri = document["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is False


@pytest.mark.parametrize("name", CRI_PLUGINS)
def test_cri_is_enabled_under_each_of_its_names_and_other_plugins_stay_off(name):
    document = {"version": 2, "disabled_plugins": [name, "io.containerd.snapshotter.v1.zfs"]}
    assert merged(document)["disabled_plugins"] == ["io.containerd.snapshotter.v1.zfs"]


def test_overrides_come_last():
    overrides = {
        "oom_score": -999,
        "plugins": {"io.containerd.grpc.v1.cri": {"sandbox_image": "x"}},
    }
    document = merged({"oom_score": 0}, overrides=overrides)
    assert document["oom_score"] == -999
    assert document["plugins"]["io.containerd.grpc.v1.cri"]["sandbox_image"] == "x"
    assert document["plugins"]["io.containerd.grpc.v1.cri"]["cni"]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"plugins": {"cri": {"sandbox_image": "x"}}}, "version 1"),
        ({"disabled_plugins": ["cri", "aufs"]}, "aufs"),
        ({"disabled_plugins": "cri"}, "disabled_plugins"),
        ({"version": 2, "plugins": 1}, "plugins"),
        (
            {
                "version": 2,
                "plugins": {"io.containerd.grpc.v1.cri": {"registry": {"mirrors": {"a": {}}}}},
            },
            "hosts.toml",
        ),
        (
            {
                "version": 2,
                "plugins": {"io.containerd.grpc.v1.cri": {"registry": {"configs": {"a": {}}}}},
            },
            "hosts.toml",
        ),
    ],
)
def test_what_cannot_be_merged_is_refused_and_left_as_it_was(document, why):
    before = copy.deepcopy(document)
    found = problem(document)
    assert found is not None and why in found
    with pytest.raises(ValueError, match=r"."):
        merged(document)
    assert document == before


@pytest.mark.parametrize("containerd", ["1.6.20", "1.7.24", "2.4.2"])
def test_a_real_default_config_keeps_every_other_key(recorded, containerd):
    document = tomllib.loads(recorded("containerd-%s/config-default.toml" % containerd))
    assert problem(document) is None
    before = dict(leaves(document))
    after = dict(leaves(merged(document, config_version=4 if containerd == "2.4.2" else 2)))
    changed = {path[-1] for path, value in before.items() if after.get(path) != value}
    assert changed <= {
        "disabled_plugins",  # empty, so it is left out
        "sandbox_image",
        "sandbox",
        "config_path",
        "bin_dir",
        "bin_dirs",
        "SystemdCgroup",
    }
    assert {"config_path"} < changed
    again = copy.deepcopy(document)
    assert merged(document, config_version=4 if containerd == "2.4.2" else 2) == again


def test_containerd_1_4_writes_a_mirror_into_its_default_config(recorded):
    document = tomllib.loads(recorded("containerd-1.4.13/config-default.toml"))
    found = problem(document)
    assert found is not None and "hosts.toml" in found


keys = st.sampled_from(["a", "b", "cni", "containerd", "registry", "io.containerd.grpc.v1.cri"])
trees = st.recursive(
    st.dictionaries(st.sampled_from(["x", "y", "timeout"]), st.integers()),
    lambda inner: st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@given(trees, st.sampled_from([2, 3, 4]))
def test_no_key_of_the_owners_is_dropped(plugins, version):
    document = {"version": version, "root": "/r", "plugins": copy.deepcopy(plugins)}
    after = dict(leaves(merged(document, config_version=version)))
    assert after[("root",)] == "/r"
    for path, value in leaves({"plugins": plugins}):
        assert after[path] == value

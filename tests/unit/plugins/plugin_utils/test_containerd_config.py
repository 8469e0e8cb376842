# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import tomllib
import typing as t

import pytest
from ansible_collections.homelab.containerd.plugins.plugin_utils.containerd_config import (
    CRI_PLUGINS,
    Settings,
    merge_settings,
    problem,
    registries_of,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.registries import (
    hosts_toml,
)
from hypothesis import given
from hypothesis import strategies as st
from support import SETTINGS

DOCKERS_OWN = {"disabled_plugins": ["cri"]}


def merged(document, **changes):
    merge_settings(document, t.cast(Settings, dict(SETTINGS, **changes)))
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
        ({"plugins": {"my-own": {"x": 1}}}, "version 1"),
        ({"disabled_plugins": ["cri", "content"]}, "content"),
        ({"plugins": {"cri": {}, "io.containerd.grpc.v1.cri": {}}}, "twice"),
        ({"disabled_plugins": "cri"}, "disabled_plugins"),
        ({"version": 2, "plugins": 1}, "plugins"),
        ({"version": "2"}, "version"),
        (
            {
                "version": 2,
                "plugins": {
                    "io.containerd.grpc.v1.cri": {
                        "registry": {"mirrors": {"a": {"endpoint": ["ftp://a"]}}}
                    }
                },
            },
            "mirrors.a",
        ),
        (
            {
                "version": 2,
                "plugins": {
                    "io.containerd.grpc.v1.cri": {
                        "registry": {"mirrors": {"b": {"endpoint": ["http://[fd00::7]:5000"]}}}
                    }
                },
            },
            "mirrors.b",
        ),
        (
            {
                "version": 2,
                "plugins": {
                    "io.containerd.grpc.v1.cri": {
                        "registry": {"configs": {"a/b": {"tls": {"ca_file": "/x"}}}}
                    }
                },
            },
            "configs.a/b",
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


def test_the_mirror_that_containerd_1_4_writes_says_nothing(recorded):
    document = tomllib.loads(recorded("containerd-1.4.13/config-default.toml"))
    assert document["plugins"]["io.containerd.grpc.v1.cri"]["registry"]["mirrors"]
    assert problem(document) is None and registries_of(document) == []
    registry = merged(document)["plugins"]["io.containerd.grpc.v1.cri"]["registry"]
    assert registry == {"config_path": "/etc/containerd/certs.d"}


@pytest.mark.parametrize(
    ("version", "name"), [(2, "io.containerd.grpc.v1.cri"), (3, "io.containerd.cri.v1.images")]
)
def test_registries_of_the_config_move_to_hosts_toml(version, name):
    registry = {
        "mirrors": {
            "docker.io": {
                "endpoint": ["http://m.home:5000/", "https://registry-1.docker.io"],
            },
            "*": {"endpoint": ["https://all.home"]},
            "nas:5000": {"endpoint": ["https://nas:5000"]},
        },
        "configs": {
            "all.home": {
                "tls": {"ca_file": "/ca.pem", "cert_file": "/c.pem", "key_file": "/k.pem"},
                "auth": {"username": "me", "password": "hush"},
            },
            "nas:5000": {"tls": {"insecure_skip_verify": True}},
        },
        "auths": {"https://a": {"auth": "x"}},
    }
    document = {"version": version, "plugins": {name: {"registry": registry}}}
    found = {entry["host"]: entry for entry in registries_of(document)}
    assert list(found) == ["docker.io", "_default", "nas:5000", "all.home"]
    assert found["docker.io"]["mirrors"] == ["http://m.home:5000"]
    assert tomllib.loads(hosts_toml(found["_default"])) == {
        "host": {
            "https://all.home": {
                "capabilities": ["pull", "resolve"],
                "ca": ["/ca.pem"],
                "client": [["/c.pem", "/k.pem"]],
            }
        }
    }
    assert tomllib.loads(hosts_toml(found["nas:5000"])) == {
        "server": "https://nas:5000",
        "host": {
            "https://nas:5000": {
                "capabilities": ["pull", "resolve", "push"],
                "skip_verify": True,
            }
        },
    }
    # Logins may stay beside config_path (ValidatePluginConfig of 1.6).
    assert merged(document)["plugins"][name]["registry"] == {
        "config_path": "/etc/containerd/certs.d",
        "configs": {"all.home": {"auth": {"username": "me", "password": "hush"}}},
        "auths": {"https://a": {"auth": "x"}},
    }
    assert registries_of(document) == []


def test_version_1_becomes_version_2_with_all_that_is_in_it():
    document = {
        "root": "/r",
        "disabled_plugins": ["cri", "zfs"],
        "required_plugins": ["opt", "diff-service"],
        "plugins": {
            "cgroups": {"no_prometheus": True},
            "cri": {
                "sandbox_image": "old",
                "systemd_cgroup": True,
                "containerd": {
                    "snapshotter": "native",
                    "default_runtime": {
                        "runtime_type": "io.containerd.runtime.v1.linux",
                        "runtime_engine": "/usr/bin/crun",
                    },
                    "untrusted_workload_runtime": {"runtime_type": "io.containerd.kata.v2"},
                },
            },
            "linux": {"shim": "x"},
        },
    }
    after = merged(document, config_version=4)
    assert after["version"] == 2 and after["root"] == "/r"
    assert after["disabled_plugins"] == ["io.containerd.snapshotter.v1.zfs"]
    assert after["required_plugins"] == [
        "io.containerd.internal.v1.opt",
        "io.containerd.service.v1.diff-service",
    ]
    assert list(after["plugins"]) == [
        "io.containerd.monitor.v1.cgroups",
        "io.containerd.grpc.v1.cri",
        "io.containerd.runtime.v1.linux",
    ]
    cri = after["plugins"]["io.containerd.grpc.v1.cri"]
    assert "systemd_cgroup" not in cri and cri["containerd"]["snapshotter"] == "native"
    assert cri["containerd"]["default_runtime_name"] == "default"
    assert cri["containerd"]["runtimes"]["default"] == {
        "runtime_type": "io.containerd.runc.v2",
        "options": {"BinaryName": "/usr/bin/crun", "SystemdCgroup": True},
    }
    assert cri["containerd"]["runtimes"]["untrusted"] == {"runtime_type": "io.containerd.kata.v2"}


NVIDIA = {
    "runtime_type": "io.containerd.runc.v2",
    "options": {"BinaryName": "/usr/bin/nvidia-container-runtime"},
}
DOCKERS = {
    "runtimes": {"nvidia": NVIDIA},
    "default_runtime_name": "nvidia",
    "max_concurrent_downloads": 10,
    "enable_selinux": True,
}


@pytest.mark.parametrize("version", [2, 3, 4])
def test_what_docker_had_is_added(version):
    plugins = merged({}, config_version=version, **DOCKERS)["plugins"]
    images, cri = plugins.values() if version > 2 else [plugins["io.containerd.grpc.v1.cri"]] * 2
    assert images["max_concurrent_downloads"] == 10 and cri["enable_selinux"] is True
    containerd = cri["containerd"]
    assert containerd["default_runtime_name"] == "nvidia"
    assert set(containerd["runtimes"]) == {"nvidia", "runc"}
    options = containerd["runtimes"]["nvidia"]["options"]
    assert options == {
        "BinaryName": "/usr/bin/nvidia-container-runtime",
        "SystemdCgroup": True,
    }
    assert "SystemdCgroup" not in NVIDIA["options"]


@pytest.mark.parametrize(
    ("version", "name"), [(2, "io.containerd.grpc.v1.cri"), (3, "io.containerd.cri.v1.runtime")]
)
def test_what_the_owner_has_of_it_stays(version, name):
    owners = {
        "runtimes": {
            "nvidia": {
                "runtime_type": "io.containerd.runc.v2",
                "privileged_without_host_devices": True,
                "options": {"BinaryName": "/opt/nvidia"},
            }
        },
        "default_runtime_name": "mine",
    }
    cri = {"containerd": owners, "max_concurrent_downloads": 7}
    document = {"version": version, "plugins": {name: copy.deepcopy(cri)}}
    after = merged(document, **DOCKERS)["plugins"][name]
    assert after["containerd"]["default_runtime_name"] == "mine"
    runtime = after["containerd"]["runtimes"]["nvidia"]
    assert runtime["options"]["BinaryName"] == "/opt/nvidia"
    assert runtime["privileged_without_host_devices"] is True
    # All runtimes have to agree with the kubelet.
    assert runtime["options"]["SystemdCgroup"] is True
    assert after["max_concurrent_downloads"] == 7


@pytest.mark.parametrize("containerd", ["1.4.13", "1.6.20", "1.7.24", "2.4.2"])
def test_dockers_settings_go_into_a_file_of_defaults(recorded, containerd):
    document = tomllib.loads(recorded("containerd-%s/config-default.toml" % containerd))
    version = 4 if containerd == "2.4.2" else 2
    after = merged(document, config_version=version, **DOCKERS)
    found = dict(leaves(after))
    values = {path[-1]: value for path, value in found.items() if ".cri" in str(path)}
    assert values["default_runtime_name"] == "nvidia"
    assert values["max_concurrent_downloads"] == 10 and values["enable_selinux"] is True
    again = copy.deepcopy(after)
    assert merged(after, config_version=version, **DOCKERS) == again


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

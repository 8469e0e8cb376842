# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import tomllib

import pytest
import tomlkit
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.homelab.containerd.plugins.filter.containerd_config import (
    HEADER,
    containerd_config,
    containerd_config_paths,
    containerd_registries,
)
from ansible_collections.homelab.containerd.plugins.filter.docker_config import (
    translate_daemon_json,
)
from ansible_collections.homelab.containerd.plugins.filter.kubelet_config import (
    kubelet_config,
    kubelet_configmaps_out_of_step,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.registries import (
    hosts_toml,
)
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT, SETTINGS

OWNERS = """# Mine.
version = 2   # two

[plugins."io.containerd.grpc.v1.cri".containerd]
  # runs faster here
  snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
BinaryName = "/usr/bin/nvidia-container-runtime"

[metrics]
address = "127.0.0.1:1338"
"""


def test_owners_comments_and_order_stay():
    text = containerd_config(OWNERS, SETTINGS)
    assert text.startswith(HEADER + "\n# Mine.\nversion = 2   # two\n")
    left = [line for line in OWNERS.splitlines() if line not in text.splitlines()]
    assert left == []
    cri = tomllib.loads(text)["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["containerd"]["runtimes"]["nvidia"]["options"]["BinaryName"]
    assert cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is True
    assert cri["sandbox_image"] == "registry.k8s.io/pause:3.6"


@pytest.mark.parametrize("containerd", ["none", "docker", "1.6.20", "1.7.24", "2.4.2"])
def test_a_second_time_changes_nothing(recorded, containerd):
    existing = {"none": "", "docker": 'disabled_plugins = ["cri"]\n'}.get(containerd)
    if existing is None:
        existing = recorded("containerd-%s/config-default.toml" % containerd)
    settings = dict(SETTINGS, config_version=4 if containerd == "2.4.2" else 2)
    once = containerd_config(existing, settings)
    assert once.startswith(HEADER)
    assert tomllib.loads(once)["plugins"]
    assert "disabled_plugins" not in tomllib.loads(once)
    assert containerd_config(once, settings) == once


def test_what_cannot_be_merged_fails_with_its_reason():
    with pytest.raises(AnsibleFilterError, match="version 1"):
        containerd_config("[plugins.my-own]\nx = 1\n", SETTINGS)


VERSION_1 = """# Mine.
root = "/data"
disabled_plugins = ["zfs"]

[plugins]
  [plugins.cgroups]
    no_prometheus = false
  # CRI
  [plugins.cri]
    sandbox_image = "k8s.gcr.io/pause:3.1"
    # faster
    [plugins.cri.containerd]
      snapshotter = "overlayfs"

[metrics]
  address = "127.0.0.1:1338"

[plugins.opt]
  path = "/opt/containerd"
"""


def test_version_1_keeps_its_comments_and_order():
    text = containerd_config(VERSION_1, SETTINGS)
    for line in ("# Mine.", "  # CRI", "    # faster", '      snapshotter = "overlayfs"'):
        assert line in text.splitlines()
    value = tomllib.loads(text)
    assert value["version"] == 2 and value["root"] == "/data"
    assert value["disabled_plugins"] == ["io.containerd.snapshotter.v1.zfs"]
    assert value["plugins"]["io.containerd.monitor.v1.cgroups"] == {"no_prometheus": False}
    assert value["plugins"]["io.containerd.internal.v1.opt"] == {"path": "/opt/containerd"}
    assert value["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["snapshotter"] == "overlayfs"
    assert value["metrics"] == {"address": "127.0.0.1:1338"}
    assert containerd_config(text, SETTINGS) == text


names = st.from_regex(r"[a-z]{1,5}", fullmatch=True).filter(lambda name: name != "version")
scalars = st.one_of(st.integers(-9, 9), st.booleans(), st.text("ab \"'\\#", max_size=4))
tables = st.recursive(
    scalars, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=6
)


@given(st.dictionaries(names, tables, max_size=4))
def test_no_key_of_any_owner_is_lost_in_the_text(plugins):
    plugins = {"io.example.v1." + name: {"a": value} for name, value in plugins.items()}
    existing = tomlkit.dumps({"version": 2, "plugins": plugins})
    after = tomllib.loads(containerd_config(existing, SETTINGS))["plugins"]
    assert {name: after[name] for name in plugins} == plugins


def kubelet(recorded, **changes):
    text = recorded("kubernetes-1.23.17/kubelet-config.yaml")
    return dict({"config_text": text, "version": "v1.23.17"}, **changes)


def test_configmaps_in_step_are_left_alone(recorded):
    configmaps = recorded("kubernetes-1.23.17/configmaps.json")["items"]
    assert len(configmaps) == 2
    assert kubelet_configmaps_out_of_step(configmaps, kubelet(recorded)) == []


def test_a_configmap_out_of_step_is_changed_in_one_key(recorded):
    configmaps = recorded("kubernetes-1.23.17/configmaps.json")["items"]
    entry = next(c for c in configmaps if c["metadata"]["name"] == "kubelet-config-1.23")
    text = entry["data"]["kubelet"]
    entry["data"]["kubelet"] = text.replace("cgroupDriver: systemd", "cgroupDriver: cgroupfs")
    (found,) = kubelet_configmaps_out_of_step(configmaps, kubelet(recorded))
    assert found["name"] == "kubelet-config-1.23"
    assert yaml.safe_load(found["text"]) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("name", "version", "changed"),
    [
        ("kubelet-config", "v1.24.0", True),
        ("kubelet-config-1.23", "v1.23.17", True),
        ("kubelet-config-1.22", "v1.23.17", False),
        ("coredns", "v1.23.17", False),
    ],
)
def test_only_the_clusters_own_configmap_counts(recorded, name, version, changed):
    configmap = {"metadata": {"name": name}, "data": {"kubelet": "cgroupDriver: cgroupfs\n"}}
    found = kubelet_configmaps_out_of_step([configmap], kubelet(recorded, version=version))
    assert bool(found) is changed


LIMITS = {"containerLogMaxSize": "10M", "containerLogMaxFiles": 3}


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "...\n"])
def test_log_limits_go_to_the_end_of_the_kubelets_file(recorded, end):
    text = "# mine\n" + recorded("kubernetes-1.23.17/kubelet-config.yaml").rstrip("\n") + "\n" + end
    after = kubelet_config(text, LIMITS)
    assert yaml.safe_load(after) == {**yaml.safe_load(text), **LIMITS}
    assert "...\n" in end or after.startswith(text.rstrip("\n"))
    assert kubelet_config(after, LIMITS) == after


def test_the_owners_log_limits_stay():
    text = "containerLogMaxSize: 5Mi\n"
    assert kubelet_config(text, LIMITS, ["container-log-max-files"]) == text
    after = yaml.safe_load(kubelet_config(text, LIMITS))
    assert after == {"containerLogMaxSize": "5Mi", "containerLogMaxFiles": 3}
    assert yaml.safe_load(kubelet_config("{a: 1}", LIMITS)) == {"a": 1, **LIMITS}


@pytest.mark.parametrize("text", ["", "- a", "a: ["])
def test_a_kubelet_file_that_is_none(text):
    with pytest.raises(AnsibleFilterError, match="kubelet"):
        kubelet_config(text, LIMITS)


def test_log_limits_go_into_a_configmap_that_has_none(recorded):
    configmaps = recorded("kubernetes-1.23.17/configmaps.json")["items"]
    with_limits = kubelet(recorded)
    with_limits["config_text"] += "containerLogMaxSize: 10M\ncontainerLogMaxFiles: 3\n"
    assert kubelet_configmaps_out_of_step(configmaps, with_limits) == []
    (found,) = kubelet_configmaps_out_of_step(configmaps, with_limits, list(LIMITS))
    assert LIMITS.items() <= yaml.safe_load(found["text"]).items()
    entry = next(c for c in configmaps if c["metadata"]["name"] == found["name"])
    entry["data"]["kubelet"] += "containerLogMaxSize: 5Mi\n"
    (found,) = kubelet_configmaps_out_of_step(configmaps, with_limits, list(LIMITS))
    assert yaml.safe_load(found["text"])["containerLogMaxSize"] == "5Mi"


def test_registries_of_a_config_that_cannot_be_merged_are_none():
    assert containerd_registries("") == []
    assert containerd_registries("[plugins.my-own]\nx = 1\n") == []
    text = '[plugins.cri.registry.mirrors."a:5000"]\nendpoint = ["http://a:5000"]\n'
    (found,) = containerd_registries(text)
    text = '[plugins.cri.registry]\nconfig_path = "/opt/certs.d/:/etc/docker/certs.d"\n'
    assert containerd_config_paths(text) == ["/opt/certs.d", "/etc/docker/certs.d"]
    assert containerd_config_paths("") == []
    assert hosts_toml(found).startswith('server = "https://a:5000"\n\n[host."http://a:5000"]')


def test_a_node_without_a_driver_in_its_file_changes_no_configmap(recorded):
    configmap = {
        "metadata": {"name": "kubelet-config-1.23"},
        "data": {"kubelet": "cgroupDriver: cgroupfs\n"},
    }
    for text in (None, "", "kind: KubeletConfiguration\n"):
        assert (
            kubelet_configmaps_out_of_step([configmap], kubelet(recorded, config_text=text)) == []
        )


def test_the_filters_that_roles_use_exist():
    used = set()
    for folder in ("roles", "playbooks"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file():
                for part in path.read_text().split("homelab.containerd.")[1:]:
                    used.add(part)
    available = {}
    for path in (ROOT / "plugins/filter").glob("*.py"):
        module = importlib.import_module(
            "ansible_collections.homelab.containerd.plugins.filter." + path.stem
        )
        available.update(module.FilterModule().filters())
    assert {name for name in available if any(part.startswith(name) for part in used)} == set(
        available
    )
    version = available["containerd_config_version"]
    assert version("2.4.2") == 4
    with pytest.raises(AnsibleFilterError, match="newest"):
        version("newest")


def test_a_process_as_proc_shows_it():
    found = translate_daemon_json(
        "{}",
        "dockerd\0--mtu\x001400\0",
        {},
        "PATH=/bin\0HTTPS_PROXY=http://me:x=y@proxy:1\0no_proxy=.lab\0",
    )
    assert found["environment"] == {"HTTPS_PROXY": "http://me:x=y@proxy:1", "NO_PROXY": ".lab"}
    assert "mtu" in [setting["key"] for setting in found["settings"]]

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role buildkit decides, from its options and from what a node has."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible_collections.homelab.containerd.plugins.modules import buildkit_info
from ansible_collections.homelab.containerd.plugins.plugin_utils.buildkit_plan import (
    CNI_PLUGINS,
    KERNEL_REFUSES,
    Plan,
    decide,
)
from support import ROOT

OPTIONS: dict[str, t.Any] = {
    "version": "0.34.2",
    "url": "https://mirror.lab/buildkit.tar.gz",
    "checksum": "sha256:" + "0" * 64,
    "record": "buildkit 0.34.2",
    "architectures": {"x86_64": "amd64", "aarch64": "arm64"},
    "architecture": "amd64",
    "machine": "x86_64",
    "users": [],
    "tcp_address": "",
    "tls": True,
    "worker": "containerd",
    "rootless": False,
    "network_mode": "auto",
    "subnet": "10.10.0.0/16",
    "cni_bin_dir": "/opt/cni/bin",
    "dns": [],
    "registries": [],
}
#: A node on which the role has run.
FOUND: dict[str, t.Any] = {
    "programs": ["buildctl", "buildkitd"],
    "record": "buildkit 0.34.2",
    "configuration_directory": True,
    "group_members": ["ann"],
    "command_line": "{ argv[]=/usr/local/bin/buildkitd }",
    "cni_versions": {plugin: ["0.4.0", "1.0.0"] for plugin in CNI_PLUGINS},
    "iptables": True,
    "routes": ["default via 10.200.0.1 dev eth0", "10.10.0.0/16 dev buildkit0 proto kernel"],
    "name_servers": ["10.0.0.53"],
    "kernel": {},
}


def plan(found: t.Mapping[str, t.Any] | None = None, **options: t.Any) -> Plan:
    return decide({**OPTIONS, **options}, {**FOUND, **(found or {})})


def test_the_role_and_the_module_give_what_is_read(tmp_path):
    """The samples above have the keys of the real ones."""
    variables = yaml.safe_load((ROOT / "roles/buildkit/vars/main.yml").read_text())
    assert set(variables["__buildkit_options"]) == set(OPTIONS)
    paths = dict.fromkeys(("record", "images_list", "cni_bin_dir"), str(tmp_path / "none"))
    found = buildkit_info.look({**paths, "group": "no-such-group", "subnet": "192.0.2.0/24"})
    assert set(FOUND) <= set(found)
    assert found["group_members"] is None and found["cni_versions"]["bridge"] == []
    assert decide(OPTIONS, found)["install"] is True


def test_nothing_to_do():
    assert plan() == {
        "problems": [],
        "network": "bridge",
        "reasons": [],
        "programs": ["bin/buildctl", "bin/buildkitd"],
        "download": False,
        "install": False,
    }


@pytest.mark.parametrize(
    ("found", "options", "download"),
    [
        ({"record": "buildkit 0.34.1"}, {}, True),
        ({"programs": ["buildctl"]}, {}, True),
        ({"group_members": None}, {}, False),
        ({}, {"users": ["ann", "ben"]}, False),
        ({"configuration_directory": False}, {}, False),
        ({}, {"worker": "oci"}, True),
    ],
)
def test_what_is_missing_is_installed(found, options, download):
    decided = plan(found, **options)
    assert decided["install"] is True
    assert decided["download"] is download


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"cni_versions": {**FOUND["cni_versions"], "firewall": ["0.4.0"]}}, "(firewall)"),
        ({"iptables": False}, "no iptables"),
        ({"routes": ["10.0.0.0/8 dev eth1"]}, "buildkit_subnet 10.10.0.0/16 (10.0.0.0/8 dev eth1)"),
        ({"name_servers": ["127.0.0.53", "::1"]}, "see buildkit_dns"),
        ({"name_servers": []}, "see buildkit_dns"),
    ],
)
def test_auto_is_the_nodes_network_where_a_bridge_cannot_be(found, reason):
    decided = plan(found)
    assert decided["network"] == "host"
    assert len(decided["reasons"]) == 1 and reason in decided["reasons"][0]
    assert decided["problems"] == []


def test_a_bridge_that_is_asked_for_takes_the_tarballs_plugins():
    decided = plan({"cni_versions": {}}, network_mode="bridge")
    assert (decided["network"], decided["reasons"]) == ("bridge", [])
    assert "bin/buildkit-cni-host-local" in decided["programs"] and decided["download"]
    assert "bin/buildkit-cni-host-local" not in plan(network_mode="bridge")["programs"]


def test_name_servers_of_the_options_are_enough():
    assert plan({"name_servers": []}, dns=["10.0.0.53"])["network"] == "bridge"


@pytest.mark.parametrize("mode", ["host", "cni"])
def test_a_network_that_is_asked_for(mode):
    assert plan({"iptables": False}, network_mode=mode)["network"] == mode


ROOTLESS = {"rootless": "true", "worker": "oci"}


@pytest.mark.parametrize(
    ("found", "options", "said"),
    [
        ({}, {"architecture": "", "machine": "riscv64"}, "this node is riscv64"),
        ({}, {"checksum": "sha256:1"}, 'for amd64 (found: "sha256:1")'),
        ({}, {"version": "0.12.5"}, "has to be 0.13.0 or newer"),
        ({}, {"version": "v0.34.2"}, "without a leading v"),
        ({}, {"registries": [{"host": "10.0.0.0/8"}]}, 'has the host "10.0.0.0/8"'),
        ({}, {"rootless": True}, "buildkit_worker has to be oci (it is containerd"),
        ({}, {**ROOTLESS, "network_mode": "cni"}, "buildkit_network_mode auto or host (it is cni"),
        ({"kernel": {"user/max_user_namespaces": "0"}}, ROOTLESS, "user/max_user_namespaces is 0"),
        ({}, {"tcp_address": "0.0.0.0:1", "tls": "false"}, "leave buildkit_tls true"),
        ({}, {"tcp_address": "unix:///x"}, "It has to be ADDRESS:PORT"),
        ({}, {"tcp_address": "0.0.0.0:65536"}, "It has to be ADDRESS:PORT"),
        (
            {"command_line": "argv[]=buildkitd --addr tcp://0.0.0.0:2375 ; x"},
            {},
            'starts buildkitd with "--addr tcp://0.0.0.0:2375" and without --tlscacert',
        ),
        ({"iptables": False}, {"network_mode": "bridge"}, "there is no iptables."),
        ({"routes": ["10.0.0.0/8 dev x"]}, {"network_mode": "bridge"}, "Set buildkit_subnet"),
    ],
)
def test_what_is_refused(found, options, said):
    problems = plan(found, **options)["problems"]
    assert len(problems) == 1 and said in problems[0]


@pytest.mark.parametrize(
    ("found", "options"),
    [
        ({}, {"tcp_address": "[::1]:1234"}),
        ({}, {"tcp_address": "tcp://0.0.0.0:1234", "tls": "true"}),
        ({}, {"tls": "false"}),
        ({}, {"rootless": "false"}),
        ({}, ROOTLESS),
        ({"kernel": dict.fromkeys(KERNEL_REFUSES, "7")}, ROOTLESS),
        ({"kernel": {"user/max_user_namespaces": "0"}}, {}),
        ({"command_line": "--addr tcp://0.0.0.0:1 --tlscacert /ca.pem"}, {}),
    ],
)
def test_what_is_not_refused(found, options):
    assert plan(found, **options)["problems"] == []

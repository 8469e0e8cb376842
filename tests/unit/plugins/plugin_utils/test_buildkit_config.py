# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is written into buildkitd.toml, for each kind of options."""

from __future__ import annotations

import tomllib
import typing as t

import pytest
import yaml
from ansible_collections.homelab.containerd.plugins.plugin_utils import buildkit_config
from support import ROOT

NODE: dict[str, t.Any] = {
    "version": "0.34.2",
    "root": "/var/lib/buildkit",
    "addresses": ["fd://"],
    "worker": "containerd",
    "address": "/run/containerd/containerd.sock",
    "namespace": "k8s.io",
    "snapshotter": "overlayfs",
    "rootless": False,
    "network": "host",
    "subnet": "10.10.0.0/16",
    "cni_bin_dir": "/opt/cni/bin",
    "gc": {
        "reserved_space": "2GB",
        "max_used_space": "20GB",
        "min_free_space": "20%",
        "mounts_max_used_space": "10GB",
        "mounts_keep": "168h",
    },
}


def write(**options: t.Any) -> dict[str, t.Any]:
    return tomllib.loads(buildkit_config.buildkitd_toml({**NODE, **options}))


def test_the_role_gives_these_options():
    variables = yaml.safe_load((ROOT / "roles/buildkit/vars/main.yml").read_text())
    given = variables["__buildkit_toml"]
    assert set(NODE) <= set(given) and set(NODE["gc"]) == set(given["gc"])
    assert set(given) - set(NODE) == {"tls_dir", "dns", "registries", "certificate_directories"}


def test_plain():
    config = write()
    assert config["root"] == "/var/lib/buildkit"
    assert config["grpc"] == {"address": ["fd://"]}
    assert config["worker"]["oci"] == {"enabled": False}
    worker = config["worker"]["containerd"]
    assert worker["enabled"] is True and worker["gc"] is True
    assert worker["address"] == "/run/containerd/containerd.sock"
    assert (worker["namespace"], worker["snapshotter"]) == ("k8s.io", "overlayfs")
    assert worker["networkMode"] == "host"
    assert "dns" not in config and "registry" not in config


def test_tcp_is_never_without_a_ca():
    config = write(addresses=["fd://", "tcp://0.0.0.0:1234"], tls_dir="/etc/buildkit/tls")
    assert config["grpc"]["address"] == ["fd://", "tcp://0.0.0.0:1234"]
    assert config["grpc"]["tls"] == {
        "cert": "/etc/buildkit/tls/cert.pem",
        "key": "/etc/buildkit/tls/key.pem",
        "ca": "/etc/buildkit/tls/ca.pem",
    }


@pytest.mark.parametrize("rootless", [True, "true"])
def test_rootless(rootless):
    config = write(worker="oci", rootless=rootless)
    assert config["worker"]["containerd"] == {"enabled": False}
    assert config["worker"]["oci"]["rootless"] is True
    assert "namespace" not in config["worker"]["oci"]
    assert "rootless" not in write(worker="oci", rootless="false")["worker"]["oci"]


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("0.13.0", {"all", "filters", "keepDuration", "keepBytes"}),
        ("0.16.0", {"all", "filters", "keepDuration", "keepBytes"}),
        (
            "0.17.0",
            {"all", "filters", "keepDuration", "reservedSpace", "maxUsedSpace", "minFreeSpace"},
        ),
    ],
)
@pytest.mark.parametrize("worker", ["containerd", "oci"])
def test_rules_of_collection_have_the_keys_of_the_version(version, known, worker):
    """cmd/buildkitd/config/config.go: reservedSpace and its like came with 0.17."""
    rules = write(version=version, worker=worker)["worker"][worker]["gcpolicy"]
    assert {key for rule in rules for key in rule} == known
    assert rules[0]["filters"] and rules[0]["keepDuration"] == "168h"
    bound = "maxUsedSpace" if version == "0.17.0" else "keepBytes"
    assert (rules[0][bound], rules[1][bound]) == ("10GB", "20GB")
    assert rules[-1]["all"] is True and rules[-1][bound] == "20GB"


def test_networks():
    worker = write(network="bridge")["worker"]["containerd"]
    assert worker["bridgeSubnet"] == "10.10.0.0/16"
    assert worker["cniBinaryPath"] == "/opt/cni/bin"
    worker = write(network="cni")["worker"]["containerd"]
    assert worker["cniBinaryPath"] == "/opt/cni/bin" and "bridgeSubnet" not in worker
    assert "cniBinaryPath" not in write()["worker"]["containerd"]


def test_dockers_certificates_are_taken_and_the_users_options_come_first():
    config = write(
        dns=["10.0.0.53"],
        registries=[
            {"host": "a.lab", "ca": ["/a.pem"]},
            {"host": "b.lab:5000", "insecure": True, "mirrors": ["http://m.lab/x/"]},
        ],
        certificate_directories=[
            "/etc/docker/certs.d/a.lab",
            "/etc/docker/certs.d/b.lab:5000",
            "/etc/docker/certs.d/c.lab",
            "/etc/docker/certs.d/m.lab",
        ],
    )
    assert config["dns"] == {"nameservers": ["10.0.0.53"]}
    assert config["registry"] == {
        "a.lab": {"ca": ["/a.pem"]},
        "b.lab:5000": {
            "mirrors": ["m.lab/x"],
            "http": True,
            "insecure": True,
            "tlsconfigdir": ["/etc/docker/certs.d/b.lab:5000"],
        },
        "c.lab": {"tlsconfigdir": ["/etc/docker/certs.d/c.lab"]},
        "m.lab": {"http": True, "tlsconfigdir": ["/etc/docker/certs.d/m.lab"]},
    }


def test_booleans_of_a_registry_may_be_strings():
    """As Jinja gives them."""
    config = write(
        registries=[
            {"host": "a.lab", "insecure": "false", "http": "true"},
            {"host": "b.lab", "insecure": "true"},
        ]
    )
    assert config["registry"] == {
        "a.lab": {"http": True},
        "b.lab": {"http": True, "insecure": True},
    }


def test_the_clusters_builder():
    text = buildkit_config.buildkitd_toml(
        {
            "worker": "oci",
            "max_used_space": "20GB",
            "registries": [{"host": 'quo"te', "insecure": "true"}, {"host": "plain.lab"}],
        }
    )
    assert tomllib.loads(text) == {
        "worker": {"oci": {"maxUsedSpace": "20GB"}},
        "registry": {'quo"te': {"http": True, "insecure": True}, "plain.lab": {}},
    }


@pytest.mark.parametrize(
    ("version", "oldest", "gc_spaces"),
    [
        ("0.34.2", True, True),
        ("0.17.0-rc1", True, True),
        ("0.16.9", True, False),
        ("0.12.5", False, False),
        ("v0.34.2", False, False),
        ("latest", False, False),
    ],
)
def test_versions(version, oldest, gc_spaces):
    assert buildkit_config.supports(version, "oldest") is oldest
    assert buildkit_config.supports(version, "gc_spaces") is gc_spaces

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role buildkit writes into buildkitd.toml, for each kind of wish."""

from __future__ import annotations

import tomllib
import typing as t

import jinja2
import pytest
import yaml
from ansible.plugins.filter.core import FilterModule
from ansible.plugins.test.core import TestModule as CoreTests
from support import ROOT

ROLE = ROOT / "roles/buildkit"
#: What the role works out before it writes the file.
WORKED_OUT: dict[str, t.Any] = {
    "ansible_managed": "Ansible managed",
    "__buildkit_root": "/var/lib/buildkit",
    "__buildkit_socket": "/run/buildkit/buildkitd.sock",
    "__buildkit_tcp": "",
    "__buildkit_tls_dir": "/etc/buildkit/tls",
    "__buildkit_network": "host",
    "__buildkit_certs_dirs": [],
}


def render(**wishes: t.Any) -> dict[str, t.Any]:
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
    # Ansible's variants of Jinja's own filters want its templar around them.
    environment.filters = {**FilterModule().filters(), **environment.filters}
    environment.tests.update(CoreTests().tests())
    template = environment.from_string((ROLE / "templates/buildkitd.toml.j2").read_text())
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    return tomllib.loads(template.render({**defaults, **WORKED_OUT, **wishes}))


def test_plain():
    config = render()
    assert config["grpc"] == {"address": ["fd://"]}
    assert config["worker"]["oci"] == {"enabled": False}
    worker = config["worker"]["containerd"]
    assert (worker["namespace"], worker["networkMode"]) == ("k8s.io", "host")
    assert "dns" not in config and "registry" not in config


def test_tcp_is_never_without_a_ca():
    config = render(__buildkit_tcp="0.0.0.0:1234")
    assert config["grpc"]["address"] == ["fd://", "tcp://0.0.0.0:1234"]
    assert set(config["grpc"]["tls"]) == {"cert", "key", "ca"}


def test_rootless_opens_its_own_socket():
    config = render(buildkit_worker="oci", buildkit_rootless=True, __buildkit_tcp="10.0.0.1:1234")
    assert config["grpc"]["address"] == [
        "unix:///run/buildkit/buildkitd.sock",
        "tcp://0.0.0.0:1234",
    ]
    assert config["worker"]["containerd"] == {"enabled": False}
    assert config["worker"]["oci"]["rootless"] is True
    assert "namespace" not in config["worker"]["oci"]


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
    rules = render(buildkit_version=version, buildkit_worker=worker)["worker"][worker]["gcpolicy"]
    assert {key for rule in rules for key in rule} == known
    assert rules[0]["filters"] and rules[0]["keepDuration"] == "168h"
    bound = "maxUsedSpace" if version == "0.17.0" else "keepBytes"
    assert rules[-1]["all"] is True and rules[-1][bound] == "20GB"


def test_bridge():
    worker = render(__buildkit_network="bridge")["worker"]["containerd"]
    assert worker["bridgeSubnet"] == "10.10.0.0/16"
    assert worker["cniBinaryPath"] == "/opt/cni/bin"


def test_dockers_certificates_are_taken_and_the_owners_word_counts_more():
    config = render(
        buildkit_dns=["10.0.0.53"],
        buildkit_registries=[
            {"host": "a.lab", "ca": ["/a.pem"]},
            {"host": "b.lab:5000", "insecure": True, "mirrors": ["http://m.lab/x/"]},
        ],
        __buildkit_certs_dirs=[
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

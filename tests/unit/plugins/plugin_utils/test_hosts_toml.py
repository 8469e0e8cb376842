# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import tomllib

import pytest
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.registries import (
    hosts_toml,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.result import (
    Registry,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.translation import (
    translate,
)
from hypothesis import given
from hypothesis import strategies as st

hosts = st.from_regex(
    r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{2,5})?(:[0-9]{1,5})?", fullmatch=True
)
urls = st.builds("{}://{}".format, st.sampled_from(["http", "https"]), hosts)


def from_daemon_json(daemon):
    found = translate(daemon, [])
    return {key: found[key] for key in ("registries", "unmatched")}


def test_the_labs_daemon_json(recorded):
    assert from_daemon_json(recorded("docker-20.10.24/daemon.json")) == {
        "registries": [{"host": "registry.lab:5000", "insecure": True, "mirrors": []}],
        "unmatched": [],
    }


def test_mirrors_are_docker_hubs_alone():
    found = from_daemon_json({"registry-mirrors": ["https://mirror.example/"]})
    assert found["registries"] == [
        {"host": "docker.io", "insecure": False, "mirrors": ["https://mirror.example"]}
    ]


def test_networks_are_unmatched():
    assert from_daemon_json({"insecure-registries": ["10.0.0.0/8"]}) == {
        "registries": [],
        "unmatched": ["10.0.0.0/8"],
    }


def test_an_insecure_registry_written_as_url():
    found = from_daemon_json({"insecure-registries": ["http://registry:5000/"]})
    assert [registry["host"] for registry in found["registries"]] == ["registry:5000"]


@pytest.mark.parametrize("daemon", [{}, {"insecure-registries": None, "registry-mirrors": None}])
def test_nothing_said(daemon):
    assert from_daemon_json(daemon) == {"registries": [], "unmatched": []}


def test_an_insecure_registry_is_tried_over_https_first_and_http_then():
    value = tomllib.loads(hosts_toml({"host": "registry.lab:5000", "insecure": True}))
    assert value == {
        "server": "http://registry.lab:5000",
        "host": {
            "https://registry.lab:5000": {
                "capabilities": ["pull", "resolve", "push"],
                "skip_verify": True,
            }
        },
    }


def test_docker_hubs_server_is_not_its_name():
    text = hosts_toml({"host": "docker.io", "insecure": False, "mirrors": ["https://m.example"]})
    value = tomllib.loads(text)
    assert value["server"] == "https://registry-1.docker.io"
    assert value["host"] == {"https://m.example": {"capabilities": ["pull", "resolve"]}}


def test_a_mirror_among_the_insecure_registries_is_not_verified():
    registry: Registry = {"host": "docker.io", "mirrors": ["https://m:5000", "http://n:5000"]}
    value = tomllib.loads(hosts_toml(registry, ["m:5000", "n:5000"]))["host"]
    assert value["https://m:5000"]["skip_verify"] is True
    assert "skip_verify" not in value["http://n:5000"]


@given(
    st.fixed_dictionaries(
        {"host": hosts, "insecure": st.booleans(), "mirrors": st.lists(urls, unique=True)}
    ),
    st.lists(hosts),
)
def test_hosts_toml_is_toml_and_keeps_the_mirrors_in_order(registry, insecure):
    registry["mirrors"] = [
        m for m in registry["mirrors"] if not m.endswith("//" + registry["host"])
    ]
    value = tomllib.loads(hosts_toml(registry, insecure))
    assert value["server"].split("://")[1] == registry["host"]
    # containerd 1.6 insists on a host: the registry itself where nothing else is written.
    alone = [] if registry["insecure"] or registry["mirrors"] else [value["server"]]
    assert list(value["host"])[1 if registry["insecure"] else 0 :] == registry["mirrors"] + alone
    assert all(
        "push" not in value["host"][mirror]["capabilities"] for mirror in registry["mirrors"]
    )


def test_a_registry_that_is_like_any_other_has_a_host_all_the_same():
    text = hosts_toml({"host": "nas.home:5000"})
    assert 'server = "https://nas.home:5000"' in text and '[host."https://nas.home:5000"]' in text

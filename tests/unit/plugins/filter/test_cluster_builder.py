# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import tomllib

import pytest
from ansible_collections.homelab.containerd.plugins.filter import cluster_builder


@pytest.fixture
def wish():
    return {
        "name": "buildkitd",
        "namespace": "buildkit",
        "image": "registry.lab:5000/builders:1",
        "rootless": False,
        "registries": [{"host": "registry.lab:5000", "insecure": True}],
        "host_aliases": [],
        "max_used_space": "20GB",
        "node": "node1",
        "cache_path": "/srv/cache",
        "storage_class": "",
        "cache_size": "30Gi",
        "service_type": "ClusterIP",
        "port": 1234,
    }


def objects(wish, key="KEY"):
    made = cluster_builder.cluster_builder(wish, "CA", "CERT", key)
    return {item["kind"]: item for item in made["items"]}


def pod(wish):
    return objects(wish)["Deployment"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("rootless", [False, True])
def test_the_port_is_never_without_certificates(wish, rootless):
    wish["rootless"] = rootless
    command = pod(wish)["containers"][0]["command"]
    assert "--addr=tcp://0.0.0.0:1234" in command
    for option in ("--tlscacert", "--tlscert", "--tlskey"):
        assert any(word.startswith(option + "=/certs/") for word in command)


def test_a_new_certificate_is_a_new_pod(wish):
    def annotation(made):
        return made["Deployment"]["spec"]["template"]["metadata"]["annotations"]

    assert annotation(objects(wish)) == annotation(objects(wish))
    assert annotation(objects(wish)) != annotation(objects(wish, "OTHER"))
    assert objects(wish)["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}


def test_pem_ends_with_a_newline(wish):
    """Go does not take a certificate without."""
    data = objects(wish)["Secret"]["data"]
    assert base64.b64decode(data["cert.pem"]) == b"CERT\n"
    assert set(data) == {"ca.pem", "cert.pem", "key.pem"}


def test_the_configuration(wish):
    text = objects(wish)["ConfigMap"]["data"]["buildkitd.toml"]
    found = tomllib.loads(text)
    assert found["worker"]["oci"] == {"maxUsedSpace": "20GB"}
    assert found["registry"]["registry.lab:5000"] == {"http": True, "insecure": True}


def test_the_cache_is_on_a_node_or_in_a_claim(wish):
    assert {"name": "cache", "hostPath": {"path": "/srv/cache", "type": "DirectoryOrCreate"}} in (
        pod(wish)["volumes"]
    )
    assert pod(wish)["nodeSelector"] == {"kubernetes.io/hostname": "node1"}
    assert "PersistentVolumeClaim" not in objects(wish)
    wish["storage_class"] = "fast"
    assert objects(wish)["PersistentVolumeClaim"]["spec"]["storageClassName"] == "fast"
    assert "nodeSelector" not in pod(wish)
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "buildkitd"}} in (
        pod(wish)["volumes"]
    )


def test_options_of_the_command_line_are_strings(wish):
    wish |= {"rootless": "false", "port": "1234"}
    assert pod(wish)["containers"][0]["securityContext"] == {"privileged": True}
    assert objects(wish)["Service"]["spec"]["ports"][0]["port"] == 1234


def test_rootless_is_not_privileged(wish):
    assert pod(wish)["containers"][0]["securityContext"] == {"privileged": True}
    wish["rootless"] = True
    (container,) = pod(wish)["containers"]
    assert "privileged" not in container["securityContext"]
    assert container["command"][:2] == ["rootlesskit", "buildkitd"]
    assert container["securityContext"]["runAsUser"] == 1000


@pytest.mark.parametrize("storage_class", ["", "fast"])
def test_rootless_owns_its_cache_and_its_files_stay_as_they_are(wish, storage_class):
    wish |= {"rootless": True, "storage_class": storage_class}
    (container,) = pod(wish)["containers"]
    (owner,) = pod(wish)["initContainers"]
    (cache,) = (mount for mount in container["volumeMounts"] if mount["name"] == "cache")
    assert owner["volumeMounts"] == [cache]
    assert cache["subPath"] == "rootless"
    assert "fsGroup" not in pod(wish).get("securityContext", {})

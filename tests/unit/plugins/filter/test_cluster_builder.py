# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import tomllib

import pytest
from ansible_collections.homelab.containerd.plugins.filter import cluster_builder


@pytest.fixture
def options():
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


def objects(options, key="KEY"):
    made = cluster_builder.cluster_builder(options, "CA", "CERT", key)
    return {item["kind"]: item for item in made["items"]}


def pod(options):
    return objects(options)["Deployment"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("rootless", [False, True])
def test_the_port_is_never_without_certificates(options, rootless):
    options["rootless"] = rootless
    command = pod(options)["containers"][0]["command"]
    assert "--addr=tcp://0.0.0.0:1234" in command
    for option in ("--tlscacert", "--tlscert", "--tlskey"):
        assert any(word.startswith(option + "=/certs/") for word in command)


def test_a_new_certificate_is_a_new_pod(options):
    def annotation(made):
        return made["Deployment"]["spec"]["template"]["metadata"]["annotations"]

    assert annotation(objects(options)) == annotation(objects(options))
    assert annotation(objects(options)) != annotation(objects(options, "OTHER"))
    assert objects(options)["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}


def test_pem_ends_with_a_newline(options):
    """Go does not take a certificate without."""
    data = objects(options)["Secret"]["data"]
    assert base64.b64decode(data["cert.pem"]) == b"CERT\n"
    assert set(data) == {"ca.pem", "cert.pem", "key.pem"}


def test_the_configuration(options):
    text = objects(options)["ConfigMap"]["data"]["buildkitd.toml"]
    found = tomllib.loads(text)
    assert found["worker"]["oci"] == {"maxUsedSpace": "20GB"}
    assert found["registry"]["registry.lab:5000"] == {"http": True, "insecure": True}


def test_the_cache_is_on_a_node_or_in_a_claim(options):
    assert {"name": "cache", "hostPath": {"path": "/srv/cache", "type": "DirectoryOrCreate"}} in (
        pod(options)["volumes"]
    )
    assert pod(options)["nodeSelector"] == {"kubernetes.io/hostname": "node1"}
    assert "PersistentVolumeClaim" not in objects(options)
    options["storage_class"] = "fast"
    assert objects(options)["PersistentVolumeClaim"]["spec"]["storageClassName"] == "fast"
    assert "nodeSelector" not in pod(options)
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "buildkitd"}} in (
        pod(options)["volumes"]
    )


def test_options_of_the_command_line_are_strings(options):
    options |= {"rootless": "false", "port": "1234"}
    assert pod(options)["containers"][0]["securityContext"] == {"privileged": True}
    assert objects(options)["Service"]["spec"]["ports"][0]["port"] == 1234


def test_rootless_is_not_privileged(options):
    assert pod(options)["containers"][0]["securityContext"] == {"privileged": True}
    options["rootless"] = True
    (container,) = pod(options)["containers"]
    assert "privileged" not in container["securityContext"]
    assert container["command"][:2] == ["rootlesskit", "buildkitd"]
    assert container["securityContext"]["runAsUser"] == 1000


@pytest.mark.parametrize("storage_class", ["", "fast"])
def test_rootless_owns_its_cache_and_its_files_stay_as_they_are(options, storage_class):
    options |= {"rootless": True, "storage_class": storage_class}
    (container,) = pod(options)["containers"]
    (owner,) = pod(options)["initContainers"]
    (cache,) = (mount for mount in container["volumeMounts"] if mount["name"] == "cache")
    assert owner["volumeMounts"] == [cache]
    assert cache["subPath"] == "rootless"
    assert "fsGroup" not in pod(options).get("securityContext", {})

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._docker.api import DockerAPI
from ansible_collections.homelab.containerd.plugins.module_utils._facts import containerd
from ansible_collections.homelab.containerd.plugins.module_utils._facts.cni import cni_facts
from ansible_collections.homelab.containerd.plugins.module_utils._facts.docker import (
    daemon_json,
    docker_container,
    docker_facts,
)
from ansible_collections.homelab.containerd.plugins.module_utils._facts.kubelet import (
    flags_file,
    kubelet_runtime,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import paths
from ansible_collections.homelab.containerd.plugins.modules import node_runtime_info

REMOTE = {"container-runtime": "remote"}


@pytest.mark.parametrize(
    ("flags", "config", "version", "expected"),
    [
        ({}, "", "v1.23.17", (None, "dockershim")),
        ({"container-runtime": "docker"}, "", "v1.20.0", (None, "dockershim")),
        # dockershim ignores the endpoint.
        ({"container-runtime-endpoint": "unix:///x"}, "", "v1.23.17", (None, "dockershim")),
        (
            dict(
                REMOTE, **{"container-runtime-endpoint": "unix:///run/containerd/containerd.sock"}
            ),
            "",
            "v1.23.17",
            ("unix:///run/containerd/containerd.sock", "containerd"),
        ),
        (
            {"container-runtime-endpoint": "unix:///var/run/cri-dockerd.sock"},
            "",
            "v1.24.0",
            ("unix:///var/run/cri-dockerd.sock", "cri-dockerd"),
        ),
        (
            {},
            'kind: X\ncontainerRuntimeEndpoint: "unix:///var/run/crio/crio.sock"  # here\n',
            "v1.28.0",
            ("unix:///var/run/crio/crio.sock", "cri-o"),
        ),
        (
            {"container-runtime-endpoint": "unix:///run/other.sock"},
            "",
            "v1.28.0",
            ("unix:///run/other.sock", "unknown"),
        ),
        ({}, "containerRuntimeEndpoint:\nkind: X\n", "v1.28.0", (None, "unknown")),
        ({}, "", "v1.24.0", (None, "unknown")),
        ({}, "", None, (None, "unknown")),
    ],
)
def test_kubelet_runtime(flags, config, version, expected):
    assert kubelet_runtime(flags, config, version) == expected


@pytest.mark.parametrize("name", ["dockershim", "containerd"])
def test_recorded_kubelets(recorded, name):
    kubelet = recorded("runtime_info-%s.json" % name)["kubelet"]
    found = kubelet_runtime(kubelet["flags"], kubelet["config_text"], kubelet["version"])
    assert found == (kubelet["endpoint"], name)


def test_daemon_json(recorded, tmp_path):
    path = tmp_path / "daemon.json"
    value = recorded("docker-20.10.24/daemon.json")
    path.write_text(json.dumps(dict(value, **{"registry-mirrors": ["https://u:secret@m"]})))
    found = daemon_json(str(path))
    assert found["exists"] is True and found["error"] is None
    assert found["value"] == dict(value, **{"registry-mirrors": ["https://***@m"]})


def test_no_daemon_json(tmp_path):
    path = str(tmp_path / "daemon.json")
    assert daemon_json(path) == {
        "path": path,
        "exists": False,
        "value": {},
        "error": None,
        "duplicates": [],
    }


def test_what_is_in_a_daemon_json_that_is_wrong_stays_there(tmp_path):
    (tmp_path / "daemon.json").write_text('{"registry-mirrors": ["https://u:hush@m"')
    assert "hush" not in json.dumps(daemon_json(str(tmp_path / "daemon.json")))


def test_flags_file(recorded, tmp_path):
    path = tmp_path / "kubeadm-flags.env"
    path.write_text(recorded("kubernetes-1.23.17/kubeadm-flags.env"))
    found = flags_file(str(path), "KUBELET_KUBEADM_ARGS")
    assert found["exists"] is True and found["error"] is None
    assert found["words"][0] == "--network-plugin=cni"
    assert flags_file(str(tmp_path / "no"), "X")["exists"] is False


def test_docker_containers_have_an_owner(engine):
    api = DockerAPI(engine.path)
    found = [docker_container(api, entry) for entry in engine.containers]
    assert [entry["name"] for entry in found if entry["owner"] == "user"] == ["owners-own"]
    assert sum(entry.get("type") == "podsandbox" for entry in found) == 11
    web = next(entry for entry in found if "_web_from-registry" in entry["name"])
    assert web["pod"]["namespace"] == "home" and web["pod"]["uid"]
    # Only the owner's is looked at one by one.
    assert len(engine.requests) == 1


def test_a_container_that_is_gone_since_it_was_listed(engine):
    entry = dict(engine.containers[0], Labels=None, Id="0" * 64)
    assert docker_container(DockerAPI(engine.path), entry)["owner"] == "user"


def test_a_container_that_docker_does_not_describe_is_not_gone(engine, program, monkeypatch):
    program("dockerd", "exit 0")
    program("systemctl", "exit 0")
    answer = engine.answer

    def fails(method, path, query):
        described = path.startswith("/containers/") and path != "/containers/json"
        return (500, {"message": "busy"}) if described else answer(method, path, query)

    monkeypatch.setattr(engine, "answer", fails)
    found = docker_facts(engine.path)
    assert found["active"] is False and "500" in (found["error"] or "")


@pytest.mark.parametrize(
    ("text", "version", "broken"),
    [
        ('{"cniVersion": "0.4.0", "plugins": [{"type": "bridge"}]}', "0.4.0", False),
        ('{"type": "flannel"}', None, False),
        ("{", None, True),
        ("[]", None, True),
        ("", None, True),
    ],
)
def test_cni_facts(tmp_path, text, version, broken):
    (tmp_path / "10-net.conflist").write_text(text)
    (tmp_path / "README").write_text("not read")
    found = cni_facts({"cni-conf-dir": str(tmp_path), "cni-bin-dir": "/a,%s" % tmp_path})
    assert found["bin_dirs"] == ["/a", str(tmp_path)]
    (entry,) = found["configurations"]
    assert entry["cni_version"] == version and bool(entry["error"]) is broken


def test_no_cni_at_all(tmp_path):
    found = cni_facts({"cni-conf-dir": str(tmp_path / "no"), "cni-bin-dir": str(tmp_path / "no")})
    assert found["configurations"] == [] and found["plugins"] == []


@pytest.mark.parametrize(
    ("plugins", "ready"),
    [
        ("containerd-1.6.20/plugins-cri-off.txt", False),
        ("containerd-1.6.20/plugins-cri-on.txt", True),
        ("containerd-1.7.24/plugins-cri-on.txt", True),
        ("containerd-2.4.2/plugins-cri-on.txt", True),
    ],
)
def test_whether_cri_answers(tmp_path, monkeypatch, program, recorded, plugins, ready):
    (tmp_path / "plugins").write_text(recorded(plugins))
    (tmp_path / "config.toml").write_text(
        '[a]\n  password = "secret"\n  username="me"\nauth = "x"\n'
    )
    monkeypatch.setattr(paths, "CONTAINERD_CONFIG", str(tmp_path / "config.toml"))
    program("systemctl", "exit 0")
    program("containerd", 'echo "containerd github.com/containerd/containerd 1.6.20~ds1 x"')
    program("ctr", 'case "$*" in "plugins list") cat %s/plugins;; *) echo a:1; esac' % tmp_path)
    found = containerd.containerd_facts()
    assert found["cri_ready"] is ready
    assert found["version"] == "1.6.20~ds1"
    assert found["images"] == ["a:1"]
    assert found["pins_images"] is False
    assert found["config_text"] and not re.search('secret|"me"|"x"', found["config_text"])


def test_pinning_is_read_from_the_program(tmp_path, program):
    program("systemctl", "exit 1")
    program("containerd", 'echo "containerd x v2.4.2"  # io.cri-containerd.pinned')
    found = containerd.containerd_facts()
    assert found["pins_images"] is True and found["active"] is False
    assert found["version"] == "v2.4.2"


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (["all"], set(node_runtime_info.SUBSETS)),
        ([], set(node_runtime_info.SUBSETS)),
        (["!docker_users"], set(node_runtime_info.SUBSETS) - {"docker_users"}),
        (["kubelet", "journal"], {"kubelet", "journal"}),
        (["all", "!docker"], set(node_runtime_info.SUBSETS) - {"docker"}),
    ],
)
def test_chosen_subsets(wanted, chosen):
    assert node_runtime_info.chosen_subsets(wanted) == chosen


def test_a_misspelt_subset_is_refused():
    with pytest.raises(ValueError, match="there is no kubelets; choose from all, os"):
        node_runtime_info.chosen_subsets(["kubelets"])

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each bad input stops a node with a text that says which node, which file and key, and what to do.

They go in through the filter, so that the parsing of YAML and TOML on the controller is in it.
"""

from __future__ import annotations

import copy
import json
import types
import typing as t

import pytest
from ansible_collections.homelab.containerd.plugins.filter.plan import plan
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import image_names
from ansible_collections.homelab.containerd.plugins.module_utils._containerd.carrier import Carrier
from ansible_collections.homelab.containerd.plugins.module_utils._facts.docker import daemon_json
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, mounts
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.findings import describe


def decide(facts, **options):
    chosen: t.Any = {"node": "machine1"} | options
    return plan(facts, chosen)


def blocked(facts, code, **options):
    """The text of the only blocker, which is to have this code."""
    found = decide(facts, **options)
    assert [blocker["code"] for blocker in found["blockers"]] == [code]
    text = describe(found["blockers"][0])
    assert text.startswith(code + ": ") and "node machine1" in text
    assert found["blockers"][0]["remedy"] and text.endswith(found["blockers"][0]["remedy"])
    return text


def test_the_labs_node(facts):
    before = copy.deepcopy(facts)
    found = decide(facts)
    assert facts == before
    assert found["blockers"] == [] and found["overridden"] == []
    assert found["state"] == "migrate" and found["runtime"] == "dockershim"
    assert found["node"] == "machine1" and found["node_name"] == "node1"
    assert found["ours"] is False
    assert found["containerd"] == {"install": "keep", "version": "1.6.20~ds1", "config_version": 2}
    assert found["cgroup_driver"] == "systemd"
    assert found["sandbox_image"] == "registry.k8s.io/pause:3.6"
    assert found["cni_bin_dirs"] == ["/opt/cni/bin"] and found["cni_conf_dir"] == "/etc/cni/net.d"
    assert [registry["host"] for registry in found["registries"]] == ["registry.lab:5000"]
    assert [step["phase"] for step in found["steps"]] == [
        *("prepare", "prepare", "switch", "buildkit", "verify", "verify")
    ]
    assert "adopt 10 images" in found["steps"][1]["text"]
    assert "stop 11 pods" in found["steps"][2]["text"] and found["steps"][2]["outage"]
    assert "1 user-managed container stay" in found["steps"][5]["text"]


def test_images_of_no_registry_are_named_where_containerd_cannot_pin(facts):
    (warning,) = [w for w in decide(facts)["warnings"] if w["code"] == "HC202"]
    assert "home/local-only:1" in describe(warning)
    assert "registry.lab:5000/web:1" not in describe(warning)
    facts["containerd"]["pins_images"] = True
    assert "HC202" in [w["code"] for w in decide(facts)["warnings"]]
    facts["kubelet"]["supports_image_pinning"] = True
    assert "HC202" not in [w["code"] for w in decide(facts)["warnings"]]


def test_a_node_on_containerd_is_done(recorded):
    facts = recorded("runtime_info-containerd.json")
    found = decide(facts)
    assert found["state"] == "done" and found["runtime"] == "containerd"
    assert found["ours"] is True
    assert found["blockers"] == [] and found["steps"] == []
    assert [warning["code"] for warning in found["warnings"]] == ["HC206"]


def test_a_kubelet_that_is_too_old(facts):
    facts["kubelet"]["version"] = "v1.17.17"
    text = blocked(facts, "HC103")
    assert "kubelet 1.17.17" in text and "key containerd_version" in text and "upgrade" in text


def test_a_kubelet_that_is_too_old_for_the_containerd_asked_for(facts):
    facts["kubelet"]["version"] = "v1.22.17"
    text = blocked(facts, "HC103", containerd_install="tarball", containerd_version="2.4.2")
    assert "v1alpha2" in text and "value 2.4.2" in text and "containerd_install" in text


def test_a_kubelet_that_is_too_new_for_its_containerd(recorded):
    facts = recorded("runtime_info-containerd.json")
    facts["kubelet"]["version"] = "v1.36.0"
    facts["os"]["cgroup_version"] = 2
    assert "at least 2.2.0" in blocked(facts, "HC103")


def test_no_containerd_and_no_version_to_install(facts):
    facts["containerd"]["version"] = None
    assert "Set containerd_version" in blocked(facts, "HC103")
    found = decide(facts, containerd_version="1.7.24")
    assert found["blockers"] == []
    assert found["containerd"] == {"install": "package", "version": "1.7.24", "config_version": 2}


@pytest.mark.parametrize("kubelet", ["systemd", "cgroupfs", None])
def test_cgroup_drivers_that_differ(facts, kubelet):
    config = facts["kubelet"]["config_text"]
    line = "cgroupDriver: %s\n" % kubelet if kubelet else ""
    facts["kubelet"]["config_text"] = config.replace("cgroupDriver: systemd\n", line)
    facts["docker"]["cgroup_driver"] = "cgroupfs" if kubelet == "systemd" else "systemd"
    text = blocked(facts, "HC104")
    assert "file /var/lib/kubelet/config.yaml, key cgroupDriver" in text
    assert "Give both the same" in text


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"insecure-registries": ["registry.lab:5000"', "line 1, column"),
        (b'\xef\xbb\xbf{"log-driver": "json-file"}', "BOM"),
        (b'["registry.lab:5000"]', "found a list"),
        (b"null", "found null"),
        (b"insecure-registries: registry.lab:5000", "Expecting value"),
        (b'{"insecure-registries": "registry.lab:5000"}', "insecure-registries"),
    ],
    ids=["truncated", "bom", "list", "null", "yaml", "string for a list"],
)
def test_a_daemon_json_that_is_wrong(facts, tmp_path, content, why):
    path = tmp_path / "daemon.json"
    path.write_bytes(content)
    facts["docker"]["daemon_json"] = daemon_json(str(path))
    text = blocked(facts, "HC105")
    assert why in text and "file %s" % path in text and "Repair the file" in text


def test_files_that_cannot_be_opened(facts, tmp_path):
    facts["docker"]["daemon_json"] = daemon_json(str(tmp_path))
    assert "Is a directory" in blocked(facts, "HC105")
    facts["docker"]["daemon_json"] = daemon_json(str(tmp_path / "none"))
    facts["kubelet"]["config_error"] = "it cannot be opened: Input/output error"
    assert "Input/output error" in blocked(facts, "HC113")
    facts["kubelet"]["config_error"] = None
    facts["containerd"]["config_error"] = "it cannot be opened: Is a directory"
    assert "Is a directory" in blocked(facts, "HC114")


@pytest.mark.parametrize(
    "runtime",
    [
        {"path": "/usr/bin/x", "runtimeArgs": ["--debug", "--password=hush"]},
        {"runtimeType": "io.x.v1", "options": {"Endpoint": "https://u:hush@host/"}},
        {"runtimeType": "io.x.v1", "options": {"inner": {"ApiToken": "hush"}}},
    ],
)
def test_a_secret_of_a_runtime_is_neither_shown_nor_written_in_part(facts, tmp_path, runtime):
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps({"runtimes": {"x": runtime}}))
    facts["docker"]["daemon_json"] = daemon_json(str(path))
    found = decide(facts)
    assert "hush" not in json.dumps(found)
    assert "***" not in json.dumps(
        [found["translation"]["containerd"], found["translation"]["scripts"]]
    )
    (warning,) = [w for w in found["warnings"] if w["evidence"]["key"] == "runtimes.x"]
    assert warning["code"] == "HC219" and "have a secret" in warning["text"]
    assert "containerd_config_overrides" in warning["remedy"]


@pytest.mark.parametrize("content", [b"", b" \n", b"{}"])
def test_an_empty_daemon_json_is_fine(facts, tmp_path, content):
    path = tmp_path / "daemon.json"
    path.write_bytes(content)
    facts["docker"]["daemon_json"] = daemon_json(str(path))
    assert decide(facts)["blockers"] == []
    assert decide(facts)["registries"] == []


def test_no_kubectl(facts):
    facts["kubernetes"]["kubectl"] = None
    assert "key kubectl" in blocked(facts, "HC106")


def test_no_admin_conf(facts):
    facts["kubernetes"]["admin_conf"] = None
    assert "file /etc/kubernetes/admin.conf" in blocked(facts, "HC106")
    facts["kubernetes"]["control_plane"] = False
    assert decide(facts)["blockers"] == []


def test_a_node_that_cannot_ask_the_api(facts):
    conf = facts["api"]["kubeconfig"]
    facts["api"]["error"] = "The API does not answer this node with %s: Unauthorized" % conf
    text = blocked(facts, "HC127")
    assert "Unauthorized" in text and "file /etc/kubernetes/kubelet.conf" in text
    assert "expired" in text and "switch_runtime_kubelet_kubeconfig" in text
    facts["kubernetes"]["kubectl"] = None
    blocked(facts, "HC106")


def test_an_api_that_an_interrupted_switch_stopped_is_no_blocker(facts):
    facts["api"]["error"] = "The API does not answer"
    facts["journal"] = {"direction": "containerd", "state": "running", "flags_before": {}}
    assert decide(facts)["blockers"] == []


def test_not_a_kubernetes_node(facts):
    facts["kubelet"].update(binary=None, version=None, runtime=None, pid=None)
    text = blocked(facts, "HC101")
    assert "not a Kubernetes node" in text and "key kubelet" in text


def test_a_kubelet_that_does_not_run(facts):
    facts["kubelet"].update(runtime=None, pid=None)
    text = blocked(facts, "HC101")
    assert "key kubelet.service" in text and "journalctl -u kubelet" in text


@pytest.mark.parametrize("runtime", ["cri-o", "cri-dockerd", "unknown"])
def test_another_runtime(facts, runtime):
    facts["kubelet"].update(runtime=runtime, endpoint="unix:///run/it.sock")
    text = blocked(facts, "HC102")
    assert runtime in text and "value unix:///run/it.sock" in text


def test_flags_with_a_broken_quote(facts):
    facts["kubelet"]["extra_args"][0]["error"] = "KUBELET_EXTRA_ARGS: No closing quotation"
    text = blocked(facts, "HC107")
    assert "file /etc/default/kubelet, key KUBELET_EXTRA_ARGS" in text and "quoting" in text


def test_no_flag_file_of_kubeadms(facts):
    facts["kubelet"]["kubeadm_flags"].update(exists=False, words=[])
    found = decide(facts)
    assert [blocker["code"] for blocker in found["blockers"]] == ["HC107", "HC108"]
    assert "/var/lib/kubelet/kubeadm-flags.env" in describe(found["blockers"][0])
    assert "key --network-plugin" in describe(found["blockers"][1])


def test_a_dockershim_flag_from_nowhere(facts):
    facts["kubelet"]["flags"]["docker-endpoint"] = "unix:///var/run/docker.sock"
    text = blocked(facts, "HC108")
    assert "key --docker-endpoint" in text and "/etc/default/kubelet" in text


def test_docker_bound_to_containerd(facts):
    facts["docker"]["stops_with"] = ["BindsTo"]
    text = blocked(facts, "HC109")
    assert "key BindsTo" in text and "systemctl edit" in text


def test_docker_that_does_not_answer(facts):
    facts["docker"].update(error="GET /info on /var/run/docker.sock: refused", images=[])
    text = blocked(facts, "HC110")
    assert "refused" in text and "systemctl start docker" in text


def test_no_docker_at_all(facts):
    """As docker_facts() returns it: there is nothing but these keys."""
    kept = ("flags", "daemon_json", "containers", "images", "stops_with")
    facts["docker"] = {key: facts["docker"][key] for key in kept}
    facts["docker"].update(binary=None, active=False, error="there is no dockerd on this node")
    assert "no dockerd" in blocked(facts, "HC110")


@pytest.mark.parametrize("plugin", ["kubenet", "", None])
def test_a_network_of_dockershims(facts, plugin):
    facts["kubelet"]["flags"].pop("network-plugin")
    if plugin is not None:
        facts["kubelet"]["flags"]["network-plugin"] = plugin
        facts["kubelet"]["kubeadm_flags"]["words"] = ["--network-plugin=" + plugin]
    text = blocked(facts, "HC111")
    assert "/etc/cni/net.d" in text and "Install a CNI network" in text


def test_a_cni_configuration_that_is_broken(facts):
    facts["cni"]["configurations"][0]["error"] = "Expecting value"
    assert "file /etc/cni/net.d" in blocked(facts, "HC111")


def test_no_systemd(facts):
    facts["os"]["systemd"] = False
    blocked(facts, "HC112")


@pytest.mark.parametrize("text", ["a: [", "- a list", "cgroupDriver: systemd\n\tx: 1"])
def test_a_kubelet_config_that_is_not_yaml(facts, text):
    facts["kubelet"]["config_text"] = text
    facts["docker"]["cgroup_driver"] = "cgroupfs"
    assert "file /var/lib/kubelet/config.yaml" in blocked(facts, "HC113")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('disabled_plugins = ["cri"', "not TOML"),
        ("version = 2\nversion = 2\n", "not TOML"),
        ("[plugins.my-own]\nx = 1\n", "version 1"),
        ('disabled_plugins = ["cri", "content"]\n', "content"),
        (
            "version = 2\n"
            '[plugins."io.containerd.grpc.v1.cri".registry.mirrors.a]\nendpoint = ["ftp://a"]\n',
            "hosts.toml",
        ),
    ],
)
def test_a_containerd_config_that_is_broken(facts, text, why):
    facts["containerd"]["config_text"] = text
    found = blocked(facts, "HC114")
    assert why in found and "file /etc/containerd/config.toml" in found
    assert "never overwritten blindly" in found


def test_a_network_of_insecure_registries_is_a_warning(facts):
    facts["docker"]["daemon_json"]["value"]["insecure-registries"].append("10.0.0.0/8")
    warning = next(w for w in decide(facts)["warnings"] if w["code"] == "HC201")
    text = describe(warning)
    assert "value 10.0.0.0/8" in text and "key insecure-registries" in text
    assert "containerd_registries" in text


@pytest.mark.parametrize(
    ("words", "hosts", "origin"),
    [
        (["dockerd", "-H", "tcp://0.0.0.0:2375"], None, "command line"),
        (["dockerd", "-H", "fd://", "--host=tcp://0.0.0.0:2375"], None, "command line"),
        (["dockerd", "-H", ":2375"], None, "command line"),
        (["dockerd"], ["fd://", "tcp://0.0.0.0:2375"], "/etc/docker/daemon.json"),
    ],
)
def test_a_docker_on_tcp(facts, words, hosts, origin):
    facts["docker"]["command_line"] = words
    if hosts:
        facts["docker"]["daemon_json"]["value"]["hosts"] = hosts
    (found,) = [w for w in decide(facts)["warnings"] if w["code"] in ("HC208", "HC219")]
    assert found["code"] == "HC208" and "root on this node" in found["text"]
    assert found["evidence"]["file"] == origin
    facts["docker"]["flags"]["tlsverify"] = ["true"]
    (found,) = [w for w in decide(facts)["warnings"] if w["code"] == "HC208"]
    assert "root on this node" not in found["text"]


def test_docker_on_its_own_socket_alone(facts):
    facts["docker"]["command_line"] = ["dockerd", "-H", "fd://"]
    assert not [w for w in decide(facts)["warnings"] if w["code"] in ("HC208", "HC219", "HC220")]


@pytest.mark.parametrize(
    ("change", "code", "key"),
    [
        ({"log-opts": {"tag": "x"}}, "HC219", "log-opts.tag"),
        ({"no-such-key": 1}, "HC220", "no-such-key"),
        ({"dns": "1.1.1.1"}, "HC220", "dns"),
    ],
)
def test_settings_that_are_not_carried_over(facts, change, code, key):
    facts["docker"]["daemon_json"]["value"].update(change)
    (found,) = [w for w in decide(facts)["warnings"] if w["code"] == code]
    assert found["evidence"]["key"] == key and found["remedy"]


@pytest.mark.parametrize(
    ("words", "value", "key"),
    [
        (["-H", "tcp://10.0.0.7:2376"], {"hosts": ["tcp://10.0.0.7:2376"]}, "hosts"),
        (["--metrics-addr=:9323"], {"metrics-addr": ":9323"}, "metrics-addr"),
        ([], {"log-driver": "splunk", "log-opts": {"splunk-gzip": True}}, "log-opts.splunk-gzip"),
        (["--dns=10.0.0.1"], {"dns": ["10.0.0.1"]}, "dns"),
    ],
)
def test_a_fault_is_reported_beside_a_setting_without_an_equivalent(facts, words, value, key):
    facts["docker"]["command_line"] = ["dockerd", *words]
    facts["docker"]["daemon_json"]["value"].update(value)
    faults = [w for w in decide(facts)["warnings"] if w["code"] == "HC220"]
    assert [found["evidence"]["key"] for found in faults] == [key]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"userns_remap": True}, "HC118"),
        ({"swarm": "active"}, "HC207"),
        ({"live_restore": True}, "HC209"),
        ({"storage_driver": "devicemapper"}, "HC210"),
        ({"root_dir": "/data/docker"}, "HC211"),
        ({"runtimes": ["runc", "nvidia"], "default_runtime": "nvidia"}, "HC213"),
    ],
)
def test_what_docker_says_of_itself(facts, change, code):
    assert code not in [f["code"] for kind in ("blockers", "warnings") for f in decide(facts)[kind]]
    facts["docker"].update(change)
    assert code in [f["code"] for kind in ("blockers", "warnings") for f in decide(facts)[kind]]


def test_a_package_that_would_remove_docker(facts):
    said = "installing containerd.io would remove containerd, docker.io, runc"
    options = {"containerd_install": "docker_repository", "containerd_version": "1.6.33"}
    assert decide(facts, **options)["blockers"] == []
    text = blocked(facts, "HC126", install_problem=said, **options)
    assert "docker.io" in text and "key containerd_install, value docker_repository" in text


def test_images_are_streamed_where_they_cannot_be_adopted(facts):
    facts["docker"]["storage_driver"] = "devicemapper"
    found = decide(facts)
    assert found["carry"]["method"] == "stream"
    assert "stream 10 images" in found["steps"][1]["text"]
    assert "devicemapper" in blocked(facts, "HC125", carry_method="adopt")
    assert found["steps"][1]["seconds"] > decide_adopted(facts)["steps"][1]["seconds"]


def decide_adopted(facts):
    facts["docker"]["storage_driver"] = "overlay2"
    return decide(facts)


def test_layers_count_once(facts):
    summed = decide(facts)["steps"][1]["bytes"]
    facts["docker"]["layer_bytes"] = 1000
    assert decide(facts)["steps"][1]["bytes"] == 1000 < summed


def test_not_enough_room(facts):
    facts["disk"]["containerd"]["free_bytes"] = 1000
    assert "key free bytes" in blocked(facts, "HC119")
    facts["disk"]["containerd"].update(free_bytes=10**12, free_inodes=10)
    assert decide(facts)["blockers"] == []
    assert "key free inodes" in blocked(facts, "HC119", carry_method="stream")
    facts["disk"]["containerd"]["total_inodes"] = 0  # btrfs
    assert decide(facts, carry_method="stream")["blockers"] == []


@pytest.mark.parametrize(("method", "apart"), [("adopt", 0), ("stream", 0), ("stream", 1)])
@pytest.mark.parametrize("restore", ["never", "all"])
def test_room_is_counted_as_the_role_counts_it(facts, tmp_path, method, restore, apart, engine):
    """What assess lets through, carry_images does not refuse before the first byte."""
    gigabyte = 10**9
    docker, disk = facts["docker"], facts["disk"]
    docker["layer_bytes"] = 4 * gigabyte
    local = [image for image in docker["images"] if image_names.unregistered_tags(image)]
    for image in local:
        image["size"] = gigabyte // len(local)
    disk["docker"]["device"] = disk["containerd"]["device"] + apart
    carrier = Carrier(
        types.SimpleNamespace(
            params={
                "docker_socket": engine.path,
                "containerd_root": "containerd",
                "reserve_bytes": gigabyte,
                "progress_file": None,
            }
        )
    )
    carrier.info["DockerRootDir"] = "docker"
    options = {
        "carry_method": method,
        "carry_restore": restore,
        "carry_reserve_bytes": gigabyte,
    }
    for free in range(0, 16 * gigabyte, gigabyte // 10):
        for each in disk.values():
            each["free_bytes"] = free
        to_restore = sum(image["size"] for image in local) if restore != "never" else 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mounts, "disk_facts", lambda path: disk[path])
            try:
                carrier.check_space(method, docker["layer_bytes"], to_restore)
                refused = False
            except commands.NodeError:
                refused = True
        found = decide(facts, **options)["blockers"]
        assert [blocker["code"] for blocker in found[:1]] == ["HC119"] * refused, free


def test_what_containerd_has_needs_no_more_room(facts):
    facts["disk"]["containerd"]["free_bytes"] = 1000
    assert "key free bytes" in blocked(facts, "HC119", carry_method="stream")
    facts["containerd"]["images"] = [image["id"] for image in facts["docker"]["images"]]
    assert decide(facts, carry_method="stream", carry_reserve_bytes=10**9)["blockers"] == []


def test_a_host_whose_cgroups_the_kubelet_does_not_know(facts):
    facts["os"]["cgroup_version"] = 2
    facts["kubelet"]["version"] = "v1.18.20"
    assert "cgroup v2" in blocked(facts, "HC115")


def test_a_containerd_that_does_not_get_along_with_the_network(facts):
    facts["containerd"]["version"] = "1.6.2"
    facts["cni"]["loopback_supports"] = ["0.3.1", "0.4.0"]
    assert "key cniVersion" in blocked(facts, "HC116")


def test_imports_that_turn_the_cri_off(facts):
    entry = {"path": "/etc/containerd/conf.d/a.toml", "text": 'disabled_plugins = ["cri"]'}
    facts["containerd"]["imports"] = [entry]
    assert "file /etc/containerd/conf.d/a.toml" in blocked(facts, "HC117")
    facts["containerd"]["imports"] = [dict(entry, text="oom_score = 0")]
    assert "HC223" in [w["code"] for w in decide(facts)["warnings"]]


def test_a_kubelet_that_needs_docker(facts):
    need = {"file": "/x/20.conf", "key": "Requires", "value": "docker.service"}
    facts["kubelet"]["needs_docker"] = [need]
    (found,) = [w for w in decide(facts)["warnings"] if w["code"] == "HC222"]
    assert found["evidence"]["file"] == "/x/20.conf"


def test_a_blocker_can_be_overridden_by_name(facts):
    facts["kubernetes"]["kubectl"] = None
    found = decide(facts, overrides=["HC106"])
    assert found["blockers"] == []
    assert [finding["code"] for finding in found["overridden"]] == ["HC106"]


def test_the_sandbox_image_is_the_one_in_use(facts):
    facts["kubelet"]["flags"]["pod-infra-container-image"] = "mirror.example/pause:3.5"
    assert decide(facts)["sandbox_image"] == "mirror.example/pause:3.5"
    del facts["kubelet"]["flags"]["pod-infra-container-image"]
    assert decide(facts)["sandbox_image"] == "registry.k8s.io/pause:3.6"
    facts["docker"]["containers"] = []
    assert decide(facts)["sandbox_image"] == "registry.k8s.io/pause:3.6"

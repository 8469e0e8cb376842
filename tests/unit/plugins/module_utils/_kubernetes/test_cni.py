# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json
import pathlib
import shutil

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import cni
from support import RECORDED

SANDBOX = "0922733dc1fdbb72cc72a08a59810c19e1ea1da3c39cd46c8839c95a5a6e0b0e"
OTHER = "1815428e188a5c96e13cdea300fc8c8374abf7c0eb5a60b706581915d596c2b6"
PLUGIN = """#!/bin/sh
# A plugin that says how it was called.
{ echo "$0 $CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_PATH"; echo "$CNI_ARGS"; cat; \
echo; } >> "%s"
"""


@pytest.fixture
def host(tmp_path):
    """A host with dockershim's and containerd's caches as they were recorded."""
    host = Host(str(tmp_path / "root"))
    recorded = ("cni-dockershim-1.23.17", "cni-containerd-1.6.20")
    for name, place in zip(recorded, cni.CACHE_DIRS, strict=True):
        shutil.copytree(RECORDED / name, host.path(place))
    return host


@pytest.fixture
def plugins(tmp_path):
    """A directory with plugins, and the file they write."""
    directory = tmp_path / "plugins"
    directory.mkdir()
    for name in ("bridge", "portmap", "loopback"):
        (directory / name).write_text(PLUGIN % (tmp_path / "calls"))
        (directory / name).chmod(0o755)
    return directory


def test_only_the_attachments_asked_for_are_found(host):
    found = cni.attachments(host, {SANDBOX})
    assert {entry["containerId"] for entry in found} == {SANDBOX}
    assert sorted(entry["networkName"] for entry in found) == ["cni-loopback", "lab"]
    assert all(pathlib.Path(entry["path"]).is_file() for entry in found)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cniVersion": "0.3.1", "ips": []}'])
def test_caches_of_another_format_are_passed_over(host, text):
    host.write_text(cni.CACHE_DIRS[0] + "/older", text)
    assert len(cni.attachments(host, {SANDBOX})) == 2


def test_delete_requests_come_in_reverse_with_what_the_specification_asks(host):
    attachment = next(a for a in cni.attachments(host, {SANDBOX}) if a["networkName"] == "lab")
    requests = cni.delete_requests(attachment)
    assert [plugin for plugin, _request in requests] == ["portmap", "bridge"]
    for _plugin, request in requests:
        assert request["name"] == "lab"
        assert request["cniVersion"] == "0.4.0"
        assert request["prevResult"] == attachment["result"]
    # As libcni does: what was given at ADD is given at DEL, also when it is empty.
    assert requests[0][1]["runtimeConfig"] == {"portMappings": []}
    assert "runtimeConfig" not in requests[1][1]


def test_capabilities_go_to_the_plugins_that_ask_for_them(host):
    attachment = next(a for a in cni.attachments(host, {SANDBOX}) if a["networkName"] == "lab")
    ports = [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}]
    attachment["capabilityArgs"] = {"portMappings": ports, "bandwidth": {"ingressRate": 1}}
    requests = dict(cni.delete_requests(attachment))
    assert requests["portmap"]["runtimeConfig"] == {"portMappings": ports}
    assert "runtimeConfig" not in requests["bridge"]


def test_before_0_4_0_there_is_no_prevresult(host):
    attachment = next(
        a for a in cni.attachments(host, {SANDBOX}) if a["networkName"] == "cni-loopback"
    )
    assert [request for _plugin, request in cni.delete_requests(attachment)] == [
        {"type": "loopback", "name": "cni-loopback", "cniVersion": "0.2.0"}
    ]


def test_network_namespaces_of_containerds_pods(host):
    found = [
        entry
        for entry in cni.attachments(host, AnyContainer())
        if host.path(cni.CACHE_DIRS[1]) in entry["path"]
    ]
    paths = [path for entry in found for path in cni.network_namespaces(entry)]
    assert paths and all(path.startswith("/var/run/netns/cni-") for path in paths)


class AnyContainer:
    def __contains__(self, item):
        return item is not None


def test_release_calls_the_plugins_and_forgets_the_cache(host, plugins, tmp_path):
    attachment = next(a for a in cni.attachments(host, {SANDBOX}) if a["networkName"] == "lab")
    assert cni.release(attachment, "/proc/1/ns/net", [str(plugins)]) == []
    lines = (tmp_path / "calls").read_text().splitlines()
    called = "%s DEL %s /proc/1/ns/net eth0 %s"
    assert lines[0] == called % (plugins / "portmap", SANDBOX, plugins)
    assert "K8S_POD_NAME=coredns-bd6b6df9f-xb7hx" in lines[1].split(";")
    assert json.loads(lines[2])["type"] == "portmap"
    assert lines[3] == called % (plugins / "bridge", SANDBOX, plugins)
    assert not pathlib.Path(attachment["path"]).exists()
    assert len(cni.attachments(host, {SANDBOX})) == 1
    assert len(cni.attachments(host, {OTHER})) == 2


def test_a_plugin_that_fails_is_a_complaint_and_its_cache_stays(host, plugins):
    (plugins / "bridge").write_text("#!/bin/sh\necho no such link; exit 1\n")
    attachment = next(a for a in cni.attachments(host, {SANDBOX}) if a["networkName"] == "lab")
    assert cni.release(attachment, "", [str(plugins)]) == ["bridge DEL: no such link"]
    assert pathlib.Path(attachment["path"]).exists()


def test_a_plugin_that_is_missing_is_a_complaint(host, tmp_path):
    attachment = cni.attachments(host, {SANDBOX})[0]
    assert cni.release(attachment, "", [str(tmp_path)]) == [
        "no CNI plugin loopback in %s" % tmp_path
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"config": "%%%"},
        {"config": base64.b64encode(b"{").decode()},
        {"config": base64.b64encode(b'{"cniVersion": "", "type": "bridge"}').decode()},
    ],
)
def test_a_damaged_cache_is_a_complaint_too(host, plugins, change):
    attachment = dict(cni.attachments(host, {SANDBOX})[0], **change)
    complaints = cni.release(attachment, "", [str(plugins)])
    assert len(complaints) == 1 and attachment["path"] in complaints[0]


def test_leftover_reservations(tmp_path):
    host = Host(str(tmp_path))
    network = pathlib.Path(host.path(cni.HOST_LOCAL_DIR)) / "lab"
    network.mkdir(parents=True)
    (network / "10.244.0.2").write_text("%s\r\neth0" % SANDBOX)
    (network / "10.244.0.3").write_text("%s\neth0" % OTHER)
    (network / "last_reserved_ip.0").write_text("10.244.0.3")
    (network / "lock").write_bytes(b"\xff")
    assert cni.release_leftovers(host, {SANDBOX}) == ["10.244.0.2"]
    left = sorted(path.name for path in network.iterdir())
    assert left == ["10.244.0.3", "last_reserved_ip.0", "lock"]

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a node can ask the API about itself: what assess says is what the switch finds."""

from __future__ import annotations

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes.node_api import NodeAPI
from ansible_collections.homelab.containerd.plugins.modules import node_runtime_info
from support import RECORDED


@pytest.fixture
def kubeconfig(tmp_path):
    path = tmp_path / "kubelet.conf"
    path.write_text("")
    return str(path)


@pytest.mark.parametrize("kubectl", ["1.23.17", "1.32.4"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("unauthorized", "You must be logged in to the server"),
        ("refused", "was refused"),
        ("no-answer", "Unable to connect to the server"),
        ("unavailable", "ServiceUnavailable"),
    ],
)
def test_an_api_that_does_not_tell(program, kubeconfig, kubectl, answer, said):
    recorded = RECORDED / ("kubectl-%s/%s.txt" % (kubectl, answer))
    program("kubectl", "cat %s >&2; exit 1" % recorded)
    pods, complaint = NodeAPI(Host(), kubeconfig, "node1").look()
    assert pods is None and said in complaint and kubeconfig in complaint
    assert "\n" not in complaint and "memcache" not in complaint
    found = node_runtime_info.look({"api"}, "/no", "/no", kubeconfig, "node1")
    assert found == {"api": {"kubeconfig": kubeconfig, "error": complaint}}


def test_a_node_that_sees_itself_and_not_its_pods(program, kubeconfig):
    program("kubectl", 'case "$*" in *" pods "*) echo Forbidden >&2; exit 1;; esac; echo {}')
    pods, complaint = NodeAPI(Host(), kubeconfig, "node1").look()
    assert pods is None and complaint.endswith("Forbidden")


def test_the_facts_leave_no_cache_of_kubectl_behind(program, kubeconfig, tmp_path, monkeypatch):
    """kubectl itself keeps $HOME/.kube/cache."""
    monkeypatch.setenv("HOME", str(tmp_path))
    program("kubectl", 'mkdir -p "$HOME/.kube/cache"; echo {}')
    found = node_runtime_info.look({"api"}, "/no", "/no", kubeconfig, "node1")
    assert found["api"]["error"] is None
    assert not (tmp_path / ".kube").exists()


def test_no_kubeconfig(kubeconfig):
    pods, complaint = NodeAPI(Host(), "/no/kubelet.conf", "node1").look()
    assert pods is None and complaint.startswith("There is no /no/kubelet.conf on this node")


def test_an_api_that_tells(program, kubeconfig):
    cluster = RECORDED / "kubernetes-1.23.17"
    program(
        "kubectl",
        'case "$*" in *" get node here "*) cat %s/nodes.json;;'
        " *spec.nodeName=here*) cat %s/pods.json;; *) exit 1;; esac" % (cluster, cluster),
    )
    pods, complaint = NodeAPI(Host(), kubeconfig, "here").look()
    assert pods["items"] and complaint == ""
    found = node_runtime_info.look({"api", "kubernetes"}, "/no", "/no", kubeconfig, "here")
    assert found["api"]["error"] is None
    # The plan knows the node by the same name.
    assert found["kubernetes"]["node_name"] == "here"

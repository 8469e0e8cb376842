# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever a node holds becomes findings that a terminal can be given, never a traceback."""

from __future__ import annotations

import copy
import json
import typing as t
import unicodedata

from ansible_collections.homelab.containerd.plugins.filter.plan import cluster_plan, plan
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import workloads
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.findings import describe
from hypothesis import given
from hypothesis import strategies as st
from support import read_recorded

HOSTILE = st.text(st.characters() | st.sampled_from("\x1b\x07\r\n\u202e\ud800<>&\"'"), max_size=12)
FACTS = read_recorded("runtime_info-dockershim.json")


def safe(text):
    return all(c == " " or unicodedata.category(c)[0] not in "CZ" for c in text)


def said(*plans):
    return [
        describe(finding)
        for found in plans
        for kind in ("blockers", "warnings", "overridden")
        for finding in found[kind]
    ]


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_hostile_names_do_not_reach_a_terminal(name, project, image, path):
    facts = copy.deepcopy(FACTS)
    own = next(entry for entry in facts["docker"]["containers"] if entry["owner"] == "user")
    own.update(name=name, project=project, image=image)
    facts["docker"]["images"].append({"id": "sha256:1", "tags": [image], "digests": [], "size": 1})
    facts["docker"]["runtimes"].append(name)
    call = {"line": 1, "command": "docker build", "purpose": "builds", "kind": "script"}
    facts["docker_users"]["files"] = [dict(call, path=path)]
    facts["docker_users"]["processes"] = [{"pid": 1, "name": name, "unit": path, "container": None}]
    login = {"hosts": [image], "helpers": [], "kubelet_reads": False, "error": None}
    facts["logins"] = [dict(login, path=path)]
    found = plan(facts, {"node": "machine1"})
    assert len(said(found)) > 5 and all(safe(text) for text in said(found))


@given(HOSTILE, HOSTILE)
def test_any_text_of_the_nodes_files(kubelet, containerd):
    facts = copy.deepcopy(FACTS)
    facts["kubelet"]["config_text"] = kubelet
    facts["containerd"]["config_text"] = containerd
    facts["containerd"]["imports"] = [{"path": "/x", "text": containerd}]
    assert all(safe(text) for text in said(plan(facts, {"node": "machine1"})))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | HOSTILE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        *("registry-mirrors", "insecure-registries", "hosts", "log-opts", "runtimes", "data-root"),
        *("userns-remap", "live-restore", "exec-opts", "tlsverify", "default-runtime", "proxies"),
    ]
)


@given(st.dictionaries(KEYS | HOSTILE, JSON, max_size=4))
def test_any_daemon_json(value):
    facts = copy.deepcopy(FACTS)
    # As the module would return it: what is no JSON is an error there.
    facts["docker"]["daemon_json"]["value"] = value
    assert all(safe(text) for text in said(plan(facts, {"node": "machine1"})))


@given(st.lists(st.dictionaries(st.sampled_from(["kind", "spec", "status"]), JSON, max_size=3)))
def test_a_cluster_of_odd_names(objects):
    items = [
        {"kind": str(entry.get("kind")), "metadata": {"name": str(entry), "namespace": "x"}}
        for entry in objects
    ]
    found: t.Any = workloads.look({"items": items})
    plans = [plan(copy.deepcopy(FACTS), {"node": "machine1"})]
    found["error"] = json.dumps(objects)
    cluster = cluster_plan(found, plans, {"drain": True})
    assert all(safe(text) for text in said(cluster))

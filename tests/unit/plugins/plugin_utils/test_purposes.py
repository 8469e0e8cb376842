# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.homelab.containerd.plugins.module_utils._docker import clients
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import workloads
from ansible_collections.homelab.containerd.plugins.plugin_utils import purposes


def of_workload(path: str) -> str:
    """What workloads.look makes of a pod of an unknown image that mounts this."""
    spec = {
        "containers": [{"image": "x"}],
        "volumes": [{"name": "v", "hostPath": {"path": path}}],
    }
    pod = {"kind": "Pod", "metadata": {"name": "p", "namespace": "n"}, "spec": spec}
    (user,) = workloads.look({"items": [pod]})["users"]
    return str(user["purpose"])


def test_the_table_has_all_that_node_code_finds_and_nothing_else():
    called = {
        call["purpose"]
        for words in clients.PURPOSES.values()
        for word in words
        for call in clients.docker_calls("docker %s" % word)
    }
    assert called == set(clients.PURPOSES)
    images = {purpose for _pattern, purpose in workloads.IMAGES}
    found = called | images
    found |= {of_workload("/run/docker.sock"), of_workload("/var/lib/docker/containers")}
    assert found == set(purposes.PURPOSES)


def test_the_picture_has_room_for_the_words():
    for use in purposes.PURPOSES.values():
        assert 0 < len(use.title) <= 22 and 0 < len(use.after) <= 22


def test_a_purpose_of_another_release_is_unknown():
    assert purposes.purpose("dances") == purposes.PURPOSES["unknown"]

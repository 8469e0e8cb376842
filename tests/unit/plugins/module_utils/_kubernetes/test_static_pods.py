# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._host import paths
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import static_pods


def container(namespace, name):
    return {
        "Labels": {
            "io.kubernetes.pod.namespace": namespace,
            "io.kubernetes.container.name": name,
        }
    }


@pytest.mark.parametrize("namespace", ["default", "home"])
def test_an_owners_etcd_is_not_the_clusters(namespace, tmp_path):
    host = Host(str(tmp_path))
    for name in static_pods.KEPT:
        host.write_text("%s/%s.yaml" % (paths.MANIFESTS, name), "")
    ours = [container("kube-system", name) for name in static_pods.KEPT]
    theirs = container(namespace, "etcd")
    assert static_pods.kept([*ours, theirs, {"Labels": {}}]) == ours
    assert static_pods.can_be_last(host, [*ours, theirs])
    assert not static_pods.can_be_last(host, [ours[1], theirs])

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What docker is used for, in one table: the words, what the switch changes, and what to do.

Node code finds the purpose (a key of PURPOSES) of a call or an image: _docker/clients.py and
_kubernetes/workloads.py. Everything that is said about it is here.
"""

from __future__ import annotations

import typing as t


class Purpose(t.NamedTuple):
    #: What it does, in a list of users.
    title: str
    #: What it does after the switch, in at most 22 letters (the picture has no more room).
    after: str
    #: The same as the end of the sentence "After the switch it …".
    outcome: str
    remedy: str


PURPOSES = {
    "builds": Purpose(
        "builds images",
        "has to use BuildKit",
        "builds into docker, where the kubelet does not look for images",
        "Build with BuildKit instead (docs/buildkit.md).",
    ),
    "runs": Purpose(
        "runs containers",
        "runs them in docker",
        "runs containers in docker, outside Kubernetes, for as long as docker is installed",
        "Turn them into pods, or keep docker for them.",
    ),
    "monitors": Purpose(
        "monitors containers",
        "sees no pods",
        "will see only docker's containers, and no pods",
        "Point it at containerd's socket or the kubelet's API.",
    ),
    "images": Purpose(
        "pulls or pushes images",
        "sees docker's images",
        "pulls or pushes images in docker, where the kubelet does not look for images",
        "Use ctr -n k8s.io images, or a registry.",
    ),
    "cleans": Purpose(
        "removes unused images",
        "cleans docker alone",
        "cleans up docker alone; the kubelet itself removes unused images from containerd",
        "Remove it together with docker.",
    ),
    "logs": Purpose(
        "reads log files",
        "sees no logs of pods",
        "reads docker's log files, which pods no longer write",
        "Read /var/log/pods instead, in the CRI log format.",
    ),
    "unknown": Purpose(
        "purpose unknown",
        "purpose unknown",
        "uses docker for an unknown purpose",
        "Find out what it does with docker before the switch.",
    ),
}


def purpose(name: str) -> Purpose:
    return PURPOSES.get(name, PURPOSES["unknown"])

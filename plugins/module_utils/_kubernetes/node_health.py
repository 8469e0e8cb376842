# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a node is Ready by its own word, for the time when no API server can say so."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import commands
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import kubelet_flags

#: The kubelet's healthzPort, unless somebody has set another one. Then it does not count.
HEALTHZ_PORT = 10248
ENDPOINTS = {
    "containerd": kubelet_flags.CONTAINERD_ENDPOINT,
    "dockershim": "unix:///var/run/dockershim.sock",
}
#: What the kubelet makes the node's Ready of (Kubernetes, CRI API, RuntimeStatus).
CONDITIONS = ("RuntimeReady", "NetworkReady")


def cri_problem(printed: str) -> str:
    """Why the runtime is not ready, out of what "crictl info" prints; "" if it is."""
    try:
        listed = json.loads(printed)["status"]["conditions"]
        found = {condition["type"]: condition for condition in listed}
    except (ValueError, KeyError, TypeError) as exc:
        return "crictl info printed no conditions: %r" % exc
    for name in CONDITIONS:
        condition: t.Dict[str, t.Any] = found.get(name) or {}
        if condition.get("status") is not True:
            return "%s is not true: %s" % (name, condition.get("message") or "no reason")
    return ""


def problem(host: Host, endpoint: str) -> str:
    """Why the node does not count as Ready, "" if it does; what cannot be asked does not count."""
    status, body = host.http_get(HEALTHZ_PORT, "/healthz")
    if status != 200:
        return "the kubelet's healthz says %s" % body.strip()
    try:
        # Quiet, because the rest is the runtime's configuration, with passwords.
        words = ["crictl", "--runtime-endpoint", endpoint, "info", "--quiet"]
        return cri_problem(host.run(words).stdout)
    except commands.NodeError as exc:
        return str(exc)

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API server, asked by a node about itself with the node's own credentials."""

from __future__ import annotations

import json
import re
import subprocess
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host

#: How kubectl's complaint begins where no API server has said anything (1.23 to 1.32 agree).
NO_ANSWER = ("The connection to the server", "Unable to connect to the server")


def answered(complaint: str) -> bool:
    """Whether an API server has refused, rather than said nothing (complaint: as get() returns)."""
    return not complaint.startswith(NO_ANSWER) and "timed out after" not in complaint


class NodeAPI:
    """home: below it kubectl keeps what the API offers; the user's, if none is given."""

    def __init__(
        self, host: Host, kubeconfig: str, node_name: str, home: t.Optional[str] = None
    ) -> None:
        self.host, self.kubeconfig, self.node_name = host, kubeconfig, node_name
        self.environment = ["env", "HOME=" + home] if home else []

    def kubectl(self, *words: str, seconds: int = 3) -> subprocess.CompletedProcess[str]:
        """One request to the API, which may be away, and how it ended."""
        base = ["kubectl", "--kubeconfig", self.kubeconfig, "--request-timeout=%ds" % seconds]
        return self.host.run(
            self.environment + base + list(words), timeout=seconds + 5, check=False
        )

    def get(self, *words: str) -> t.Tuple[t.Any, str]:
        """The JSON that kubectl gets, or None and the last line of its complaint."""
        done = self.kubectl("get", *words, "-o", "json")
        if done.returncode == 0:
            try:
                return json.loads(done.stdout), ""
            except ValueError as exc:
                return None, "kubectl printed no JSON: %s" % exc
        return None, (done.stderr.strip().splitlines() or ["the API did not answer"])[-1]

    def is_behind_this_node(self) -> bool:
        """Whether the way to the API leads through this machine: a proxy in a static pod, say."""
        text = self.host.read_text(self.kubeconfig) or ""
        return bool(re.search(r"(?m)^\s*server:\s*[\"']?https?://(localhost|127\.|\[::1\])", text))

    def node(self) -> t.Tuple[t.Any, str]:
        return self.get("node", self.node_name)

    def pods(self) -> t.Tuple[t.Any, str]:
        # The node authorizer lets a kubelet list the pods that are bound to it.
        return self.get(
            "pods", "--all-namespaces", "--field-selector", "spec.nodeName=" + self.node_name
        )

    def look(self) -> t.Tuple[t.Any, str]:
        """The node's pods, or None and why the switch could not see whether the node is Ready.

        These are the very calls that tell it later.
        """
        if not self.host.exists(self.kubeconfig):
            return None, "There is no %s on this node to ask the API with" % self.kubeconfig
        found, complaint = self.node()
        pods, complaint = self.pods() if found is not None else (None, complaint)
        if pods is None:
            return None, "The API does not answer this node with %s: %s" % (
                self.kubeconfig,
                complaint,
            )
        return pods, ""

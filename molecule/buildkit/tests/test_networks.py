# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What builds reach: the network outside, not the node's localhost; registries as docker did."""

from __future__ import annotations

from buildctl import BASE, Builds
from nodes import Node


def test_steps_reach_the_network(node: Node, builds: Builds, token: str) -> None:
    mirror = node.sh("getent hosts mirror.lab").split()[0]
    ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 10"
    builds.succeed(f"FROM {BASE}\nRUN echo {token}; {ask} {mirror} 8000 | grep '200 OK'\n")


def test_steps_do_not_reach_the_nodes_localhost(node: Node, builds: Builds, token: str) -> None:
    node.sh("curl --silent --fail --output /dev/null http://127.0.0.1:9999/")
    output = builds.run(f"FROM {BASE}\nRUN echo {token}; nc -w 5 127.0.0.1 9999\n")
    node.check(output.rc != 0, "a step that cannot connect", output)
    assert "Connection refused" in output.stdout, output


def test_registry_with_docker_s_ca_and_login(node: Node, builds: Builds, token: str) -> None:
    name = f"node1:5443/test:{token}"
    builds.succeed(f"FROM {BASE}\nRUN echo {token} >/x\n", f"{name},push=true")
    # And back: with nothing of it in containerd, it comes from the registry.
    builds.succeed(f"FROM {name}\nRUN grep {token} /x\n")


def test_registry_refuses_who_is_not_logged_in(node: Node, builds: Builds, token: str) -> None:
    command = builds.command(f"FROM {BASE}\nRUN echo {token}\n", f"node1:5443/no:{token},push=true")
    output = node.run(f"DOCKER_CONFIG=/nonexistent {command} 2>&1")
    node.check(output.rc != 0, "a push that is refused", output)
    assert "authorization" in output.stdout or "401" in output.stdout, output

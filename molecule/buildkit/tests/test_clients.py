# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Over TCP, whoever has a certificate of the CA may build, and nobody else."""

from __future__ import annotations

import pytest
from buildctl import BASE, Builds
from nodes import Node

ADDRESS = "tcp://node1:1234"


def test_client_with_its_certificate_builds(builds: Builds, token: str) -> None:
    output = builds.run(
        f"FROM {BASE}\nRUN echo {token}\n", "", "--tlsdir=/root/certs/client", ADDRESS
    )
    builds.node.check(output.rc == 0, "a build over TCP", output, "buildkit")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        # With the CA alone the server is trusted, and the client unknown.
        ("--tlscacert=/root/certs/client/ca.pem", "tls: certificate required"),
        ("", "error reading server preface: EOF"),
        ("--tlsdir=/root/certs/expired", "tls: expired certificate"),
        # Go does not even send a certificate of a CA that the server does not name.
        ("--tlsdir=/root/certs/stranger", "tls: certificate required"),
        # The certificate of the server, which lies on the node, opens no door.
        ("--tlsdir=/root/certs/server", "tls: bad certificate"),
    ],
    ids=["no certificate", "no TLS", "expired", "of another CA", "the server's own"],
)
def test_nobody_else(node: Node, options: str, said: str) -> None:
    # The client may find the connection closed before it has read why.
    for _try in range(20):
        output = node.run(f"timeout 20 buildctl --addr={ADDRESS} {options} debug workers 2>&1")
        node.check(output.rc not in (0, 124), "a refusal", output, "buildkit")
        if said in output.stdout:
            return
    node.fail(said, output, "buildkit")


def test_client_checks_the_server(node: Node) -> None:
    """Under a name that is not in its certificate the server is not believed."""
    node.sh("grep -q impostor /etc/hosts || echo 127.0.0.1 impostor >>/etc/hosts")
    output = node.run(
        "timeout 20 buildctl --addr=tcp://impostor:1234 --tlsdir=/root/certs/client"
        " debug workers 2>&1"
    )
    node.check(output.rc != 0 and "impostor" in output.stdout, "a refusal by the client", output)


def test_keys_are_root_s(node: Node) -> None:
    output = node.sh("stat --format='%n %U %a' /etc/buildkit/tls /etc/buildkit/tls/*")
    assert output.splitlines() == [
        "/etc/buildkit/tls root 700",
        "/etc/buildkit/tls/ca.pem root 644",
        "/etc/buildkit/tls/cert.pem root 644",
        "/etc/buildkit/tls/key.pem root 600",
    ]
    assert "CERTIFICATE" in (node.text("/etc/buildkit/tls/ca.pem") or "")


def test_the_socket_needs_no_certificate(node: Node) -> None:
    node.sh("buildctl --addr=unix:///run/buildkit/buildkitd.sock debug workers", "buildkit")

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""BuildKit builds with containerd's worker, and pods run what it built."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator

import pytest
from cryptography import x509
from nodes import BUILDKIT_SOCKET, Cluster, Node, Output, Settings, forget_image, full_name, pod

# No `# syntax=` line: buildkitd's own frontend, nothing is pulled for it.
DOCKERFILE = """\
FROM {base} AS build
USER 0
ARG ROUND
RUN --mount=type=cache,id=homelab-containerd-verify-{token},target=/cache \
echo "{token} earlier rounds: $(cat /cache/rounds 2>/dev/null)" && \
echo "$ROUND" >>/cache/rounds && echo "built-{token}-$ROUND" >/built
FROM {base}
COPY --from=build /built /built-{token}
CMD ["cat", "/built-{token}"]
"""


class Builds:
    """Builds of the Dockerfile above on a node."""

    def __init__(
        self, node: Node, buildctl: str, directory: str, token: str, resolve_mode: str
    ) -> None:
        self.node = node
        self.resolve_mode = resolve_mode
        self.buildctl = buildctl
        self.directory = directory
        self.image = f"docker.io/homelab-containerd/verify:{token}"
        self.rounds: set[int] = set()

    def name(self, round_: int) -> str:
        """The image of a round. (The old one under a tag that moves would be left without.)"""
        return f"{self.image}-{round_}"

    def build(self, round_: int) -> Output:
        """Build for a round: the step RUN depends on it, and on nothing else that changes."""
        directory = shlex.quote(self.directory)
        self.rounds.add(round_)
        output = self.node.run(
            f"{self.buildctl} build --progress=plain --frontend=dockerfile.v0"
            f" --local=context={directory} --local=dockerfile={directory}"
            f" --opt=build-arg:ROUND={round_} --opt=image-resolve-mode={self.resolve_mode}"
            f" --output=type=image,name={self.name(round_)},unpack=true,compression=uncompressed"
        )
        self.node.check(output.rc == 0, "a build that succeeds", output, "buildkit", "containerd")
        return output


def step(output: Output, pattern: str) -> list[str]:
    """What the build's progress says of the step whose name matches."""
    text = output.stdout + output.stderr
    found = re.search(rf"^(#\d+) .*{pattern}", text, re.MULTILINE)
    return re.findall(rf"^{found.group(1)} (.*)", text, re.MULTILINE) if found else []


@pytest.fixture(scope="module")
def builds(
    node: Node, buildkit: str, base_image: str, tmp_dir: str, token: str
) -> Iterator[Builds]:
    """A first build; what it made is removed afterwards, its cache with it."""
    # An image that was adopted from docker runs without its layers' blobs, and is no base for a
    # build then. Blobs are not restored where the disk is too full, so the base is pulled.
    listed = node.run(f"ctr --namespace=k8s.io images check name=={full_name(base_image)}")
    mode = "pull" if " incomplete (" in listed.stdout else "local"
    made = Builds(node, buildkit, tmp_dir, token, mode)
    text = DOCKERFILE.format(base=base_image, token=token)
    node.sh(f"printf %s {shlex.quote(text)} >{tmp_dir}/Dockerfile")
    try:
        made.build(1)
        yield made
    finally:
        for round_ in made.rounds:
            forget_image(node, made.name(round_))
        # All: steps count as shared, and would be spared. The token is in each step's description.
        node.run(f"{buildkit} prune --all --filter=description~={token}")


def test_socket(node: Node, buildkit: str, settings: Settings) -> None:
    output = node.run(f"stat --format='%U %G %a %F' {BUILDKIT_SOCKET}")
    wanted = f"root {settings.buildkit_group} 660 socket"
    node.check(output.stdout.strip() == wanted, wanted, output, "buildkit.socket", "buildkit")


def test_no_tcp_port_without_a_certificate(node: Node, buildkit: str) -> None:
    """Whoever reaches buildkitd is root on the node."""
    listed = node.sh("ss --no-header --listening --tcp --numeric --processes")
    # rootlesskit, where it opens the port for buildkitd.
    ours = [line for line in listed.splitlines() if re.search(r'"(buildkitd|rootlesskit)"', line)]
    if not ours:
        pytest.skip("buildkitd does not listen on TCP")
    for line in ours:
        port = line.split()[3].rpartition(":")[2]
        for option in ("", "--tlscacert=/etc/buildkit/tls/ca.pem"):
            output = node.run(
                f"timeout 20 buildctl --addr=tcp://127.0.0.1:{port} {option} debug workers"
            )
            node.check(
                # timeout's own codes: too late, and no such program.
                output.rc not in (0, 124, 125, 126, 127),
                "a client without a certificate is refused",
                output,
            )
    text = node.text("/etc/buildkit/tls/cert.pem") or ""
    ends = x509.load_pem_x509_certificate(text.encode()).not_valid_after_utc
    node.check(
        ends.timestamp() > time.time() + 7 * 86400,
        "/etc/buildkit/tls/cert.pem is valid for a week (the playbook buildkit renews it)",
        f"it ends at {ends}",
    )


def test_one_worker_in_the_kubelets_namespace(
    node: Node, buildkit: str, settings: Settings
) -> None:
    text = node.sh(f"{buildkit} debug workers --format='{{{{json .}}}}'", "buildkit", "containerd")
    prefix = "org.mobyproject.buildkit.worker."
    wanted = {
        prefix + "executor": "containerd",
        prefix + "containerd.namespace": settings.buildkit_namespace,
    }
    workers = json.loads(text)
    node.check(
        len(workers) == 1 and wanted.items() <= workers[0]["labels"].items(),
        f"one worker, with {wanted}",
        node.run(f"{buildkit} debug workers --verbose"),
        "buildkit",
    )


def test_worker_belongs_to_the_containerd_that_runs(node: Node, buildkit: str) -> None:
    """A buildkitd that outlived its containerd keeps the other one's identity."""
    text = node.sh(f"{buildkit} debug workers --format='{{{{json .}}}}'", "buildkit", "containerd")
    noted = json.loads(text)[0]["labels"]["org.mobyproject.buildkit.worker.containerd.uuid"]
    told = node.sh("ctr version", "containerd")
    found = re.search(r"UUID: *(\S+)", told)
    real = found.group(1) if found else told
    node.check(noted == real, f"containerd {real}", f"containerd {noted}", "buildkit")


def test_cache_is_bounded(node: Node, buildkit: str) -> None:
    text = node.sh(f"{buildkit} debug workers --format='{{{{json .}}}}'", "buildkit", "containerd")
    rules = json.loads(text)[0]["gcPolicy"]
    everything = [rule for rule in rules if rule.get("all") and not rule.get("filter")]
    node.check(
        # keepBytes: what a release before 0.17 has.
        any(rule.get("maxUsedSpace") or rule.get("keepBytes") for rule in everything),
        "a rule of garbage collection that bounds the whole cache",
        node.run(f"{buildkit} debug workers --verbose"),
    )


def test_second_build_is_cached(node: Node, builds: Builds, token: str) -> None:
    output = builds.build(1)
    said = step(output, "RUN .*" + token)
    node.check("CACHED" in said, "the step RUN is CACHED", output, "buildkit")


def test_cache_mount_is_kept(node: Node, builds: Builds, token: str) -> None:
    output = builds.build(2)
    said = "\n".join(step(output, "RUN .*" + token))
    node.check(
        f"{token} earlier rounds: 1" in said, "the cache mount holds round 1", output, "buildkit"
    )


def test_pod_runs_what_was_built(
    node: Node, cluster: Cluster, node_name: str, namespace: str, builds: Builds, token: str
) -> None:
    """With imagePullPolicy Never: from the node's own images, with no registry between."""
    builds.build(3)
    name = f"built-{token}"
    # Its own command, as the Dockerfile has it.
    cluster.start([pod(name, node_name, [builds.name(3)], "Never", [])])
    try:
        cluster.wait(node, name, "Succeeded")
        output = cluster.run(f"logs {name} --namespace={namespace}")
        wanted = f"built-{token}-3"
        node.check(output.stdout.strip() == wanted, wanted, output, "kubelet", "containerd")
    finally:
        cluster.delete(name)

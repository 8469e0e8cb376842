# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node, and the cluster through a control-plane node's kubectl: what the tests talk to.

A failure names the node, what was expected, what there was, and the last words of the services
in question, so that a person can act on it without logging in first.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest
from testinfra.host import Host

STATE_DIR = "/var/lib/homelab-containerd"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
BUILDKIT_SOCKET = "/run/buildkit/buildkitd.sock"


@dataclass(frozen=True)
class Settings:
    """The value of an option: VERIFY_X of the environment, else verify_x of the inventory."""

    base_image: str
    registry_image: str
    kubeconfig: str
    kubectl_host: str
    buildkit: bool
    buildkit_group: str
    buildkit_namespace: str
    node_restarted: bool
    timeout: float

    @classmethod
    def of(cls, variables: dict[str, Any]) -> Settings:
        def text(name: str, default: str) -> str:
            value = os.environ.get("VERIFY_" + name.upper()) or variables.get("verify_" + name)
            return default if value in (None, "") else str(value)

        def flag(name: str, default: str) -> bool:
            return text(name, default).lower() in ("1", "true", "yes", "on")

        return cls(
            base_image=text("base_image", "docker.io/library/busybox:1.37"),
            registry_image=text("registry_image", ""),
            kubeconfig=text("kubeconfig", "/etc/kubernetes/admin.conf"),
            kubectl_host=text("kubectl_host", ""),
            buildkit=flag("buildkit", "yes"),
            buildkit_group=text("buildkit_group", "buildkit"),
            buildkit_namespace=text("buildkit_namespace", "k8s.io"),
            node_restarted=flag("node_restarted", "no"),
            timeout=float(text("timeout", "120")),
        )


@dataclass(frozen=True)
class Output:
    """What a command on a node printed."""

    command: str
    rc: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        text = f"$ {self.command}\nrc {self.rc}"
        for part in (self.stdout, self.stderr):
            text += "\n" + part.rstrip() if part.strip() else ""
        return text


class Node:
    """One machine."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name

    def run(self, command: str) -> Output:
        """Run a shell command; it may fail."""
        # Not every login has the directories of root's and of our programs.
        result = self.host.run("PATH=$PATH:/usr/local/bin:/usr/sbin:/sbin; " + command)
        return Output(command, result.rc, result.stdout, result.stderr)

    def sh(self, command: str, *units: str) -> str:
        """A command's output; if it fails, the test does, with the units' journal."""
        output = self.run(command)
        if output.rc:
            self.fail("a command that succeeds", output, *units)
        return output.stdout

    def text(self, path: str) -> str | None:
        """A file's text, or None if it is not there; a file that cannot be read fails the test."""
        path = shlex.quote(path)
        output = self.run(f"test -e {path} || exit 44; cat {path}")
        if output.rc not in (0, 44):
            self.fail("a file that can be read", output)
        return None if output.rc else output.stdout

    def fail(self, expected: str, got: object, *units: str) -> NoReturn:
        """End the test with all that a person needs."""
        lines = [f"node {self.name}", f"expected: {expected}", "but there was:", str(got).rstrip()]
        for unit in units:
            unit = shlex.quote(unit)
            state = self.run(f"systemctl is-active {unit}").stdout.strip()
            tail = self.run(f"journalctl --no-pager --output=cat --lines=8 --unit={unit}").stdout
            lines.append(f"--- {unit} is {state}; the end of its journal:")
            lines += [line[:200] for line in tail.splitlines()]
        pytest.fail("\n".join(lines), pytrace=False)

    def check(self, condition: object, expected: str, got: object, *units: str) -> None:
        """Like assert, with a message for people."""
        if not condition:
            self.fail(expected, got, *units)

    def has_unit(self, unit: str) -> bool:
        """Whether systemd knows a unit, whether or not it runs."""
        state = self.sh(f"systemctl show --property=LoadState --value {shlex.quote(unit)}").strip()
        self.check(state, f"systemd answers for {unit}", "nothing")
        return state != "not-found"

    def command_line(self, unit: str) -> list[str]:
        """The command line a service was really started with: not the file it should be from."""
        pid = self.sh(f"systemctl show --property=MainPID --value {unit}", unit).strip()
        self.check(pid not in ("", "0"), f"{unit} runs", f"its main process is {pid!r}", unit)
        return self.sh(f"tr '\\0' '\\n' < /proc/{pid}/cmdline").splitlines()


def flags(command_line: Sequence[str]) -> dict[str, str]:
    """The --flag=value and --flag value of a command line."""
    found: dict[str, str] = {}
    name = ""
    for word in command_line[1:]:
        if word.startswith("-"):
            name, equals, value = word.lstrip("-").partition("=")
            found[name] = value
            name = "" if equals else name
        elif name:
            found[name], name = word, ""
    return found


class Cluster:
    """The API, through kubectl of a control-plane node: it always fits the cluster's version."""

    def __init__(self, node: Node, settings: Settings) -> None:
        self.node = node
        self.settings = settings
        #: The namespace of the tests' pods: the fixture of that name makes it.
        self.namespace = ""
        self.kubectl_command = f"kubectl --kubeconfig={shlex.quote(settings.kubeconfig)}"

    def run(self, arguments: str) -> Output:
        return self.node.run(f"{self.kubectl_command} {arguments}")

    def kubectl(self, arguments: str) -> str:
        return self.node.sh(f"{self.kubectl_command} {arguments}", "kubelet")

    def get(self, arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl(f"get {arguments} --output=json"))
        return found

    def create(self, manifest: dict[str, Any]) -> None:
        """Make an object that must not be there before."""
        text = shlex.quote(json.dumps(manifest))
        self.node.sh(f"printf %s {text} | {self.kubectl_command} create --filename=-", "kubelet")

    def start(self, pods: Sequence[dict[str, Any]]) -> None:
        """Make pods in the tests' namespace."""
        for made in pods:
            made["metadata"]["namespace"] = self.namespace
        self.create({"apiVersion": "v1", "kind": "List", "items": list(pods)})

    def wait(self, node: Node, name: str, *phases: str) -> dict[str, Any]:
        """Wait until a pod of ours is in one of the phases, and Ready if that is Running."""
        namespace = self.namespace
        deadline = time.monotonic() + self.settings.timeout
        while True:
            pod = self.get(f"pod {name} --namespace={namespace}")
            phase = pod["status"].get("phase")
            if phase in phases and (phase != "Running" or is_ready(pod)):
                return pod
            hopeless = phase in ("Succeeded", "Failed") or "ErrImageNeverPull" in json.dumps(pod)
            if time.monotonic() > deadline or hopeless:
                described = self.run(f"describe pod {name} --namespace={namespace}")
                logs = self.run(f"logs {name} --namespace={namespace} --tail=20")
                wanted = " or ".join(phases)
                node.fail(f"pod {name} {wanted}", f"{described}\n{logs}", "kubelet", "containerd")
            time.sleep(0.5)

    def delete(self, *names: str) -> None:
        namespace = self.namespace
        self.run(f"delete pod {' '.join(names)} --namespace={namespace} --now --wait=false")


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def pod(
    name: str, node_name: str, images: Sequence[str], policy: str, command: Sequence[str]
) -> dict[str, Any]:
    """A pod pinned to a node, with a container of each image."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            # The scheduler is not asked: these tests are about this node, tainted or not.
            "nodeName": node_name,
            "tolerations": [{"operator": "Exists"}],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "containers": [
                {
                    "name": f"c{number}",
                    "image": image,
                    "imagePullPolicy": policy,
                    "command": list(command),
                }
                for number, image in enumerate(images)
            ],
        },
    }


def probe_pod(
    name: str, node_name: str, images: Sequence[str], policy: str, probe: Sequence[str]
) -> dict[str, Any]:
    """A pod that runs a program of the node in each image, and ends."""
    path, *arguments = probe
    made = pod(name, node_name, images, policy, ["/homelab-containerd-probe", *arguments])
    mount = {"name": "probe", "mountPath": "/homelab-containerd-probe", "readOnly": True}
    for container in made["spec"]["containers"]:
        container["volumeMounts"] = [mount]
    made["spec"]["volumes"] = [{"name": "probe", "hostPath": {"path": path, "type": "File"}}]
    return made


def full_name(reference: str) -> str:
    """An image reference as containerd stores it."""
    first, slash, _rest = reference.partition("/")
    if not slash:
        reference = "library/" + reference
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        reference = "docker.io/" + reference
    name = reference.rpartition("/")[2]
    return reference if ":" in name or "@" in name else reference + ":latest"


def stored_images(node: Node) -> dict[str, str]:
    """containerd's image names in the kubelet's namespace, with the digests they point to.

    CRI keeps one name for each tag and one for each image ID.
    """
    lines = node.sh("ctr --namespace=k8s.io images list", "containerd").splitlines()[1:]
    found = {}
    for line in lines:
        name, _space, rest = line.partition(" ")
        digest = next((word for word in rest.split() if word.startswith("sha256:")), "")
        found[name] = digest
    return found


def forget_image(node: Node, name: str) -> None:
    """Remove an image by all of its names: CRI's own keep its layers otherwise."""
    images = stored_images(node)
    digest = images.get(full_name(name))
    names = [other for other, its in images.items() if digest and its == digest]
    if names:
        node.run("ctr --namespace=k8s.io images remove --sync " + " ".join(map(shlex.quote, names)))

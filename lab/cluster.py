# Copyright (c) 2026, the homelab.containerd authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster's life: containers as machines, kubeadm on dockershim, workloads, restart, removal."""

from __future__ import annotations

import ipaddress
import json
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import images
from shell import (
    CACHE,
    HERE,
    Failure,
    Progress,
    docker_info,
    ensure_engine,
    has_sys_resource,
    output,
    run,
    say,
    tail,
    wait_for,
)
from stages import BUILDKIT, KUBERNETES, Plan

LABEL = "homelab-containerd"
OWNER = "homelab-containerd-cluster"
PODS = ipaddress.IPv4Network("10.244.0.0/16")
CONFLIST = "/etc/cni/net.d/10-lab.conflist"
DNS_METRICS = "http://10.96.0.10:9153/metrics"  # what can be asked without a DNS client
# Pods, services (10.96.0.0/12) and docker's own bridges stay clear of these.
CANDIDATES = [f"10.200.{third}.0/24" for third in range(1, 255)]
VOLUMES = (
    *("/var/lib/docker", "/var/lib/containerd", "/var/lib/kubelet", "/var/lib/etcd"),
    *("/var/lib/buildkit", "/var/lib/buildkit-rootless", "/var/lib/homelab-containerd"),
)
REGISTRY = "registry.lab:5000"


class Cluster:
    def __init__(self, name: str) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
            raise Failure(f"a cluster's name is of a-z, 0-9 and -, not {name!r}")
        self.name = name
        self.network = f"hc-{name}"
        self.services = f"hc-{name}-services"
        self.control_plane = self.node(1)

    def node(self, number: int) -> str:
        return f"hc-{self.name}-node{number}"

    # --- talking to it ----------------------------------------------------------------------

    def inside(self, node: str, *command: str | Path, **options: Any) -> str:
        flags = ["-i"] if options.get("text") is not None or options.get("stdin") else []
        try:
            return output("docker", "exec", *flags, node, *command, **options)
        except Failure as failure:
            raise Failure(f"{failure}\n  on {node}: docker exec -it {node} bash") from None

    def kubectl(self, *arguments: str, **options: Any) -> str:
        kubeconfig = "--kubeconfig=/etc/kubernetes/admin.conf"
        return self.inside(self.control_plane, "kubectl", kubeconfig, *arguments, **options)

    def nodes(self) -> list[str]:
        """The node containers that exist, the control plane first."""
        pattern = re.compile(re.escape(f"hc-{self.name}-node") + r"(\d+)")
        found = []
        for container in owned(f"{OWNER}={self.name}"):
            match = pattern.fullmatch(container)
            if match:
                found.append((int(match[1]), container))
        return [container for _, container in sorted(found)]

    def running(self, container: str) -> bool:
        state = run("docker", "inspect", "-f", "{{.State.Running}}", container, check=False)
        return state.stdout.strip() == "true"

    def exists(self, container: str) -> bool:
        return run("docker", "inspect", container, check=False).returncode == 0

    # --- up ---------------------------------------------------------------------------------

    def up(self, plan: Plan, label: str, workers: int) -> None:
        numbers = list(range(1, workers + 2))
        joining = [(f"join node{number}", 14.0) for number in numbers[1:]]
        progress = Progress(
            f"up {self.name}",
            [
                ("network and services", 4),
                ("nodes", 6.0 * len(numbers)),
                ("images", 8.0 * len(numbers)),
                ("kubeadm init", 22),
                *joining,
                ("all pods ready", 25),
                ("inventory", 1),
            ],
        )
        with progress.step("network and services"):
            subnet = self.make_network(label)
            address = {0: str(subnet[2]), **{n: str(subnet[10 + n]) for n in numbers}}
            self.make_services(plan, plan.node.image, label, address[0])
        with progress.step("nodes"):
            for number in numbers:
                self.make_node(plan.node.image, label, number, address)
            for number in numbers:
                self.wait_engine(self.node(number))
        with progress.step("images"):
            for number in numbers:
                self.load_images(plan, self.node(number))
        with progress.step("kubeadm init"):
            self.init(address[1])
        for number in numbers[1:]:
            with progress.step(f"join node{number}"):
                self.join(number)
        with progress.step("all pods ready"):
            self.connect(numbers, address)
            self.wait_ready()
        with progress.step("inventory"):
            place = self.write_inventory(plan, numbers)
        progress.done(f"cluster {self.name} is up; inventory: {place}")

    def machine(self, plan: Plan, label: str) -> None:
        """One machine that never saw docker nor Kubernetes, beside the same services."""
        progress = Progress(
            f"machine {self.name}", [("network and services", 4), ("machine", 3), ("inventory", 1)]
        )
        with progress.step("network and services"):
            subnet = self.make_network(label)
            address = {0: str(subnet[2]), 1: str(subnet[11])}
            self.make_services(plan, plan.machine.image, label, address[0])
        with progress.step("machine"):
            self.make_node(plan.machine.image, label, 1, address)
            self.wait_boot(self.node(1))
        with progress.step("inventory"):
            place = self.write_inventory(plan, [1], {"machines": [1]})
        progress.done(f"machine {self.node(1)} is up; inventory: {place}")

    def make_network(self, label: str) -> ipaddress.IPv4Network:
        shown = run("docker", "network", "inspect", self.network, check=False)
        if shown.returncode == 0:
            subnet = json.loads(shown.stdout)[0]["IPAM"]["Config"][0]["Subnet"]
            return ipaddress.IPv4Network(subnet)
        taken = taken_networks()
        reason = ""
        for candidate in CANDIDATES:
            subnet = ipaddress.IPv4Network(candidate)
            if any(subnet.overlaps(other) for other in taken):
                continue
            made = run(
                *("docker", "network", "create", "--subnet", candidate),
                *("--label", f"{LABEL}={label}", "--label", f"{OWNER}={self.name}"),
                self.network,
                check=False,
            )
            if made.returncode == 0:
                return subnet
            reason = made.stderr.strip()  # somebody else may have been faster: the next one
        raise Failure(f"no free subnet among 10.200.1.0/24 … 10.200.254.0/24 {reason}")

    def make_services(self, plan: Plan, image: str, label: str, address: str) -> None:
        if not self.exists(self.services):
            run(
                *("docker", "run", "-d", "--name", self.services, "--hostname", "services"),
                *("--network", self.network, "--ip", address, "--restart", "unless-stopped"),
                *("--label", f"{LABEL}={label}", "--label", f"{OWNER}={self.name}"),
                *("--entrypoint", "/usr/local/lib/lab/services", image),
            )
        elif not self.running(self.services):
            run("docker", "start", self.services)
        run("docker", "exec", self.services, "mkdir", "-p", "/srv/mirror")
        for stage in (plan.mirror, plan.mirror_old, *plan.containerds.values()):
            if stage.ready():
                run("docker", "cp", f"{stage.path}/.", f"{self.services}:/srv/mirror/")

        def push() -> bool:
            try:
                images.push(plan.lab_images.path / "images.tar", f"{address}:5000")
            except OSError as error:
                raise Failure(f"registry at {address}:5000: {error}") from None
            return True

        try:
            wait_for("the registry", push, 30)
        except Failure as failure:
            log = run("docker", "logs", "--tail", "20", self.services, check=False)
            raise Failure(f"{failure}\n{tail(log.stdout + log.stderr)}") from None

    def make_node(self, image: str, label: str, number: int, address: dict[int, str]) -> None:
        node = self.node(number)
        if not self.exists(node):
            # An ordinary host can hand out everything; without CAP_SYS_RESOURCE --privileged
            # fails, and this is the most of it that can be had.
            rights = ["--privileged"]
            if not has_sys_resource():
                rights = [
                    *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"),
                    *("--security-opt", "seccomp=unconfined"),
                    *("--security-opt", "apparmor=unconfined"),
                    *("--security-opt", "systempaths=unconfined"),
                    *("--device-cgroup-rule", "a *:* rwm", "-v", "/dev:/dev"),
                ]
            if Path("/lib/modules").is_dir():
                rights += ["-v", "/lib/modules:/lib/modules:ro"]
            if shutil.which("modprobe"):  # a host without it has them built in, or nothing helps
                run("modprobe", "-a", "br_netfilter", "overlay", check=False)
            for volume in VOLUMES:
                rights += ["-v", volume]
            run(
                *("docker", "run", "-d", "--name", node, "--hostname", f"node{number}"),
                *("--network", self.network, "--ip", address[number]),
                *("--label", f"{LABEL}={label}", "--label", f"{OWNER}={self.name}"),
                *("--add-host", f"registry.lab:{address[0]}"),
                *("--add-host", f"mirror.lab:{address[0]}"),
                *("-e", "container=docker", "--stop-signal", "SIGRTMIN+3"),
                *("--cgroupns=private", "--tmpfs", "/run:mode=755", "--tmpfs", "/tmp:exec"),
                *rights,
                image,
            )
        elif not self.running(node):
            run("docker", "start", node)

    def wait_boot(self, node: str) -> None:
        def booted() -> bool:
            state = run("docker", "exec", node, "systemctl", "is-system-running", check=False)
            # What the lab leaves out of a machine may make it "degraded".
            return state.stdout.strip() in ("running", "degraded")

        wait_for(f"systemd inside {node}", booted, 60)

    def wait_engine(self, node: str) -> None:
        def answers() -> bool:
            if not self.running(node):
                log = run("docker", "logs", "--tail", "20", node, check=False)
                raise Failure(f"{node} is not running\n{tail(log.stdout + log.stderr)}")
            return bool(self.inside(node, "docker", "info", "-f", "{{.ServerVersion}}"))

        try:
            wait_for(f"docker inside {node}", answers, 60)
        except Failure as failure:
            raise Failure(f"{failure}\n{self.journal(node, 'containerd', 'docker')}") from None

    def load_images(self, plan: Plan, node: str) -> None:
        key = plan.kube_images.key
        mark = "/var/lib/docker/lab-images"
        if run("docker", "exec", node, "grep", "-qx", key, mark, check=False).returncode == 0:
            return
        with open(plan.kube_images.path / "images.tar", "rb") as archive:
            self.inside(node, "docker", "load", "-q", stdin=archive)
        self.write(node, mark, key + "\n")

    def write(self, node: str, path: str, content: str) -> None:
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1"'
        self.inside(node, "sh", "-c", script, "write", path, text=content)

    def prepare_kubelet(self, node: str) -> None:
        # Pods get the host's name servers: docker's own, 127.0.0.11, is not there in their
        # network namespace. With none that can be used, the network's gateway stands for "none".
        lines = Path("/etc/resolv.conf").read_text(encoding="utf-8").splitlines()
        servers = [line.split()[1] for line in lines if re.match(r"nameserver\s+\d", line)]
        usable = [server for server in servers if not server.startswith("127.")]
        gateway = output(
            *("docker", "network", "inspect", self.network),
            *("-f", "{{(index .IPAM.Config 0).Subnet}}"),
        )
        usable = usable or [str(ipaddress.IPv4Network(gateway)[1])]
        content = "".join(f"nameserver {server}\n" for server in usable)
        self.write(node, "/etc/kubernetes-resolv.conf", content)

    def reset(self, node: str) -> None:
        """What an interrupted init or join left would be in the way."""
        begun = ("docker", "exec", node, "test", "-e", "/var/lib/kubelet/config.yaml")
        if run(*begun, check=False).returncode == 0:
            run("docker", "exec", node, "kubeadm", "reset", "-f", check=False)

    def init(self, address: str) -> None:
        node = self.control_plane
        done = "/etc/kubernetes/lab-init-done"
        if run("docker", "exec", node, "test", "-e", done, check=False).returncode == 0:
            return
        self.prepare_kubelet(node)
        self.reset(node)
        self.write(node, "/etc/kubernetes/kubeadm.yaml", kubeadm_config(self.name, address))
        # The first node gets the first block; with its network there at once, it is Ready sooner.
        self.write(node, CONFLIST, conflist(str(next(PODS.subnets(new_prefix=24)))))
        try:
            self.inside(
                *(node, "kubeadm", "init", "--config", "/etc/kubernetes/kubeadm.yaml"), timeout=300
            )
        except Failure as failure:
            raise Failure(
                f"{failure}\n{self.journal(node, 'docker', 'kubelet')}\n"
                f"  next: lab.py down --cluster {self.name}, then up again"
            ) from None
        self.inside(
            *(node, "sh", "-c"),
            "mkdir -p /root/.kube && ln -sf /etc/kubernetes/admin.conf /root/.kube/config",
        )
        self.write(node, done, "")

    def join(self, number: int) -> None:
        node = self.node(number)
        done = "/etc/kubernetes/lab-init-done"
        if run("docker", "exec", node, "test", "-e", done, check=False).returncode == 0:
            return
        self.prepare_kubelet(node)
        self.reset(node)
        command = self.inside(
            self.control_plane, "kubeadm", "token", "create", "--print-join-command"
        )
        words = [*command.split(), "--cri-socket", "/var/run/dockershim.sock"]
        try:
            self.inside(node, *words, timeout=300)
        except Failure as failure:
            raise Failure(f"{failure}\n{self.journal(node, 'docker', 'kubelet')}") from None
        self.write(node, CONFLIST, conflist(self.pod_block(number)))
        self.write(node, done, "")

    def pod_block(self, number: int) -> str:
        """The node's part of the pod network, as the controller manager gave it out."""
        command = ("get", "node", f"node{number}", "-o", "jsonpath={.spec.podCIDR}")
        return wait_for(f"the pod network of node{number}", lambda: self.kubectl(*command), 60)

    def connect(self, numbers: Sequence[int], address: dict[int, str]) -> None:
        """Routes between the nodes' parts of the pod network; a unit sets them at every start."""
        if len(numbers) < 2:
            return
        block = {number: self.pod_block(number) for number in numbers}
        for number in numbers:
            others = [n for n in numbers if n != number]
            routes = "".join(f"ip route replace {block[n]} via {address[n]}\n" for n in others)
            self.write(self.node(number), "/etc/lab-routes", routes)
            self.inside(self.node(number), "systemctl", "restart", "lab-routes.service")

    # --- readiness --------------------------------------------------------------------------

    def not_ready(self, since: str = "") -> list[str]:
        """What is not as it should be; `since`: containers must have been started after it."""
        problems = []
        for node in json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]:
            conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
            if conditions.get("Ready") != "True":
                problems.append(f"node {node['metadata']['name']} not Ready")
        pods = json.loads(self.kubectl("get", "pods", "-A", "-o", "json"))["items"]
        if not pods:
            problems.append("no pods yet")
        for pod in pods:
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            statuses = pod["status"].get("containerStatuses", [])
            started = [s.get("state", {}).get("running", {}).get("startedAt", "") for s in statuses]
            if not statuses or not all(s["ready"] for s in statuses):
                problems.append(f"{name} not ready ({pod['status'].get('phase')})")
            elif since and min(started) < since:
                problems.append(f"{name} not started again")
        names = [pod["metadata"]["name"] for pod in pods]
        if not any(name.startswith("coredns-") for name in names):
            problems.append("no CoreDNS pod yet")
        if not problems:
            # kube-proxy may still send to where the pods were before a restart.
            ask = f"for i in 1 2 3 4; do curl -sf -m 2 -o /dev/null {DNS_METRICS} || exit 1; done"
            node = self.control_plane
            if run("docker", "exec", node, "sh", "-c", ask, check=False).returncode != 0:
                problems.append("CoreDNS does not answer through its service")
        return problems

    def wait_ready(self, since: str = "", seconds: float = 240) -> None:
        last: list[str] = ["nothing asked yet"]

        def ready() -> bool:
            last[:] = self.not_ready(since)
            return not last

        try:
            wait_for("all pods to be ready", ready, seconds)
        except Failure as failure:
            raise Failure(
                f"{failure}\n  still: {', '.join(last)}\n"
                f"{self.journal(self.control_plane, 'kubelet')}\n"
                f"  next: docker exec {self.control_plane} kubectl get pods -A -o wide"
            ) from None

    def journal(self, node: str, *units: str) -> str:
        words = [word for unit in units for word in ("-u", unit)]
        done = run(
            *("docker", "exec", node, "journalctl", "--no-pager", "-q", "-n", "20", *words),
            check=False,
        )
        return f"  the end of the journal of {', '.join(units)} on {node}:\n{tail(done.stdout)}"

    # --- what others need -------------------------------------------------------------------

    def write_inventory(
        self, plan: Plan, numbers: Sequence[int], groups: dict[str, Sequence[int]] | None = None
    ) -> Path:
        place = CACHE / "run" / self.name / "inventory.yml"
        tarball = next(plan.mirror.path.glob("*.tar.gz"))
        checksum = Path(f"{tarball}.sha256").read_text(encoding="utf-8").split()[0]
        lines = ["# Written by lab.py up", "all:", "  vars:"]
        for name, value in {
            # One is root in the node already, and there is no sudo.
            "ansible_become": "false",
            "ansible_connection": "community.docker.docker",
            "ansible_python_interpreter": "/usr/bin/python3",
            # Clusters that are migrated side by side do not write each other's reports.
            "migrate_report_dir": f"{place.parent}/report",
            "verify_report_dir": f"{place.parent}/verify",
            "buildkit_version": BUILDKIT.removeprefix("v"),
            "buildkit_url": f"http://mirror.lab:8000/{tarball.name}",
            "buildkit_checksum": f"sha256:{checksum}",
            # docker pulled it for the pods from-registry: a base as most people have it.
            "verify_base_image": f"{REGISTRY}/web:1",
            "verify_registry_image": f"{REGISTRY}/probe:1",
            # What it prints has to be the same after the switch: the pod's data.
            "verify_probes": "[{namespace: home, pod: data-0, command: [cat, /data/marker]}]",
        }.items():
            lines.append(f"    {name}: {value}")
        lines.append("  children:")
        groups = groups or {"kube_control_plane": numbers[:1], "kube_node": numbers}
        for group, members in groups.items():
            lines += [f"    {group}:", "      hosts:"]
            for number in members:
                lines += [
                    f"        {self.node(number)}:",
                    f"          ansible_host: {self.node(number)}",
                ]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return place

    # --- the other verbs --------------------------------------------------------------------

    def require(self) -> None:
        ensure_engine()
        if not self.exists(self.control_plane):
            raise Failure(f"there is no cluster {self.name}: lab.py up --cluster {self.name}")

    def workloads(self) -> None:
        self.require()
        node = self.control_plane
        progress = Progress(
            f"workloads {self.name}",
            [("local image", 3), ("owner's container", 2), ("pods", 15)],
        )
        with progress.step("local image"):
            if run("docker", "exec", node, "docker", "image", "inspect", "home/local-only:1",
                   check=False).returncode != 0:  # fmt: skip
                recipe = (HERE / "workloads" / "Dockerfile").read_text(encoding="utf-8")
                self.inside(node, "docker", "build", "-t", "home/local-only:1", "-", text=recipe)
        with progress.step("owner's container"):
            known = run("docker", "exec", node, "docker", "inspect", "owners-own", check=False)
            if known.returncode != 0:
                self.inside(
                    *(node, "docker", "run", "-d", "--name", "owners-own"),
                    *("--restart", "unless-stopped", f"{REGISTRY}/base:1"),
                    *("/bin/sh", "-c", "date >/root/started; exec serve /root 8080"),
                )
        with progress.step("pods"):
            for manifest in sorted((HERE / "workloads").glob("*.yml")):
                self.kubectl("apply", "-f", "-", text=manifest.read_text(encoding="utf-8"))

            def complete() -> bool:
                pods = json.loads(self.kubectl("-n", "home", "get", "pods", "-o", "json"))
                return len(pods["items"]) >= 4

            wait_for("the workloads' pods", complete, 60)
            self.wait_ready()
        progress.done("they run")

    def restart(self) -> None:
        self.require()
        nodes = self.nodes()
        progress = Progress(
            f"restart {self.name}",
            [("restart", 12.0 * len(nodes)), ("docker", 5), ("all pods ready", 60)],
        )
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with progress.step("restart"):
            # The API server may take a minute to end; a reboot would not wait for ever either.
            run("docker", "restart", "-t", "30", *nodes)
        with progress.step("docker"):
            for node in nodes:
                self.wait_engine(node)
        with progress.step("all pods ready"):
            self.wait_ready(since=now)
        progress.done("back")

    def down(self) -> None:
        remove(f"{OWNER}={self.name}", f"cluster {self.name}")
        place = CACHE / "run" / self.name
        (place / "inventory.yml").unlink(missing_ok=True)


def owned(selector: str) -> list[str]:
    found = output("docker", "ps", "-a", "--filter", f"label={selector}", "--format", "{{.Names}}")
    return found.split()


def remove(selector: str, what: str) -> None:
    if docker_info() is None:
        say(f"down: docker is not running here, so neither is {what}")
        return
    containers = owned(selector)
    if containers:
        run("docker", "rm", "-f", "-v", *containers)
    listed = output("docker", "network", "ls", "-q", "--filter", f"label={selector}").split()
    if listed:
        run("docker", "network", "rm", *listed)
    say(f"down: removed {len(containers)} containers and {len(listed)} networks of {what}")


def down_label(label: str) -> None:
    if docker_info() is not None:
        selector = ("--filter", f"label={LABEL}={label}", "--format", f'{{{{.Label "{OWNER}"}}}}')
        for name in set(output("docker", "ps", "-a", *selector).split()):
            (CACHE / "run" / name / "inventory.yml").unlink(missing_ok=True)
    remove(f"{LABEL}={label}", f"label {label}")


def taken_networks() -> list[ipaddress.IPv4Network]:
    """What this host routes already, and docker's networks, also those without a container."""
    taken = []
    for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        network, mask = (int.from_bytes(bytes.fromhex(fields[i]), "little") for i in (1, 7))
        if mask:
            taken.append(ipaddress.IPv4Network((network, bin(mask).count("1")), strict=False))
    for name in output("docker", "network", "ls", "-q").split():
        shown = run("docker", "network", "inspect", name, check=False)
        if shown.returncode != 0:
            continue  # removed in the meantime
        for part in json.loads(shown.stdout)[0]["IPAM"]["Config"] or []:
            subnet = ipaddress.ip_network(part.get("Subnet", "::/128"), strict=False)
            if isinstance(subnet, ipaddress.IPv4Network):
                taken.append(subnet)
    return taken


def conflist(block: str) -> str:
    """A bridge with host-local addresses from the node's part of the pod network."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": block}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    content = {"cniVersion": "0.4.0", "name": "lab", "plugins": [bridge, portmap]}
    return json.dumps(content, indent=2) + "\n"


def kubeadm_config(name: str, address: str) -> str:
    # The lowered out-of-memory scores need CAP_SYS_RESOURCE, and refuse to start without it.
    score = "" if has_sys_resource() else "oomScoreAdj: 0\n"
    return f"""\
apiVersion: kubeadm.k8s.io/v1beta3
kind: InitConfiguration
localAPIEndpoint:
  advertiseAddress: {address}
nodeRegistration:
  name: node1
  criSocket: /var/run/dockershim.sock
  taints: []
---
apiVersion: kubeadm.k8s.io/v1beta3
kind: ClusterConfiguration
clusterName: {name}
kubernetesVersion: {KUBERNETES}
imageRepository: registry.k8s.io
networking:
  podSubnet: {PODS}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
failSwapOn: false
resolvConf: /etc/kubernetes-resolv.conf
{score}# A full disk of the host evicts nothing here.
evictionHard:
  memory.available: 100Mi
  nodefs.available: 0%
  nodefs.inodesFree: 0%
  imagefs.available: 0%
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
{score}# Without the host's network namespace these limits cannot be written.
conntrack:
  maxPerCore: 0
  min: 0
  tcpEstablishedTimeout: 0s
  tcpCloseWaitTimeout: 0s
"""

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every key of dockerd's daemon.json and every flag of dockerd, and what becomes of each.

One table, docs/daemon-json.md is checked against it. Sources: moby's cmd/dockerd/config*.go (from
29 on daemon/command/config*.go), cmd/dockerd/options.go and daemon/config/, read at v18.06.3,
v18.09.9, v19.03.15, v20.10.27, v23.0.10, v24.0.9, v25.0.6, v26.1.5, v27.5.1, v28.5.2 and master of
August 2026; for the targets containerd docs/cri/config.md and docs/hosts.md, and the
KubeletConfiguration reference.
"""

from __future__ import annotations

import typing as t

TRANSLATED, NOT_NEEDED, NO_EQUIVALENT, UNKNOWN = (
    "translated",
    "not_needed",
    "no_equivalent",
    "unknown",
)


class Key(t.NamedTuple):
    """A key of daemon.json or a flag.

    type: "bool", "int", "str", "list" (of strings), "objects" (a list of anything) or "map";
    dockerd refuses other values. fate: of the key as a whole; daemon_config.py looks at the value,
    and parts of it may have another. flag: its name on the command line, where that is another.
    only: "flag" or "file" where the other is not possible.
    """

    name: str
    type: str
    fate: str
    to: str
    text: str
    remedy: str = ""
    flag: str = ""
    short: str = ""
    only: str = ""


_HOSTS = "hosts.toml of the registry, and buildkitd.toml"
_KUBELET = "kubelet config.yaml: "
_UNIT = "a drop-in of containerd.service, and BuildKit's environment"
_CNI = "The pods' network is CNI's, not docker's bridge"
_SWARM = "Swarm's; Kubernetes has its own"
_TCP = "Belongs to docker's own TCP socket (hosts)"
_OWN = "Concerns the docker daemon alone"
_CONTAINERS_OWN = "Concerns docker's own containers, which stay with docker"

_TABLE = (
    Key("allow-direct-routing", "bool", NOT_NEEDED, "", _CNI),
    Key(
        "allow-nondistributable-artifacts",
        "list",
        NOT_NEEDED,
        "",
        "About pushing, which the kubelet never does; Docker removed it in 28",
    ),
    Key("api-cors-header", "str", NOT_NEEDED, "", _TCP),
    Key("apparmor-profile", "str", NOT_NEEDED, "", _CONTAINERS_OWN),
    Key(
        "authorization-plugins",
        "list",
        NO_EQUIVALENT,
        "",
        "containerd has no authorization plugins: its socket is root's",
        "Say who may do what with RBAC and admission in Kubernetes.",
        flag="authorization-plugin",
    ),
    Key("bip", "str", NOT_NEEDED, "", _CNI),
    Key("bip6", "str", NOT_NEEDED, "", _CNI),
    Key("bridge", "str", NOT_NEEDED, "", _CNI, short="b"),
    Key("bridge-accept-fwmark", "str", NOT_NEEDED, "", _CNI),
    Key(
        "builder",
        "map",
        TRANSLATED,
        "buildkitd.toml: gcpolicy",
        "What docker build's cache may keep becomes BuildKit's bound",
        only="file",
    ),
    Key("cdi-spec-dirs", "list", NOT_NEEDED, "", _CONTAINERS_OWN, flag="cdi-spec-dir"),
    Key("cgroup-parent", "str", NOT_NEEDED, "", "The kubelet sets the cgroup of every pod"),
    Key("cluster-advertise", "str", NOT_NEEDED, "", _SWARM + "; Docker removed it in 23"),
    Key("cluster-store", "str", NOT_NEEDED, "", _SWARM + "; Docker removed it in 23"),
    Key(
        "cluster-store-opts",
        "map",
        NOT_NEEDED,
        "",
        _SWARM + "; Docker removed it in 23",
        flag="cluster-store-opt",
    ),
    Key("config-file", "str", NOT_NEEDED, "", "Says where daemon.json is; it is read", only="flag"),
    Key("containerd", "str", NOT_NEEDED, "", "docker's way to containerd"),
    Key("containerd-namespace", "str", NOT_NEEDED, "", "The kubelet's namespace is k8s.io"),
    Key(
        "containerd-plugin-namespace",
        "str",
        NOT_NEEDED,
        "",
        _OWN,
        only="file",
    ),
    Key("containerd-plugins-namespace", "str", NOT_NEEDED, "", _OWN, only="flag"),
    Key(
        "cpu-rt-period",
        "int",
        NO_EQUIVALENT,
        "",
        "The kubelet gives no real-time CPU time",
        "Run what needs it outside of Kubernetes.",
    ),
    Key(
        "cpu-rt-runtime",
        "int",
        NO_EQUIVALENT,
        "",
        "The kubelet gives no real-time CPU time",
        "Run what needs it outside of Kubernetes.",
    ),
    Key("cri-containerd", "bool", NOT_NEEDED, "", "About the containerd that docker itself starts"),
    Key(
        "data-root",
        "str",
        NOT_NEEDED,
        "",
        "containerd keeps its data in a place of its own, /var/lib/containerd",
        "If that disk is too small: containerd_config_overrides: {root: …}, before the migration.",
    ),
    Key("debug", "bool", NOT_NEEDED, "", _OWN, short="D"),
    Key("default-address-pools", "objects", NOT_NEEDED, "", _CNI, flag="default-address-pool"),
    Key(
        "default-cgroupns-mode",
        "str",
        NOT_NEEDED,
        "",
        "containerd chooses by the node's cgroup version: private with 2, the host's with 1",
    ),
    Key("default-gateway", "str", NOT_NEEDED, "", _CNI),
    Key("default-gateway-v6", "str", NOT_NEEDED, "", _CNI),
    Key(
        "default-init",
        "str",
        NO_EQUIVALENT,
        "",
        "containerd puts no init into containers",
        "Put one into the image, or set shareProcessNamespace in the pod.",
        only="file",
    ),
    Key("default-ipc-mode", "str", NOT_NEEDED, "", "A pod's containers share its IPC namespace"),
    Key("default-network-opts", "map", NOT_NEEDED, "", _CNI, flag="default-network-opt"),
    Key(
        "default-runtime",
        "str",
        TRANSLATED,
        "config.toml: default_runtime_name",
        "Pods without a RuntimeClass run with it, as they did",
    ),
    Key(
        "default-shm-size",
        "str",
        NO_EQUIVALENT,
        "",
        "A pod's /dev/shm has 64 MB",
        "Mount an emptyDir with medium: Memory on /dev/shm in the pods that need more.",
    ),
    Key("default-stop-timeout", "int", NOT_NEEDED, "", "A pod says terminationGracePeriodSeconds"),
    Key(
        "default-ulimits",
        "map",
        NO_EQUIVALENT,
        "",
        "Containers inherit the limits of containerd.service",
        "Set LimitNOFILE= and the like in a drop-in (systemctl edit containerd), or rlimits in a "
        "base_runtime_spec through containerd_config_overrides.",
        flag="default-ulimit",
    ),
    Key("deprecated-key-path", "str", NOT_NEEDED, "", _OWN),
    Key(
        "disable-legacy-registry",
        "bool",
        NOT_NEEDED,
        "",
        "containerd never spoke to v1 registries; Docker removed it in 19.03",
    ),
    Key(
        "dns",
        "list",
        NOT_NEEDED,
        "",
        "The kubelet writes the pods' resolv.conf (clusterDNS, resolvConf); builds use the node's",
    ),
    Key(
        "dns-opts",
        "list",
        NOT_NEEDED,
        "",
        "The kubelet writes the pods' resolv.conf (dnsConfig in the pod); builds use the node's",
        flag="dns-opt",
    ),
    Key(
        "dns-search",
        "list",
        NOT_NEEDED,
        "",
        "The kubelet writes the pods' resolv.conf (clusterDomain); builds use the node's",
    ),
    Key(
        "exec-opts",
        "list",
        TRANSLATED,
        "config.toml: SystemdCgroup",
        "The cgroup driver; the kubelet's counts where the two differ (HC104)",
        flag="exec-opt",
    ),
    Key("exec-root", "str", NOT_NEEDED, "", _OWN),
    Key("experimental", "bool", NOT_NEEDED, "", _OWN),
    Key("features", "map", NOT_NEEDED, "", _OWN, flag="feature"),
    Key("firewall-backend", "str", NOT_NEEDED, "", _CNI),
    Key("fixed-cidr", "str", NOT_NEEDED, "", _CNI),
    Key("fixed-cidr-v6", "str", NOT_NEEDED, "", _CNI),
    Key(
        "graph",
        "str",
        NOT_NEEDED,
        "",
        "The old name of data-root; Docker removed it in 23",
        "If that disk is too small: containerd_config_overrides: {root: …}, before the migration.",
        short="g",
    ),
    Key(
        "group",
        "str",
        NOT_NEEDED,
        "",
        "containerd's socket is root's; who may build is in buildkit_users",
        short="G",
    ),
    Key("help", "bool", NOT_NEEDED, "", _OWN, short="h", only="flag"),
    Key("host-gateway-ip", "str", NOT_NEEDED, "", _CONTAINERS_OWN),
    Key("host-gateway-ips", "list", NOT_NEEDED, "", _CONTAINERS_OWN, flag="host-gateway-ip"),
    Key(
        "hosts",
        "list",
        NO_EQUIVALENT,
        "",
        "containerd has no TCP API; docker's stays until docker is retired",
        "Point what uses it to kubectl, or to buildkitd with TLS for builds.",
        flag="host",
        short="H",
    ),
    Key("http-proxy", "str", TRANSLATED, _UNIT, "HTTP_PROXY", only="flag"),
    Key("https-proxy", "str", TRANSLATED, _UNIT, "HTTPS_PROXY", only="flag"),
    Key("icc", "bool", NOT_NEEDED, "", _CNI + "; NetworkPolicy separates pods"),
    Key(
        "init",
        "bool",
        NO_EQUIVALENT,
        "",
        "containerd puts no init into containers",
        "Put one into the image, or set shareProcessNamespace in the pod.",
    ),
    Key("init-path", "str", NOT_NEEDED, "", _CONTAINERS_OWN),
    Key(
        "insecure-registries",
        "list",
        TRANSLATED,
        _HOSTS,
        "https without verification first, plain http then, as docker does",
        flag="insecure-registry",
    ),
    Key("ip", "str", NOT_NEEDED, "", _CNI),
    Key("ip-forward", "bool", NOT_NEEDED, "", "The role containerd sets net.ipv4.ip_forward"),
    Key("ip-forward-no-drop", "bool", NOT_NEEDED, "", _CNI),
    Key("ip-masq", "bool", NOT_NEEDED, "", _CNI),
    Key("ip6tables", "bool", NOT_NEEDED, "", _CNI),
    Key("iptables", "bool", NOT_NEEDED, "", _CNI),
    Key("ipv6", "bool", NOT_NEEDED, "", _CNI),
    Key("labels", "list", NOT_NEEDED, "", _SWARM + " (kubectl label node)", flag="label"),
    Key(
        "live-restore",
        "bool",
        NOT_NEEDED,
        "",
        "Containers always outlive a restart of containerd",
    ),
    Key(
        "log-driver",
        "str",
        NO_EQUIVALENT,
        "",
        "Under containerd the kubelet has every container's output in files below /var/log/pods, "
        "and nothing is sent anywhere",
        "Let an agent (fluent-bit, Vector, …) read /var/log/containers and send it.",
    ),
    Key("log-format", "str", NOT_NEEDED, "", _OWN),
    Key("log-level", "str", NOT_NEEDED, "", _OWN, short="l"),
    Key(
        "log-opts",
        "map",
        TRANSLATED,
        _KUBELET + "containerLogMaxSize, containerLogMaxFiles",
        "The kubelet rotates the logs of containers under containerd",
        flag="log-opt",
    ),
    Key(
        "max-concurrent-downloads",
        "int",
        TRANSLATED,
        "config.toml: max_concurrent_downloads",
        "Layers at once; docker counts those of all pulls together, containerd those of each image",
    ),
    Key("max-concurrent-uploads", "int", NOT_NEEDED, "", "The kubelet never pushes"),
    Key("max-download-attempts", "int", NOT_NEEDED, "", "The kubelet pulls again by itself"),
    Key(
        "metrics-addr",
        "str",
        NO_EQUIVALENT,
        "",
        "containerd's metrics have other names, and docker keeps the address while it runs",
        "Give containerd an address of its own ([metrics] through containerd_config_overrides) and "
        "change what reads them.",
    ),
    Key("min-api-version", "str", NOT_NEEDED, "", _OWN, only="file"),
    Key("mtu", "int", NOT_NEEDED, "", "CNI sets the MTU of pods; docker's was its bridge's"),
    Key("network-control-plane-mtu", "int", NOT_NEEDED, "", _SWARM),
    Key("network-diagnostic-port", "int", NOT_NEEDED, "", _OWN),
    Key(
        "no-new-privileges",
        "bool",
        NO_EQUIVALENT,
        "",
        "containerd sets it only where a pod asks for it",
        "Set allowPrivilegeEscalation: false in the pods (Pod Security, restricted, enforces it).",
    ),
    Key("no-proxy", "str", TRANSLATED, _UNIT, "NO_PROXY", only="flag"),
    Key(
        "node-generic-resources",
        "list",
        NOT_NEEDED,
        "",
        _SWARM + " (device plugins)",
        flag="node-generic-resource",
    ),
    Key(
        "nri-opts",
        "map",
        NO_EQUIVALENT,
        "",
        "containerd 1.7 and newer has NRI itself, with its own plugins",
        "Set [plugins.'io.containerd.nri.v1.nri'] through containerd_config_overrides.",
    ),
    Key("oom-score-adjust", "int", NOT_NEEDED, "", _OWN),
    Key("pidfile", "str", NOT_NEEDED, "", _OWN, short="p"),
    Key(
        "proxies",
        "map",
        TRANSLATED,
        _UNIT,
        "HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as dockerd 23 and newer sets them for itself",
        only="file",
    ),
    Key("raw-logs", "bool", NOT_NEEDED, "", _OWN),
    Key(
        "registry-mirrors",
        "list",
        TRANSLATED,
        "hosts.toml of docker.io, and buildkitd.toml",
        "Asked first for images of docker.io, as in docker; for no other registry",
        flag="registry-mirror",
    ),
    Key("resolv-conf", "str", NOT_NEEDED, "", _CONTAINERS_OWN, only="file"),
    Key("restart", "bool", NOT_NEEDED, "", _CONTAINERS_OWN, short="r", only="flag"),
    Key(
        "rootless",
        "bool",
        NO_EQUIVALENT,
        "",
        "The kubelet's containerd runs as root",
        "Keep the rootless docker beside it; BuildKit has a rootless mode of its own.",
    ),
    Key(
        "runtimes",
        "map",
        TRANSLATED,
        "config.toml: runtimes",
        "Other OCI runtimes, such as NVIDIA's, for RuntimeClass and default_runtime_name",
        flag="add-runtime",
    ),
    Key(
        "seccomp-profile",
        "str",
        NOT_NEEDED,
        "",
        "Pods say their seccompProfile themselves; dockershim never used docker's default for them",
    ),
    Key(
        "selinux-enabled",
        "bool",
        TRANSLATED,
        "config.toml: enable_selinux",
        "containerd labels containers only with it",
    ),
    Key("shutdown-timeout", "int", NOT_NEEDED, "", _OWN),
    Key(
        "storage-driver",
        "str",
        NOT_NEEDED,
        "",
        "containerd's own snapshotter, overlayfs, does what overlay2 did",
        short="s",
    ),
    Key(
        "storage-opts",
        "list",
        NO_EQUIVALENT,
        "",
        "containerd's overlayfs snapshotter has none of docker's storage options",
        "Limit what pods write with resources.limits.ephemeral-storage.",
        flag="storage-opt",
    ),
    Key("swarm-default-advertise-addr", "str", NOT_NEEDED, "", _SWARM),
    Key("swarm-raft-election-tick", "int", NOT_NEEDED, "", _SWARM, only="file"),
    Key("swarm-raft-heartbeat-tick", "int", NOT_NEEDED, "", _SWARM, only="file"),
    Key("tls", "bool", NOT_NEEDED, "", _TCP),
    Key("tlscacert", "str", NOT_NEEDED, "", _TCP),
    Key("tlscert", "str", NOT_NEEDED, "", _TCP),
    Key("tlskey", "str", NOT_NEEDED, "", _TCP),
    Key("tlsverify", "bool", NOT_NEEDED, "", _TCP),
    Key("userland-proxy", "bool", NOT_NEEDED, "", _CNI),
    Key("userland-proxy-path", "str", NOT_NEEDED, "", _CNI),
    Key(
        "userns-remap",
        "str",
        NO_EQUIVALENT,
        "",
        "containerd runs pods without a user namespace",
        "Look at pods that rely on it, and at the owners of files on volumes; Kubernetes has "
        "hostUsers: false from 1.25 on, with containerd 2.0.",
    ),
    Key("validate", "bool", NOT_NEEDED, "", _OWN, only="flag"),
    Key("version", "bool", NOT_NEEDED, "", _OWN, short="v", only="flag"),
)

KEYS: dict[str, Key] = {key.name: key for key in _TABLE if key.only != "flag"}

#: By the name on the command line, and by the letter.
FLAGS: dict[str, Key] = {
    key.flag or key.name: key
    for key in _TABLE
    # The flag of this name fills host-gateway-ips.
    if key.only != "file" and key.name != "host-gateway-ip"
}

SHORT: dict[str, Key] = {key.short: key for key in _TABLE if key.short}

#: What becomes of docker's logging options where the kubelet writes the files.
LOG_OPTS = {
    "compress": (NOT_NEEDED, "The kubelet compresses rotated files", ""),
    "labels": (
        NO_EQUIVALENT,
        "The kubelet adds nothing to the lines",
        "Log agents add a pod's labels themselves.",
    ),
    "labels-regex": (
        NO_EQUIVALENT,
        "The kubelet adds nothing to the lines",
        "Log agents add a pod's labels themselves.",
    ),
    "env": (
        NO_EQUIVALENT,
        "The kubelet adds nothing to the lines",
        "Log agents add what they know of a pod themselves.",
    ),
    "env-regex": (
        NO_EQUIVALENT,
        "The kubelet adds nothing to the lines",
        "Log agents add what they know of a pod themselves.",
    ),
    "tag": (
        NO_EQUIVALENT,
        "The kubelet adds nothing to the lines",
        "The file's name says pod, namespace and container.",
    ),
    "mode": (
        NO_EQUIVALENT,
        "containerd always waits for the file: a container that writes faster than the disk blocks",
        "Nothing to do where it was blocking, docker's default.",
    ),
    "max-buffer-size": (NOT_NEEDED, "Belongs to mode=non-blocking", ""),
    "cache-disabled": (NOT_NEEDED, "Belongs to drivers that send logs away", ""),
    "cache-max-size": (NOT_NEEDED, "Belongs to drivers that send logs away", ""),
    "cache-max-file": (NOT_NEEDED, "Belongs to drivers that send logs away", ""),
    "cache-compress": (NOT_NEEDED, "Belongs to drivers that send logs away", ""),
}  # type: t.Dict[str, t.Tuple[str, str, str]]

#: docker's drivers that keep logs in files on the node, as the kubelet does.
FILE_LOG_DRIVERS = ("json-file", "local", "")
#: docker's storage drivers that containerd's default, overlayfs, stands for.
OVERLAY_DRIVERS = ("overlay2", "overlay", "aufs", "")

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role buildkit has to do on a node, and what forbids it. A pure function."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.homelab.containerd.plugins.plugin_utils import buildkit_config

Map = Mapping[str, t.Any]

#: What buildkitd's bridge is made with.
CNI_PLUGINS = ("bridge", "firewall", "host-local", "loopback")
#: buildkitd writes this cniVersion, which plugins before 1.0 do not know.
CNI_VERSION = "1.0.0"
#: Values with which a kernel refuses user namespaces to users. One without the file allows them.
KERNEL_REFUSES = {
    "kernel/unprivileged_userns_clone": "0",
    "kernel/apparmor_restrict_unprivileged_userns": "1",
    "user/max_user_namespaces": "0",
}
ADDRESS = r"(?:\[[0-9a-fA-F:.]+\]|[0-9A-Za-z.-]+):([0-9]{1,5})"


class Plan(t.TypedDict):
    problems: list[str]
    #: host, bridge or cni; and why it is the node's own network although the option is auto.
    network: str
    reasons: list[str]
    #: What of the release tarball the node needs, as paths in it.
    programs: list[str]
    #: Whether the tarball is needed; whether anything is to be installed (group and users too).
    download: bool
    install: bool


def decide(options: Map, found: Map) -> Plan:
    """options: __buildkit_options of the role. found: what the module buildkit_info returned."""
    rootless = boolean(options["rootless"])
    network, node_has_cni, reasons = _network(options, found, rootless)
    programs = ["bin/buildctl", "bin/buildkitd"]
    if options["worker"] == "oci":
        # The containerd worker runs its steps through containerd's own runc.
        programs.append("bin/buildkit-runc")
    if network == "bridge" and not node_has_cni:
        programs += ["bin/buildkit-cni-" + plugin for plugin in CNI_PLUGINS]
    download = found["record"] != options["record"] or any(
        program.rpartition("/")[2] not in found["programs"] for program in programs
    )
    members = found["group_members"]
    return {
        "problems": _problems(options, found, rootless, network, reasons),
        "network": network,
        "reasons": reasons if options["network_mode"] == "auto" else [],
        "programs": programs,
        "download": download,
        "install": download
        or not found["configuration_directory"]
        or members is None
        or not set(options["users"]) <= set(members),
    }


def _network(options: Map, found: Map, rootless: bool) -> tuple[str, bool, list[str]]:
    """The network of RUN steps, whether the node's CNI plugins do, and what is against a bridge."""
    mode = options["network_mode"]
    if rootless:
        return "host", False, []
    if mode not in ("auto", "bridge"):
        return mode, False, []
    missing = [p for p in CNI_PLUGINS if CNI_VERSION not in found["cni_versions"].get(p, [])]
    # A route into the subnet, or one that covers it and is not the default: another network.
    taken = [r for r in found["routes"] if not re.match(r"default|.* dev buildkit0( |$)", r)]
    reasons = []
    if missing:
        reasons.append(
            f"no CNI plugins of 1.0 or newer in {options['cni_bin_dir']} ({', '.join(missing)})"
        )
    if not found["iptables"]:
        reasons.append("no iptables")
    if taken:
        reasons.append(f"a route in the way of buildkit_subnet {options['subnet']} ({taken[0]})")
    # buildkitd leaves out name servers on the loopback.
    if not options["dns"] and all(re.match(r"127\.|::1", s) for s in found["name_servers"]):
        reasons.append(
            "no name server in /etc/resolv.conf that is not on the loopback (see buildkit_dns)"
        )
    if mode == "auto":
        mode = "host" if reasons else "bridge"
    return mode, not missing, reasons


def _problems(
    options: Map, found: Map, rootless: bool, network: str, reasons: list[str]
) -> list[str]:
    problems = []
    architectures = options["architectures"]
    if options["architecture"] not in architectures.values():
        problems.append(
            f"This role installs BuildKit on {' and '.join(architectures)}; this node is "
            f"{options['machine']}. Leave it out of the play (hosts), or build on another node."
        )
    elif not re.fullmatch(r"sha256:[0-9a-f]{64}", options["checksum"]):
        release = f"v{options['version']}"
        problems.append(
            f"buildkit_checksum has no usable checksum for {options['architecture']} (found: "
            f'"{options["checksum"]}"). Set it to sha256:<64 hex digits> of {options["url"]}, or '
            f"to a dictionary with one for each of {' and '.join(architectures.values())}. "
            "GitHub shows it as the digest of that asset at "
            f"https://github.com/moby/buildkit/releases/tag/{release} (gh release view -R "
            f"moby/buildkit {release} --json assets), and the release's .provenance.json names it "
            "as its subject."
        )
    if not buildkit_config.supports(options["version"], "oldest"):
        oldest = ".".join(map(str, buildkit_config.VERSIONS["oldest"].version))
        problems.append(
            f'buildkit_version is "{options["version"]}", and has to be {oldest} or newer, written '
            "without a leading v. Older ones do not understand what this role writes into "
            "buildkitd.toml."
        )
    for registry in options["registries"]:
        if not re.fullmatch(r"[^/\s]+", str(registry["host"])):
            problems.append(
                f'buildkit_registries has the host "{registry["host"]}". BuildKit knows registries '
                "by name[:port] only, not by URL and not by network: name each registry of a "
                "network."
            )
    if rootless:
        problems += _rootless_problems(options, found)
    problems += _tcp_problems(options, found)
    blocking = [reason for reason in reasons if re.search("route|iptables", reason)]
    if options["network_mode"] == network == "bridge" and blocking:
        problems.append(
            f"buildkit_network_mode is bridge, and there is {', and '.join(blocking)}. Set "
            "buildkit_subnet to a network that is free, install iptables, or set "
            "buildkit_network_mode to host."
        )
    return problems


def _rootless_problems(options: Map, found: Map) -> list[str]:
    problems = []
    if options["worker"] != "oci" or options["network_mode"] not in ("auto", "host"):
        problems.append(
            "buildkit_rootless is true, so buildkit_worker has to be oci (it is "
            f"{options['worker']}: containerd's socket is root's) and buildkit_network_mode auto "
            f"or host (it is {options['network_mode']}: rootlesskit gives the builds a network of "
            "their own)."
        )
    for path, refused in KERNEL_REFUSES.items():
        if found["kernel"].get(path) == refused:
            problems.append(
                "buildkit_rootless is true, and this kernel forbids user namespaces to those who "
                f"are not root: /proc/sys/{path} is {refused}. Change it (a file in /etc/sysctl.d; "
                "on Ubuntu 24.04 an AppArmor profile for rootlesskit is the narrower way), or set "
                "buildkit_rootless to false."
            )
    return problems


def _tcp_problems(options: Map, found: Map) -> list[str]:
    """Whoever reaches buildkitd is root on the node: a TCP port is never without certificates."""
    problems = []
    address = options["tcp_address"]
    if address and not boolean(options["tls"]):
        problems.append(
            f'buildkit_tcp_address is "{address}" and buildkit_tls is false. Whoever reaches a '
            "plain TCP port of buildkitd becomes root on this node, so there is none: leave "
            "buildkit_tls true (the role makes the certificates), or leave buildkit_tcp_address "
            "empty and use the socket, through ssh from elsewhere."
        )
    elif address:
        parsed = re.fullmatch("(?:tcp://)?" + ADDRESS, address)
        if not parsed or not 0 < int(parsed[1]) < 65536:
            problems.append(
                f'buildkit_tcp_address is "{address}". It has to be ADDRESS:PORT, such as '
                "0.0.0.0:1234."
            )
    # Our buildkitd.toml has no such address; a drop-in of somebody else's might.
    plain = re.search(r"--addr[= ]tcp://[^ ;]+", found["command_line"])
    if plain and "--tlscacert" not in found["command_line"]:
        problems.append(
            f'A drop-in of buildkit.service starts buildkitd with "{plain[0]}" and without '
            "--tlscacert: whoever reaches that port becomes root on this node. Remove the address "
            "from there (systemctl cat buildkit.service names the file) and set "
            "buildkit_tcp_address instead."
        )
    return problems

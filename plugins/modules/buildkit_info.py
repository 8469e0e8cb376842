#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: buildkit_info
short_description: Look at BuildKit on a node, and at what it needs there
version_added: "0.2.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Returns which parts of BuildKit are installed, and what the role buildkit needs to know about
    the node. It changes nothing.
extends_documentation_fragment:
  - homelab.containerd.attributes.info
options:
  record:
    description: The file in which the role records the installed version.
    type: path
    required: true
  images_list:
    description: The file with the list of images to protect.
    type: path
    required: true
  group:
    description: The group whose members may build.
    type: str
    default: buildkit
  cni_bin_dir:
    description: The directory of the node's CNI plugins.
    type: path
    default: /opt/cni/bin
  subnet:
    description: The network of the builds, to find routes that conflict with it.
    type: str
    default: 10.10.0.0/16
"""

EXAMPLES = r"""
- name: Look at BuildKit
  homelab.containerd.buildkit_info:
    record: /var/lib/homelab-containerd/buildkit.installed
    images_list: /var/lib/homelab-containerd/keep-images/buildkit
  register: builder

- name: Show which of its programs are installed
  ansible.builtin.debug:
    msg: "{{ builder.buildkit_info.programs }}"
"""

RETURN = r"""
buildkit_info:
  description: What was found.
  returned: always
  type: dict
  contains:
    programs:
      description: BuildKit's programs in /usr/local/bin.
      type: list
      elements: str
    record:
      description: The text of O(record). Empty if the file does not exist.
      type: str
    images_list:
      description: Whether O(images_list) exists.
      type: bool
    units:
      description: BuildKit's units in /etc/systemd/system.
      type: list
      elements: str
    active:
      description: Whether buildkit.service runs.
      type: bool
    newer_files:
      description:
        - Configuration files, units, environment files and programs of BuildKit that are newer than
          its process, so that it has to be restarted to read them.
      type: list
      elements: str
    command_line:
      description: The command line with which systemd starts buildkit.service, drop-ins included.
      type: str
    configuration_directory:
      description: Whether /etc/buildkit exists.
      type: bool
    certificate_directory:
      description: Whether /etc/buildkit/tls exists.
      type: bool
    group_members:
      description: The members of O(group). V(null) if the group does not exist.
      type: list
      elements: str
    docker_certificates:
      description: Docker's directories of certificates, one for each registry.
      type: list
      elements: str
    cni_versions:
      description: The CNI versions that each plugin in O(cni_bin_dir) supports.
      type: dict
    iptables:
      description: Whether the node has iptables.
      type: bool
    routes:
      description: The routes into O(subnet), and those that cover it.
      type: list
      elements: str
    name_servers:
      description: The name servers of /etc/resolv.conf, and those behind systemd-resolved.
      type: list
      elements: str
    kernel:
      description: The sysctls that can forbid user namespaces, if the kernel has them.
      type: dict
"""

import glob
import grp
import os
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._facts import cni
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    files,
    sanitize,
    services,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host

PROGRAMS = ("buildctl", "buildkitd", "buildkit-runc", "buildkit-cni-*")
UNITS = "/etc/systemd/system"
CONFIGURATION = "/etc/buildkit"
CNI_PLUGINS = ("bridge", "firewall", "host-local", "loopback")
#: Only some kernels and distributions have them.
SYSCTLS = (
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
    "user/max_user_namespaces",
)


def names(pattern: str) -> t.List[str]:
    return sorted(os.path.basename(path) for path in glob.glob(pattern))


def output(*words: str) -> str:
    return commands.run(words, timeout=10, check=False).stdout


def group_members(group: str) -> t.Optional[t.List[str]]:
    try:
        return list(grp.getgrnam(group).gr_mem)
    except KeyError:
        return None


def name_servers() -> t.List[str]:
    """For systemd-resolved's own address buildkitd takes those behind it."""
    text = files.read_text("/etc/resolv.conf") or ""
    if re.search(r"(?m)^nameserver\s+127\.0\.0\.53", text):
        text += "\n" + (files.read_text("/run/systemd/resolve/resolv.conf") or "")
    return re.findall(r"(?m)^nameserver\s+(\S+)", text)


def newer_files(host: Host) -> t.List[str]:
    read = [
        os.path.join(top, name) for top, _dirs, found in os.walk(CONFIGURATION) for name in found
    ]
    # With rootlesskit the unit's own program is another one.
    return services.newer_files(host, "buildkit.service", read + ["/usr/local/bin/buildkitd"])


def look(options: t.Mapping[str, str]) -> t.Dict[str, t.Any]:
    kernel = {path: files.read_text("/proc/sys/" + path) for path in SYSCTLS}
    routes = [
        line
        for how in ("root", "match")
        for line in output("ip", "-4", "route", "show", how, options["subnet"]).splitlines()
    ]
    return {
        "programs": [name for pattern in PROGRAMS for name in names("/usr/local/bin/" + pattern)],
        "record": files.read_text(options["record"]) or "",
        "images_list": os.path.exists(options["images_list"]),
        "units": names(UNITS + "/buildkit.service") + names(UNITS + "/buildkit.socket"),
        "active": commands.unit_active("buildkit.service"),
        "newer_files": newer_files(Host()),
        "command_line": sanitize.blank_text(
            output("systemctl", "show", "--property=ExecStart", "--value", "buildkit.service")
        ).strip(),
        "configuration_directory": os.path.isdir(CONFIGURATION),
        "certificate_directory": os.path.isdir(CONFIGURATION + "/tls"),
        "group_members": group_members(options["group"]),
        "docker_certificates": sorted(
            path.rstrip("/") for path in glob.glob("/etc/docker/certs.d/*/")
        ),
        "cni_versions": {
            plugin: cni.supported_versions(os.path.join(options["cni_bin_dir"], plugin))
            for plugin in CNI_PLUGINS
        },
        "iptables": commands.run(["sh", "-c", "command -v iptables"], check=False).returncode == 0,
        "routes": routes,
        "name_servers": name_servers(),
        "kernel": {path: text.strip() for path, text in kernel.items() if text is not None},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "record": {"type": "path", "required": True},
            "images_list": {"type": "path", "required": True},
            "group": {"type": "str", "default": "buildkit"},
            "cni_bin_dir": {"type": "path", "default": "/opt/cni/bin"},
            "subnet": {"type": "str", "default": "10.10.0.0/16"},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, buildkit_info=look(module.params))


if __name__ == "__main__":
    main()

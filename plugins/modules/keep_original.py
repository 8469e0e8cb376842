#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: keep_original
short_description: Keep a copy of files before they are written for the first time
version_added: "0.2.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Copies each file with its mode and owner to O(directory), below its own path there. An empty
    file with the ending C(.none) says that there was none.
  - What was kept is not kept again, because a later file is one that this collection wrote.
extends_documentation_fragment:
  - homelab.containerd.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  path:
    description: The files.
    type: list
    elements: path
    default: []
  archive:
    description: A tar archive on the node. The files that unpacking it would replace are kept too.
    type: path
  destination:
    description: The directory that O(archive) will be unpacked to.
    type: path
  directory:
    description: The directory of the copies.
    type: path
    default: /var/lib/homelab-containerd/original
"""

EXAMPLES = r"""
- name: Keep the original file
  homelab.containerd.keep_original:
    path: [/etc/crictl.yaml]

- name: Put it back
  ansible.builtin.copy:
    src: /var/lib/homelab-containerd/original/etc/crictl.yaml
    dest: /etc/crictl.yaml
    remote_src: true
    mode: preserve
"""

RETURN = r"""
kept:
  description: The files that were kept now.
  returned: always
  type: list
  elements: str
"""

import os
import tarfile
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    originals,
    paths,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host


def unpacked(archive: str, destination: str) -> t.List[str]:
    """The files that unpacking an archive would write."""
    with tarfile.open(archive) as stream:
        names = [member.name for member in stream if not member.isdir()]
    return [os.path.normpath(os.path.join(destination, name)) for name in names]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "list", "elements": "path", "default": []},
            "archive": {"type": "path"},
            "destination": {"type": "path"},
            "directory": {"type": "path", "default": paths.ORIGINALS},
        },
        required_together=[("archive", "destination")],
        supports_check_mode=True,
    )
    params, host = module.params, Host()
    wanted = list(params["path"])
    try:
        # Check mode downloads nothing.
        if params["archive"] and (os.path.exists(params["archive"]) or not module.check_mode):
            wanted += unpacked(params["archive"], params["destination"])
        new = originals.missing(host, wanted, params["directory"])
        if not module.check_mode:
            for path in new:
                originals.keep(host, path, params["directory"])
    except (commands.NodeError, OSError, tarfile.TarError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=bool(new), kept=new)


if __name__ == "__main__":
    main()

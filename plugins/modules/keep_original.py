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
  - Copies each file with its mode and owner to C(/var/lib/homelab-containerd/original), below its
    own path there. An empty file with the ending C(.none) says that there was none.
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
    required: true
"""

EXAMPLES = r"""
- name: Keep the original file
  homelab.containerd.keep_original:
    path: [/etc/crictl.yaml]
"""

RETURN = r"""
kept:
  description: The files that were kept now.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._host import originals
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host


def main() -> None:
    module = AnsibleModule(
        argument_spec={"path": {"type": "list", "elements": "path", "required": True}},
        supports_check_mode=True,
    )
    host = Host()
    new = [path for path in module.params["path"] if not originals.is_kept(host, path)]
    for path in new:
        if not module.check_mode:
            try:
                originals.keep(host, path)
            except OSError as exc:
                module.fail_json(
                    msg="%s: its original could not be kept in %s, so it was not changed: %s"
                    % (path, originals.original(path), exc)
                )
    module.exit_json(changed=bool(new), kept=new)


if __name__ == "__main__":
    main()

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.homelab.containerd.plugins.modules import buildkit_info


def test_what_the_cni_plugins_support(tmp_path):
    answers = {
        # As the plugins of 1.0 answer, and those before.
        "bridge": '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}',
        "firewall": '{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}',
        "loopback": "no JSON",
    }
    for name, answer in answers.items():
        plugin = tmp_path / name
        plugin.write_text(f"#!/bin/sh\n[ $CNI_COMMAND = VERSION ] && echo '{answer}'\n")
        plugin.chmod(0o755)
    assert buildkit_info.cni_versions(str(tmp_path)) == {
        "bridge": ["0.4.0", "1.0.0"],
        "firewall": ["0.3.1", "0.4.0"],
    }

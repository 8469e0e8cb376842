# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

from ansible_collections.homelab.containerd.plugins.module_utils._host import originals, paths
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host

CRICTL = "/etc/crictl.yaml"


def kept(host):
    return host.read_text(originals.original(CRICTL))


def test_the_first_one_is_kept_with_its_mode(tmp_path):
    host = Host(str(tmp_path))
    host.write_text(CRICTL, "the owner's", mode=0o600)
    originals.keep(host, CRICTL)
    host.write_text(CRICTL, "ours", mode=0o644)
    originals.keep(host, CRICTL)
    assert kept(host) == "the owner's"
    assert os.stat(host.path(originals.original(CRICTL))).st_mode & 0o777 == 0o600
    assert os.stat(host.path(paths.ORIGINALS)).st_mode & 0o777 == 0o700


def test_a_file_that_only_we_have_written_is_never_taken_for_the_owners(tmp_path):
    host = Host(str(tmp_path))
    originals.keep(host, CRICTL)
    host.write_text(CRICTL, "ours")
    originals.keep(host, CRICTL)
    assert kept(host) is None and originals.is_kept(host, CRICTL)


def test_what_a_link_leads_to_is_kept(tmp_path):
    host = Host(str(tmp_path))
    host.write_text("/srv/crictl.yaml", "the owner's")
    os.makedirs(host.path("/etc"))
    os.symlink(host.path("/srv/crictl.yaml"), host.path(CRICTL))
    originals.keep(host, CRICTL)
    assert kept(host) == "the owner's"

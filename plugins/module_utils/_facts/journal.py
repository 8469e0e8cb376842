# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an earlier switch left behind."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import files, paths
from ansible_collections.homelab.containerd.plugins.module_utils._host.flags import flag_values
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import kubelet_flags


def journal_facts() -> t.Optional[t.Dict[str, t.Any]]:
    """What an earlier switch wrote, with the flags that the kubelet had before it."""
    try:
        journal = json.loads(files.read_text(paths.JOURNAL) or "null")
        if not journal:
            return None
        before = (journal.get("files_before") or {}).get(paths.KUBEADM_FLAGS[0])
        words, _error = kubelet_flags.read_env(before or "", paths.KUBEADM_FLAGS[1])
        return {
            "direction": journal["direction"],
            "state": journal["state"],
            "flags_before": flag_values(words),
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None

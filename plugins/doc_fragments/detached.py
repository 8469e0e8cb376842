# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """For modules that run detached on the node; an action plugin shows their progress."""

    DOCUMENTATION = r"""
options:
  progress_file:
    description: The file to write progress to. The action plugin sets it.
    type: path
  started_by:
    description: The user and the controller that started it, for who meets it on the node. The
      action plugin sets it.
    type: str
notes:
  - It runs detached on the node, and continues when the connection is lost. The controller shows
    its progress while it runs.
"""

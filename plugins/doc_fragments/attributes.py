# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What each module documents about check mode and diff mode; it adds support and details."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: Can run in check mode and report what it would change, without changing it.
  diff_mode:
    description: Shows in diff mode what it changes or would change.
"""

    #: For modules that change nothing.
    INFO = r"""
attributes:
  check_mode:
    description: Can run in check mode and report what it would change, without changing it.
    support: full
    details: It changes nothing, so check mode is the same.
  diff_mode:
    description: Shows in diff mode what it changes or would change.
    support: none
    details: It changes nothing, so there is nothing to show.
"""

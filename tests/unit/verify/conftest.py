# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The folder verify/ is no package: its modules import each other by their bare names."""

from __future__ import annotations

import sys

from support import ROOT

sys.path.append(str(ROOT / "verify"))

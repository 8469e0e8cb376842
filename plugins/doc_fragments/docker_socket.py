# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """For modules that connect to docker."""

    DOCUMENTATION = r"""
options:
  docker_socket:
    description: The docker engine's unix socket.
    type: path
    default: /var/run/docker.sock
"""

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where things are on a node: each path has its one place here."""

from __future__ import annotations

#: Where the collection keeps what only it reads.
STATE_DIR = "/var/lib/homelab-containerd"
#: What switch_runtime did or was doing on this node.
JOURNAL = STATE_DIR + "/switch.json"
#: Below it, under their own paths, the owner's files as they were before we wrote them.
ORIGINALS = STATE_DIR + "/original"
#: In memory, gone with a reboot: progress, mounts.
RUN_DIR = "/run/homelab-containerd"

#: The kubelet's flag files, each with the variable in it (kubeadm's drop-in 10-kubeadm.conf).
KUBEADM_FLAGS = ("/var/lib/kubelet/kubeadm-flags.env", "KUBELET_KUBEADM_ARGS")
EXTRA_ARGS = (
    ("/etc/default/kubelet", "KUBELET_EXTRA_ARGS"),
    ("/etc/sysconfig/kubelet", "KUBELET_EXTRA_ARGS"),
)
#: Unless its command line names another one.
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
MANIFESTS = "/etc/kubernetes/manifests"
ADMIN_CONF = "/etc/kubernetes/admin.conf"
KUBELET_CONF = "/etc/kubernetes/kubelet.conf"

CONTAINERD_CONFIG = "/etc/containerd/config.toml"

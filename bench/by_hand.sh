#!/bin/bash
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# "Changing the Container Runtime on a Node from Docker Engine to containerd", from Kubernetes'
# documentation, as somebody runs it who has prepared every command: nothing waits for a person.
# Left out: the drain (a single node has nowhere to drain to), and installing containerd (docker
# runs on it). Added, because the cluster needs it: the cgroup driver, the pause image, and
# docker.socket where BY_HAND_UNITS names it (the documentation does not).
set -euo pipefail
# shellcheck disable=SC2206 # a list of units
units=(${BY_HAND_UNITS:-docker.service})
flags=/var/lib/kubelet/kubeadm-flags.env
pause=$(grep -o 'pod-infra-container-image=[^ "]*' "$flags" | cut -d= -f2)

systemctl stop kubelet
systemctl disable --now "${units[@]}"

mkdir -p /etc/containerd
containerd config default >/etc/containerd/config.toml
sed -i -e 's/SystemdCgroup = false/SystemdCgroup = true/' \
  -e "s|sandbox_image = .*|sandbox_image = \"$pause\"|" /etc/containerd/config.toml
systemctl restart containerd

sed -i -e 's/--network-plugin=[^ "]* *//' \
  -e 's|"$| --container-runtime=remote --container-runtime-endpoint=unix:///run/containerd/containerd.sock"|' \
  "$flags"
systemctl start kubelet

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which kubelet, containerd and CRI versions work together: one table, with its sources.

Versions are tuples of integers, as parse_version() gives them.
"""

from __future__ import annotations

import re
import typing as t

Version = t.Tuple[int, ...]
#: The kubelets and containerds whose rules are known here; anything else is a blocker.
KUBELET_KNOWN = ((1, 18), (1, 37))
CONTAINERD_KNOWN = ((1, 4), (2, 4))
#: dockershim left the kubelet in 1.24 (kubernetes/kubernetes#97252, CHANGELOG-1.24).
DOCKERSHIM_UNTIL = (1, 23)
#: The kubelet speaks CRI v1 from 1.23 (with v1alpha2 as a fall-back) and only v1 from 1.26
#: (kubernetes/kubernetes#110618).
KUBELET_CRI_V1_FROM = (1, 23)
KUBELET_CRI_V1_ONLY_FROM = (1, 26)
#: containerd serves CRI v1 from 1.6, and v1alpha2 up to 1.7 (docs/containerd-2.0.md).
CONTAINERD_CRI_V1_FROM = (1, 6)
CONTAINERD_CRI_V1ALPHA2_UNTIL = (1, 7)
#: Kubernetes can run on a host with cgroup v2 alone from 1.19 on (kubernetes/kubernetes#85218;
#: stable in 1.25), containerd from 1.4 on (its release notes).
KUBELET_CGROUP_V2_FROM = (1, 19)
#: From 1.35 on the kubelet refuses cgroup v1 unless failCgroupV1 is false in its configuration
#: (kubernetes/kubernetes#134298).
KUBELET_REFUSES_CGROUP_V1_FROM = (1, 35)
#: --container-runtime=remote is needed up to 1.23, deprecated in 1.24 and gone in 1.27
#: (CHANGELOG-1.27, "Removed the --container-runtime command line argument").
CONTAINER_RUNTIME_FLAG_UNTIL = (1, 23)
#: kubeadm's ConfigMap is called kubelet-config-X.YY up to 1.23 (CHANGELOG-1.24,
#: "UnversionedKubeletConfigMap").
VERSIONED_CONFIGMAP_UNTIL = (1, 23)
#: These containerds cannot remove networks whose configuration has no cniVersion, or an old one,
#: unless the plugins know CNI 1.0.0 (Kubernetes, "Troubleshooting CNI plugin-related errors").
CONTAINERD_CNI_BROKEN = ((1, 6, 0), (1, 6, 3))

#: kubectl drain --delete-emptydir-data is --delete-local-data up to 1.19 (CHANGELOG-1.20).
DELETE_LOCAL_DATA_UNTIL = (1, 19)

#: Kubernetes minor to the containerd releases, one per line of release, that containerd names
#: as the oldest for it (containerd RELEASES.md, "Kubernetes Support").
CONTAINERD_MINIMUM = {
    (1, 26): [(1, 6, 15)],
    (1, 32): [(1, 7, 24)],
    (1, 33): [(1, 7, 24)],
    (1, 34): [(1, 7, 28), (2, 0, 6), (2, 1, 3)],
    (1, 35): [(1, 7, 28), (2, 1, 5), (2, 2, 0)],
    (1, 36): [(2, 2, 0), (2, 3, 0)],
}  # type: t.Dict[Version, t.List[Version]]

#: The kubelet leaves pinned images from 1.29 on (kubernetes/kubernetes#119986; also the last
#: patch releases of 1.25 to 1.28, which are not told apart here). No kubelet with dockershim does.
KUBELET_SUPPORTS_IMAGE_PINNING_FROM = (1, 29)


def parse_version(text: t.Optional[str]) -> t.Optional[Version]:
    """ "v1.23.17", "1.6.20~ds1", "containerd github.com/… 1.7.24" to (1, 23, 17) and so on."""
    match = re.search(r"(?<![\w.])v?(\d+)\.(\d+)(?:\.(\d+))?", text or "")
    return tuple(int(part or 0) for part in match.groups()) if match else None


def show(version: Version) -> str:
    return ".".join(str(part) for part in version)


def config_version(containerd: Version) -> int:
    """The version of config.toml that this containerd writes itself (RELEASES.md)."""
    if containerd[:2] >= (2, 3):
        return 4
    return 3 if containerd[0] >= 2 else 2


def pair_problem(kubelet: Version, containerd: Version) -> t.Optional[str]:
    """Why this kubelet cannot run on this containerd, or None."""
    k, c = kubelet[:2], containerd[:2]
    names = "kubelet %s and containerd %s" % (show(kubelet), show(containerd))
    if not KUBELET_KNOWN[0] <= k <= KUBELET_KNOWN[1]:
        return "%s: only kubelets %s to %s are known" % (
            names,
            show(KUBELET_KNOWN[0]),
            show(KUBELET_KNOWN[1]),
        )
    if not CONTAINERD_KNOWN[0] <= c <= CONTAINERD_KNOWN[1]:
        return "%s: only containerd %s to %s is known" % (
            names,
            show(CONTAINERD_KNOWN[0]),
            show(CONTAINERD_KNOWN[1]),
        )
    if cri(kubelet, containerd) is None:
        if k < KUBELET_CRI_V1_FROM:
            why = "this kubelet speaks only CRI v1alpha2, which containerd dropped in 2.0"
        else:
            why = "this kubelet speaks only CRI v1, which containerd has from 1.6"
        return "%s: %s" % (names, why)
    return _below_minimum(names, k, containerd)


def cri(kubelet: Version, containerd: Version) -> t.Optional[str]:
    """The CRI that the two speak with each other: "v1", "v1alpha2" or None."""
    k, c = kubelet[:2], containerd[:2]
    if k >= KUBELET_CRI_V1_FROM and c >= CONTAINERD_CRI_V1_FROM:
        return "v1"
    if k < KUBELET_CRI_V1_ONLY_FROM and c <= CONTAINERD_CRI_V1ALPHA2_UNTIL:
        return "v1alpha2"
    return None


def cgroup_problem(
    kubelet: Version, cgroup_version: int, fail_cgroup_v1: t.Optional[bool] = None
) -> t.Optional[str]:
    """Why this kubelet does not start on a host with this cgroup version, or None.

    fail_cgroup_v1: failCgroupV1 in the kubelet's configuration, None where it is not there.
    """
    k = kubelet[:2]
    if cgroup_version == 2 and k < KUBELET_CGROUP_V2_FROM:
        return "kubelet %s does not know cgroup v2, which %s brought" % (
            show(kubelet),
            show(KUBELET_CGROUP_V2_FROM),
        )
    if cgroup_version == 1 and k >= KUBELET_REFUSES_CGROUP_V1_FROM and fail_cgroup_v1 is not False:
        return "kubelet %s refuses cgroup v1 unless failCgroupV1 is false" % show(kubelet)
    return None


def has_dockershim(kubelet: Version) -> bool:
    return kubelet[:2] <= DOCKERSHIM_UNTIL


def supports_image_pinning(kubelet: Version) -> bool:
    """Whether its garbage collection leaves pinned images."""
    return kubelet[:2] >= KUBELET_SUPPORTS_IMAGE_PINNING_FROM


def needs_runtime_flag(kubelet: Version) -> bool:
    """Whether it needs --container-runtime=remote besides the endpoint."""
    return kubelet[:2] <= CONTAINER_RUNTIME_FLAG_UNTIL


def drain_arguments(arguments: t.Sequence[str], kubectl: Version) -> t.List[str]:
    """Arguments of kubectl drain, as a kubectl of this version calls them."""
    if kubectl[:2] > DELETE_LOCAL_DATA_UNTIL:
        return list(arguments)
    renamed = {"--delete-emptydir-data": "--delete-local-data"}
    return [renamed.get(argument, argument) for argument in arguments]


def kubelet_configmap(kubelet: Version) -> str:
    """The name of kubeadm's ConfigMap with the kubelet's configuration."""
    if kubelet[:2] <= VERSIONED_CONFIGMAP_UNTIL:
        return "kubelet-config-%d.%d" % kubelet[:2]
    return "kubelet-config"


def cni_problem(
    containerd: Version, cni_version: t.Optional[str], plugins_support: t.Sequence[str]
) -> t.Optional[str]:
    """Why pods would not get or lose their network with this containerd, or None.

    cni_version: cniVersion of a network configuration. plugins_support: what the loopback plugin
    prints for VERSION.
    """
    oldest, newest = CONTAINERD_CNI_BROKEN
    if not oldest <= containerd[:3] <= newest or "1.0.0" in plugins_support:
        return None
    return "containerd %s does not get along with a CNI configuration of version %s" % (
        show(containerd),
        cni_version or "unknown",
    )


def _below_minimum(names: str, kubelet: Version, containerd: Version) -> t.Optional[str]:
    applicable = [minor for minor in CONTAINERD_MINIMUM if minor <= kubelet]
    if not applicable:
        return None
    oldest = CONTAINERD_MINIMUM[max(applicable)]
    same_line = [minimum for minimum in oldest if minimum[:2] == containerd[:2]]
    enough = containerd >= same_line[0] if same_line else containerd[:2] > max(oldest)[:2]
    if enough:
        return None
    return "%s: containerd's own table asks for at least %s" % (
        names,
        " or ".join(show(minimum) for minimum in oldest),
    )

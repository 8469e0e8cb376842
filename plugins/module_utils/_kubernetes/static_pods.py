# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep a node's own etcd and API server on docker until everything else runs on containerd.

On the only control plane an ordinary switch takes the API away first, and then nothing can be
Ready nor any pod be started before both are up again on the new runtime. Kept till last, the
kubelet finds its API when it starts, and the API is away only while these two change over.

Two things have to be hidden from the new kubelet for that time: the manifests of the two (it
would start them a second time), and their processes (it kills what it finds in the cgroups of
pods that it does not know). Neither leaves anything behind: the manifests are masked by a bind
mount, which goes with a reboot, and the cgroup goes with the processes.
"""

from __future__ import annotations

import os
import shutil
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, paths
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import pods

#: What the manifests' directory is masked with.
MASK = paths.RUN_DIR + "/manifests"
CGROUPS = "/sys/fs/cgroup"
CGROUP = "homelab-containerd-last"
KEPT = ("etcd", "kube-apiserver")
#: A kubelet must not be started with masked manifests for one umount that failed.
UNMASK_TRIES = 3


def manifests_masked(host: Host) -> bool:
    """Whether the manifests are masked (also by a run that was interrupted)."""
    # The mount table has no symbolic links, and no root of ours.
    target = os.path.realpath(host.path(paths.MANIFESTS))
    target = target[len(os.path.realpath(host.root)) :] if host.root else target
    rows = [line.split() for line in (host.read_text("/proc/self/mountinfo") or "").splitlines()]
    # proc(5): the fourth field is the root within the file system, the fifth where it is mounted.
    ours = MASK.replace("/run", "", 1)
    return any(row[4] == target and row[3].endswith(ours) for row in rows if row)


def has_api_server(host: Host) -> bool:
    """Whether this node runs an API server of its own, also while its manifest is masked."""
    return manifests_masked(host) or host.exists(paths.MANIFESTS + "/kube-apiserver.yaml")


def unmask_manifests(host: Host) -> None:
    failed = 0
    while manifests_masked(host):
        # Lazily, or somebody's shell in that directory keeps it.
        try:
            host.run(["umount", "--lazy", paths.MANIFESTS])
        except commands.NodeError:
            failed += 1
            if failed == UNMASK_TRIES:
                raise


def mask_manifests(host: Host) -> t.Dict[str, str]:
    """Show the kubelet all manifests but those of KEPT, which are returned: path to text."""
    mask = host.path(MASK)
    shutil.rmtree(mask, ignore_errors=True)
    os.makedirs(mask, mode=0o700)
    hidden = {}
    for name in os.listdir(host.path(paths.MANIFESTS)):
        path = os.path.join(paths.MANIFESTS, name)
        if name in [service + ".yaml" for service in KEPT]:
            hidden[path] = host.read_text(path) or ""
        elif os.path.isfile(host.path(path)):
            shutil.copy2(host.path(path), mask)
    host.run(["mount", "--bind", MASK, paths.MANIFESTS])
    return hidden


def restore_manifests(host: Host, hidden: t.Dict[str, str]) -> None:
    """Put them into the masking directory: the kubelet sees them and starts them at once.

    That is in memory, like the mask. The manifests themselves were never touched: they are what a
    node that reboots in between has, because the mount is gone then, and the copies with it.
    """
    for path, text in hidden.items():
        # In one step, so that the kubelet never reads half of one.
        host.write_text(path, text, mode=0o600)


def move_out_of_kubepods(host: Host, pid: int) -> None:
    """Move a process out of the kubelet's cgroups, in every hierarchy (cgroups(7)).

    Raises OSError where a hierarchy does not let it go; what moved by then does no harm.
    """
    for line in (host.read_text("/proc/%d/cgroup" % pid) or "").splitlines():
        _number, controllers, path = line.split(":", 2)
        if "kubepods" not in path:
            continue
        root = os.path.join(CGROUPS, controllers.replace("name=", ""))
        if not controllers and host.exists(os.path.join(CGROUPS, "unified")):
            root = os.path.join(CGROUPS, "unified")
        group = host.path(os.path.join(root, CGROUP))
        os.makedirs(group, exist_ok=True)
        if "cpuset" in controllers.split(","):
            # A new cpuset is empty and takes nobody in.
            for key in ("cpuset.cpus", "cpuset.mems"):
                _write(os.path.join(group, key), host.read_text(os.path.join(root, key)) or "")
        _write(os.path.join(group, "cgroup.procs"), str(pid))


def remove_cgroup(host: Host) -> None:
    """Remove the cgroups; they are empty once the processes have ended."""
    top = host.path(CGROUPS)
    for name in (os.listdir(top) if os.path.isdir(top) else []) + ["."]:
        try:
            os.rmdir(os.path.join(top, name, CGROUP))
        except OSError:
            continue  # there is none in this hierarchy


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as stream:
        stream.write(text)


def kept(containers: t.Sequence[t.Dict[str, t.Any]]) -> t.List[t.Dict[str, t.Any]]:
    """Those of KEPT, and not an owner's of that name: containers as docker's API lists them."""
    services = [entry for entry in containers if pods.is_cluster_service(entry["Labels"])]
    return [entry for entry in services if pods.container_name(entry) in KEPT]


def can_be_last(host: Host, containers: t.Sequence[t.Dict[str, t.Any]]) -> bool:
    """Whether both run here as static pods: containers as docker's API lists the running ones."""
    names = {pods.container_name(entry) for entry in kept(containers)}
    manifests = [os.path.join(paths.MANIFESTS, name + ".yaml") for name in KEPT]
    return names.issuperset(KEPT) and all(os.path.isfile(host.path(path)) for path in manifests)


def mirrors(listed: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    """The mirror pods of KEPT, by namespace/name, ready to be created again.

    listed: kubectl get pods -o json of this node. A kubelet may create mirror pods bound to itself
    (NodeRestriction admission).
    """
    found = {}
    for pod in listed["items"]:
        metadata = pod["metadata"]
        labels = metadata.get("labels") or {}
        annotations = metadata.get("annotations") or {}
        if labels.get("component") in KEPT and "kubernetes.io/config.mirror" in annotations:
            fields = ("annotations", "labels", "name", "namespace", "ownerReferences")
            found["%(namespace)s/%(name)s" % metadata] = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {key: metadata[key] for key in fields if key in metadata},
                "spec": pod["spec"],
            }
    return found

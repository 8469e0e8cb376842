# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kubelet's flag files, before and after a switch."""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, host, paths
from ansible_collections.homelab.containerd.plugins.module_utils._host.flags import flag_values
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import (
    kubelet_flags,
    versions,
)
from ansible_collections.homelab.containerd.plugins.module_utils._switch.journal import Journal

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        Direction,
        Files,
    )

#: Flags for the kubelet's first start, gone from the file as soon as the kubelet has read them.
#: Its first status often says "PLEG is not healthy: pleg has yet to be successful", and
#: the next one comes after nodeStatusUpdateFrequency, 10 s by default. And up to 1.26 it asks the
#: API 5 times a second at most (50 since 1.27), too little to start all pods of a node at once.
STARTUP_FLAGS = (
    "--node-status-update-frequency=1s",
    "--kube-api-qps=50",
    "--kube-api-burst=100",
)


def flag_files(node: host.Host) -> Files:
    return {
        path: node.read_text(path) for path, _variable in (paths.KUBEADM_FLAGS,) + paths.EXTRA_ARGS
    }


def kubelet_files_for(to: Direction, files: Files, kubelet: versions.Version) -> Files:
    """The flag files for the runtime TO; a file that does not exist stays so."""
    result = dict(files)
    for path, variable in (paths.KUBEADM_FLAGS,) + paths.EXTRA_ARGS:
        text = files[path]
        if text is None:
            continue
        words, error = kubelet_flags.read_env(text, variable)
        if error:
            raise commands.NodeError("%s: %s. Repair the quoting in the file." % (path, error))
        if tuple(words[-len(STARTUP_FLAGS) :]) == STARTUP_FLAGS:
            # A start that was interrupted has left them.
            words = words[: -len(STARTUP_FLAGS)]
        # On the way back only what the switch to containerd added goes: dockershim may need the
        # rest.
        remote = kubelet_flags.RUNTIME_FLAGS & set(flag_values(words))
        if to == "docker" and not remote:
            new = words
        elif path != paths.KUBEADM_FLAGS[0]:
            names = kubelet_flags.RUNTIME_FLAGS
            if to == "containerd":
                names |= kubelet_flags.DOCKERSHIM_FLAGS
            new = kubelet_flags.without(words, names)
        elif to == "containerd":
            new = kubelet_flags.to_containerd(words, kubelet)
        else:
            new = kubelet_flags.to_dockershim(words)
        if new != kubelet_flags.read_env(text, variable)[0]:
            result[path] = kubelet_flags.write_env(text, variable, new)
    return result


def with_startup_flags(text: t.Optional[str]) -> str:
    """kubeadm's flag file as it is for the moment of the kubelet's start."""
    variable = paths.KUBEADM_FLAGS[1]
    words, _error = kubelet_flags.read_env(text or "", variable)
    return kubelet_flags.write_env(text or "", variable, words + list(STARTUP_FLAGS))


def without_startup_flags(files: Files) -> Files:
    """The flag files once the kubelet has started: a full disk may have kept them as they were."""
    path, variable = paths.KUBEADM_FLAGS
    words, error = kubelet_flags.read_env(files[path] or "", variable)
    if error or tuple(words[-len(STARTUP_FLAGS) :]) != STARTUP_FLAGS:
        return files
    text = kubelet_flags.write_env(files[path] or "", variable, words[: -len(STARTUP_FLAGS)])
    return dict(files, **{path: text})


def rollback_files(journal: Journal, now: Files, kubelet: versions.Version) -> Files:
    """The flag files as they were, unless somebody has edited them since: then ours taken out."""
    before = journal.files_before
    computed = kubelet_files_for("docker", now, kubelet)
    result = {}
    for path, text in now.items():
        written = [before.get(path)] + journal.written(path)
        ours = written + [with_startup_flags(entry) for entry in written]
        result[path] = before[path] if path in before and text in ours else computed[path]
    return result


def kubelet_version(node: host.Host) -> versions.Version:
    printed = node.run(["kubelet", "--version"]).stdout
    version = versions.parse_version(printed)
    if not version:
        raise commands.NodeError("kubelet --version printed %r" % printed)
    return version

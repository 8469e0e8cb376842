# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kubelet's flags as data: parse, edit, and write back without losing what is not ours.

kubeadm keeps them in /var/lib/kubelet/kubeadm-flags.env (KUBELET_KUBEADM_ARGS), the owner in
/etc/default/kubelet or /etc/sysconfig/kubelet (KUBELET_EXTRA_ARGS).
"""

from __future__ import annotations

import re
import shlex
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host.flags import (
    flag_values,
    split_flags,
)
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import versions

CONTAINERD_ENDPOINT = "unix:///run/containerd/containerd.sock"

#: Flags that exist only for dockershim and its network plugins. The first eight were removed
#: with it in Kubernetes 1.24 (kubernetes/kubernetes#106907): a kubelet of 1.24 or newer does
#: not start with them, an older one ignores them with a remote runtime.
DOCKERSHIM_FLAGS = frozenset(
    [
        "experimental-dockershim-root-directory",
        "docker-endpoint",
        "image-pull-progress-deadline",
        "network-plugin",
        "cni-conf-dir",
        "cni-bin-dir",
        "cni-cache-dir",
        "network-plugin-mtu",
        "experimental-dockershim",
        "docker",
        "docker-only",
        "docker-env-metadata-whitelist",
        "docker-root",
        "docker-run",
        "docker-tls",
        "docker-tls-ca",
        "docker-tls-cert",
        "docker-tls-key",
    ]
)

RUNTIME_FLAGS = frozenset(["container-runtime", "container-runtime-endpoint"])


def without(words: t.Sequence[str], names: t.Container[str]) -> t.List[str]:
    """The words with every flag of these names, and its value, taken out."""
    return [word for name, written in split_flags(words) if name not in names for word in written]


def to_containerd(
    words: t.Sequence[str], kubelet: versions.Version, endpoint: str = CONTAINERD_ENDPOINT
) -> t.List[str]:
    """kubeadm's flags for containerd."""
    kept = without(words, DOCKERSHIM_FLAGS | RUNTIME_FLAGS)
    needed = versions.needs_runtime_flag(kubelet)
    runtime = ["--container-runtime=remote"] if needed else []
    return runtime + ["--container-runtime-endpoint=" + endpoint] + kept


def to_dockershim(words: t.Sequence[str]) -> t.List[str]:
    """kubeadm's flags for dockershim, as kubeadm 1.23 and older writes them."""
    kept = without(words, RUNTIME_FLAGS | {"network-plugin"})
    return ["--network-plugin=cni"] + kept


def read_env(text: str, variable: str) -> t.Tuple[t.List[str], t.Optional[str]]:
    """The words of VARIABLE="…" in an environment file, and an error where it cannot be read.

    systemd takes the last assignment (systemd.exec(5), EnvironmentFile=).
    """
    words: t.List[str] = []
    for line in text.splitlines():
        match = re.match(r"\s*%s\s*=(.*)$" % re.escape(variable), line)
        if match:
            try:
                words = shlex.split(" ".join(shlex.split(match.group(1))))
            except ValueError as exc:
                return [], "%s: %s" % (variable, exc)
    return words, None


def write_env(text: str, variable: str, words: t.Sequence[str]) -> str:
    """The environment file with VARIABLE set to these words and every other line as it was."""
    # systemd splits the expanded value at white space and honours quotes while doing so.
    quoted = [
        shlex.quote(word) if not word or re.search(r"[\s'\"\\]", word) else word for word in words
    ]
    value = " ".join(quoted).replace("\\", "\\\\").replace('"', '\\"')
    assignment = '%s="%s"' % (variable, value)
    lines = []
    written = False
    for line in text.splitlines():
        if re.match(r"\s*%s\s*=" % re.escape(variable), line):
            if not written:
                lines.append(assignment)
            written = True
        else:
            lines.append(line)
    if not written:
        lines.append(assignment)
    return "\n".join(lines) + "\n"


def unit_flags(text: str) -> t.List[t.Tuple[str, str]]:
    """The kubelet's flags in a unit file: (name, value) from its Environment= and ExecStart= lines.

    systemd.syntax(7): a line that ends with a backslash goes on.
    """
    found: t.List[t.Tuple[str, str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        match = re.match(r"\s*(Environment|ExecStart)\s*=(.*)$", line)
        if not match:
            continue
        try:
            words = shlex.split(match.group(2))
        except ValueError:
            continue  # systemd ignores such a line too, with a warning
        if match.group(1) == "Environment":
            # Each word is VARIABLE=value; the value is split when it is used.
            words = [part for word in words for part in word.partition("=")[2].split()]
        found += flag_values(words).items()
    return found


def sources(
    flags: t.Dict[str, str], files: t.Sequence[t.Tuple[str, t.Sequence[t.Tuple[str, str]]]]
) -> t.Dict[str, t.Optional[str]]:
    """Flag name to the file it comes from, None where no file has it with this value.

    flags: of the running kubelet. files: (path, its flags), in the order in which systemd puts
    them on the command line; the kubelet takes the last.
    """
    found: t.Dict[str, t.Optional[str]] = dict.fromkeys(flags)
    for path, written in files:
        for name, value in written:
            if flags.get(name) == value:
                found[name] = path
    return found

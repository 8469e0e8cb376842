# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""containerd's configuration on the node, where no TOML parser is: the few strings asked for.

What runs is asked of containerd itself (containerd config dump): it takes the imported files into
account, and knows its defaults. Only where it cannot answer is the file read.
"""

from __future__ import annotations

import glob
import os
import re
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    files,
    paths,
    services,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host

ROOT = "/var/lib/containerd"
SNAPSHOTTER = "overlayfs"


def effective(binary: t.Optional[str]) -> str:
    """The text of the whole configuration, imports and all; of the file alone as a last resort."""
    if binary:
        done = commands.run([binary, "config", "dump"], check=False)
        if done.returncode == 0 and done.stdout:
            return done.stdout
    return files.read_text(paths.CONTAINERD_CONFIG) or ""


def strings(text: str, key: str, top: bool = False) -> t.List[str]:
    """The strings that a key has, alone or in an array, in any table or only at the top."""
    if top:
        text = re.split(r"(?m)^\s*\[", text, maxsplit=1)[0]
    # A string ends a word: in it, a # begins no comment and a bracket ends no array.
    word = r"\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'"
    array = r"\[(?:[^\]\"'#]|%s|#[^\n]*)*\]" % word
    found: t.List[str] = []
    for match in re.finditer(r"(?m)^[ \t]*%s[ \t]*=[ \t]*(%s|%s)" % (key, word, array), text):
        value = re.sub(r"(%s)|#[^\n]*" % word, r"\1", match.group(1))
        found += [written[1:-1] for written in re.findall(word, value)]
    return found


def root(text: str) -> str:
    """Where containerd keeps its data."""
    return next(iter(strings(text, "root", top=True)), "") or ROOT


def snapshotter(text: str) -> str:
    """The snapshotter that is not overlayfs, its default, if there is such a one."""
    named = [name for name in strings(text, "snapshotter") if name]
    return next((name for name in named if name != SNAPSHOTTER), SNAPSHOTTER)


def imports(text: str) -> t.List[str]:
    """The patterns of the files that it imports (containerd-config.toml(5))."""
    return strings(text, "imports", top=True)


def import_patterns(text: str) -> t.List[str]:
    return [os.path.join(os.path.dirname(paths.CONTAINERD_CONFIG), name) for name in imports(text)]


def imported(text: str) -> t.List[str]:
    """The files that a config.toml imports."""
    return sorted({path for pattern in import_patterns(text) for path in glob.glob(pattern)})


def newer_files(host: Host) -> t.List[str]:
    """What containerd has not read, because it is newer than its process.

    certs.d is not among it: containerd reads that at each pull.
    """
    text = host.read_text(paths.CONTAINERD_CONFIG) or ""
    # The directory's time shows that an imported file was removed.
    directories = [os.path.dirname(name) for name in import_patterns(text) if "*" in name]
    read = [paths.CONTAINERD_CONFIG] + imported(text) + directories
    return services.newer_files(host, "containerd.service", read)

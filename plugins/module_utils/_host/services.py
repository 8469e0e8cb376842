# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a running service has read its files as they are now.

A handler restarts a service after a task of the same run. It is lost if that run ends in between,
and nobody notifies it of a change by somebody else. So the files' times decide, whoever wrote them.
"""

from __future__ import annotations

import os
import re
import time
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import commands
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host

#: Where systemd looks for drop-ins. DropInPaths does not show one that was removed since, and the
#: time of its directory does.
UNIT_DIRS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
PROPERTIES = ("MainPID", "FragmentPath", "DropInPaths", "EnvironmentFiles", "ExecStart")


def started(host: Host, pid: int) -> t.Optional[float]:
    """When a process started, by today's clock; None if it has ended.

    It is counted back from now, so that a clock that was set since (a board without a battery sets
    it at each boot) moves neither this nor the files' times against each other.
    """
    stat = host.read_text("/proc/%d/stat" % pid)
    if stat is None:
        return None
    ticks = commands.start_ticks(stat)
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return host.time() - age


def changed(host: Host, path: str) -> float:
    """When a file was put where it is, 0 if there is none.

    Its change time: tar and packages set the modification time to that of the release.
    """
    times = [0.0]
    for look in (os.lstat, os.stat):  # a link, and what it leads to
        try:
            times.append(look(host.path(path)).st_ctime)
        except OSError:
            pass
    return max(times)


def unit_files(unit: str, shown: t.Dict[str, str]) -> t.List[str]:
    """What systemd reads to start the unit, the program included."""
    program = re.search(r"path=(\S+)", shown.get("ExecStart", ""))
    return (
        [shown.get("FragmentPath", ""), program.group(1) if program else ""]
        + shown.get("DropInPaths", "").split()
        + [os.path.join(directory, unit + ".d") for directory in UNIT_DIRS]
        + re.findall(r"(/\S+)(?: \(ignore_errors=\w+\))?", shown.get("EnvironmentFiles", ""))
    )


def show(host: Host, unit: str) -> t.Dict[str, str]:
    words = ["systemctl", "show", unit] + ["--property=" + name for name in PROPERTIES]
    shown: t.Dict[str, str] = {}
    for line in host.run(words, check=False).stdout.splitlines():
        key, _equals, value = line.partition("=")
        # EnvironmentFiles has a line for each file.
        shown[key] = (shown.get(key, "") + " " + value).strip()
    return shown


def newer_files(host: Host, unit: str, read: t.Sequence[str]) -> t.List[str]:
    """The unit's files, and those that its program reads when it starts, that are newer than it.

    Nothing of a unit that does not run: it reads them when it starts.
    """
    shown = show(host, unit)
    start = started(host, int(shown.get("MainPID") or 0) or -1)
    if start is None:
        return []
    every = [path for path in unit_files(unit, shown) + list(read) if path]
    # A time that is still to come is of a clock that was set back since: it says nothing, and no
    # restart would make the process newer.
    return sorted({path for path in every if start < changed(host, path) <= host.time()})

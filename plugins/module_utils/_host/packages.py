# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What apt or dnf would do to the other packages of a node, asked of themselves before they do it.

Docker's packages and those of the distributions conflict: containerd.io with containerd and runc,
and so with docker.io. apt then removes what is in the way, without a question if Ansible asks it.
"""

from __future__ import annotations

import re
import shutil
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        PackageChanges,
    )

#: An upgrade of their package restarts them, and what they run with them.
RESTARTED = ("dockerd", "kubelet")
#: Without these the node has no pods.
NEEDED = ("containerd", "runc", "kubelet")
#: The headings of dnf's table of a transaction.
DNF_HEADINGS = {
    "Removing": "removed",
    "Removing dependent packages": "removed",
    "Removing unused dependencies": "unused",
    "Downgrading": "downgraded",
    "Upgrading": "upgraded",
}


def no_changes() -> PackageChanges:
    lists: t.Dict[str, t.List[str]] = {key: [] for key in ("removed", "downgraded", "upgraded")}
    return t.cast("PackageChanges", dict(lists, unused=[], versions={}, error=""))


def read_apt(printed: str) -> PackageChanges:
    """What "apt-get --simulate" prints: Remv NAME, and Inst NAME [OLD] (NEW …) for an upgrade."""
    changes = no_changes()
    changes["removed"] = re.findall(r"(?m)^Remv (\S+)", printed)
    upgraded = re.findall(r"(?m)^Inst (\S+) \[", printed)
    heading = re.search(r"(?m)^The following packages will be DOWNGRADED:\n((?:  .*\n)*)", printed)
    changes["downgraded"] = heading.group(1).split() if heading else []
    changes["upgraded"] = [name for name in upgraded if name not in changes["downgraded"]]
    changes["versions"] = dict(re.findall(r"(?m)^Inst (\S+) (?:\[\S+\] )?\((\S+)", printed))
    return changes


def read_dnf(printed: str) -> PackageChanges:
    """The table of "dnf --assumeno"."""
    changes = no_changes()
    lists = t.cast("t.Dict[str, t.List[str]]", changes)
    key = ""
    for line in printed.splitlines():
        heading = re.match(r"(\S[^:]*):$", line)
        replaced = re.match(r"\s+replacing\s+(\S+?)(?:\.\w+)?\s", line)
        # A long name has a line of its own, and what else the table says is on the next.
        row = re.match(r" (\S+)", line)
        if heading:
            key = DNF_HEADINGS.get(heading.group(1), "")
        elif replaced:
            changes["removed"].append(replaced.group(1))
        elif row and key:
            lists[key].append(row.group(1))
        elif not line.strip():
            key = ""
    return changes


def _is_longer(version: str, wanted: str) -> bool:
    """Whether a version begins with "1.6.3*" and has another number all the same: 1.6.33."""
    prefix = wanted.rstrip("*")
    return prefix != wanted and version[len(prefix) : len(prefix) + 1].isdigit()


class Packages:
    """The node's package manager; without a known one nothing can be said, and nothing is."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.manager = next((name for name in ("apt-get", "dnf") if shutil.which(name)), None)

    def simulate(self, *words: str) -> PackageChanges:
        """words: the command and the names of packages, for example install containerd."""
        if self.manager == "apt-get":
            # As Ansible's module does it: nothing is asked, and nothing is fetched.
            done = self.host.run(
                ["apt-get", "--simulate", "--allow-downgrades", *words], check=False
            )
            changes = read_apt(done.stdout)
            failed = done.returncode != 0
        elif self.manager == "dnf":
            done = self.host.run(["dnf", "--assumeno", *words], timeout=600, check=False)
            changes = read_dnf(done.stdout)
            # It also exits with 1 after "Operation aborted.", which is what --assumeno is for.
            failed = done.returncode != 0 and "Operation aborted" not in done.stdout + done.stderr
        else:
            return no_changes()
        if failed:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            changes["error"] = " ".join(said)[-500:] or "exit status %d" % done.returncode
        return changes

    def installed(self, names: t.Sequence[str]) -> t.List[str]:
        return [name for name in names if self._is_installed(name)]

    def _is_installed(self, name: str) -> bool:
        if self.manager == "dnf":
            return self.host.run(["rpm", "--query", name], check=False).returncode == 0
        words = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]
        return self.host.run(words, check=False).stdout == "installed"

    def owners(self, programs: t.Sequence[str]) -> t.Dict[str, str]:
        """Program to the package that it is of; those that are of none are left out."""
        found = {}
        for program in programs:
            path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/bin")
            if not path or not self.manager:
                continue
            if self.manager == "dnf":
                words = ["rpm", "--query", "--queryformat=%{NAME}", "--file", path]
            else:
                words = ["dpkg-query", "--search", path]
            done = self.host.run(words, check=False)
            if done.returncode == 0 and done.stdout:
                found[program] = done.stdout.split(":")[0].strip()
        return found

    def install_problem(self, names: t.Sequence[str], conflicts: t.Sequence[str]) -> str:
        """Why packages must not be installed on a node that serves, or nothing.

        conflicts: what is known to be in the way, for a package whose repository is not there yet.
        """
        changes = self.simulate("install", *names)
        if changes["error"] and self.installed(conflicts):
            changes = self.simulate("remove", *self.installed(conflicts))
        restarted = set(self.owners(RESTARTED).values()) - set(names)
        parts = [
            ("remove", changes["removed"]),
            ("downgrade", changes["downgraded"]),
            ("restart", [name for name in changes["upgraded"] if name in restarted]),
        ]
        said = ["%s %s" % (verb, ", ".join(sorted(found))) for verb, found in parts if found]
        said += [
            "install %s %s" % (name, version)
            for name, version in changes["versions"].items()
            if any(
                _is_longer(version, spec.partition("=")[2])
                for spec in names
                if spec.startswith(name + "=")
            )
        ]
        if said:
            return "installing %s would %s" % (" ".join(names), " and ".join(said))
        return ""

    def removal_problem(self, names: t.Sequence[str]) -> str:
        """Why packages must not be removed from a node that is on containerd, or nothing."""
        removed = self.installed(names)
        if not removed:
            return ""
        changes = self.simulate("remove", *removed)
        needed = set(self.owners(NEEDED).values())
        lost = sorted(set(changes["removed"]) & needed)
        others = sorted(set(changes["removed"]) - set(names))
        what = "removing %s would remove " % " ".join(removed)
        if lost:
            return what + ", ".join(lost) + ", which the node needs"
        if others:
            return what + ", ".join(others) + " too"
        return changes["error"]

    def left_unused(self, names: t.Sequence[str]) -> t.List[str]:
        """What stays and has to be marked: autoremove would take it once these are removed.

        The node's own runtime is among it in any case: docker may be removed by hand later.
        """
        removed, found = self.installed(names), set(self.owners(NEEDED).values())
        if removed and self.manager == "apt-get":
            now = self.simulate("autoremove")["removed"]
            then = self.simulate("remove", "--auto-remove", *removed)["removed"]
            found |= set(then) - set(now)
        elif removed:
            found |= set(self.simulate("remove", *removed)["unused"])
        unmarked = found - set(removed)
        return sorted(unmarked - self.manual(sorted(unmarked)))

    def manual(self, names: t.Sequence[str]) -> t.Set[str]:
        """Those of the packages that were installed by hand, and not for another one."""
        if not names:
            return set()
        words = ["apt-mark", "showmanual", *names]
        if self.manager == "dnf":
            words = ["dnf", "repoquery", "--userinstalled", "--queryformat=%{name}\n", *names]
        return set(self.host.run(words, check=False).stdout.split())

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The switch's journal: the one place that knows what is in it. JournalData has its form."""

from __future__ import annotations

import errno
import json
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    files,
    host,
    paths,
    sanitize,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.flags import flag_values
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import kubelet_flags

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        Direction,
        Files,
        JournalData,
        JournalFacts,
        JournalState,
        SwitchStep,
    )

#: A journal of another version is refused: this one would not know what it says.
VERSION = 1
NEEDED = ("direction", "state", "start", "steps", "files_after")


class SwitchFailed(Exception):
    """The node did not come to be Ready; the text says what was seen."""


def parse(text: t.Optional[str]) -> t.Optional[JournalData]:
    """A journal's text as data, or None where there is none; NodeError where it cannot be read."""
    if text is None:
        return None
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or not isinstance(data.get("version"), int):
            raise ValueError("it is no journal of a switch")
        missing = [key for key in NEEDED if key not in data]
        if data["version"] == VERSION and missing:
            raise ValueError("it has no %s" % ", ".join(missing))
    except ValueError as exc:
        raise commands.NodeError(
            "%s cannot be read (%s). Look at the kubelet's flags in %s, move the journal "
            "away, and run this again." % (paths.JOURNAL, exc, paths.KUBEADM_FLAGS[0])
        ) from exc
    if data["version"] != VERSION:
        raise commands.NodeError(
            "%s has version %d, and this release of the collection reads version %d. Nothing was "
            "changed. Use the release that wrote it (or a newer one), and run this again."
            % (paths.JOURNAL, data["version"], VERSION)
        )
    return t.cast("JournalData", data)


def read(node: host.Host) -> t.Optional[JournalData]:
    """The node's journal, None only where there is no such file."""
    text, why = files.read(node.path(paths.JOURNAL))
    if why:
        raise commands.NodeError(
            "%s cannot be read (%s), so it is not known what an earlier switch did. Nothing was "
            "changed. Repair the file system, and run this again." % (paths.JOURNAL, why)
        )
    return parse(text)


def timings(data: JournalData) -> t.List[SwitchStep]:
    """The steps that have ended: each does when the next one starts."""
    starts = [step["start"] for step in data["steps"]]
    ends = starts[1:] + ([data["end"]] if "end" in data else [])
    return [
        {"name": step["name"], "start": step["start"], "end": end, "delta": round(end - start, 2)}
        for step, start, end in zip(data["steps"], starts, ends)
    ]


def journal_facts(node: host.Host) -> t.Optional[JournalFacts]:
    """What an earlier switch wrote, with the flags that the kubelet had before it."""
    data = read(node)
    if data is None:
        return None
    path, variable = paths.KUBEADM_FLAGS
    words, _error = kubelet_flags.read_env(data.get("files_before", {}).get(path) or "", variable)
    return {
        "direction": data["direction"],
        "state": data["state"],
        "start": data["start"],
        "flags_before": sanitize.blank(flag_values(words)),
    }


class Journal:
    """What was done and how to undo it, on disk before it is done."""

    def __init__(self, node: host.Host) -> None:
        self.host = node
        self.data = read(node)
        #: Why the journal on the disk is behind this one; the node is more important.
        self.complaint = ""

    @property
    def current(self) -> JournalData:
        """The data of a switch that was started, by this run or an earlier one."""
        if self.data is None:
            raise RuntimeError("no switch was started")
        return self.data

    @property
    def unfinished(self) -> t.Optional[Direction]:
        """The direction of a switch that was started and has not ended."""
        return self.data["direction"] if self.data and self.data["state"] == "running" else None

    @property
    def files_before(self) -> Files:
        """The flag files as they were before containerd."""
        return self.data.get("files_before", {}) if self.data else {}

    @property
    def waited_for(self) -> t.Optional[t.List[str]]:
        """The pods that were ready when an unfinished switch was started; None if unknown."""
        return self.data.get("waited_for") if self.data and self.unfinished else None

    def written(self, path: str) -> t.List[t.Optional[str]]:
        """What this collection wrote to a flag file, in either direction."""
        if self.data is None:
            return []
        return [self.data["files_after"].get(path), self.data.get("files_containerd", {}).get(path)]

    def begin(
        self,
        direction: Direction,
        files_after: Files,
        files_before: t.Optional[Files] = None,
        waited_for: t.Optional[t.List[str]] = None,
    ) -> None:
        """Start a switch; files_before is for one to containerd, and kept by one to docker.

        NodeError if that cannot be written before anything was changed. In the middle of another
        switch the node comes first, and the journal goes on saying that it is unfinished.
        """
        earlier = self.data
        data: JournalData = {
            "version": VERSION,
            "direction": direction,
            "state": "running",
            "start": self.host.time(),
            "steps": [],
            "files_after": files_after,
        }
        if self.unfinished:
            # What was broken before the first of them is not waited for after the last.
            waited_for = self.waited_for
        if waited_for is not None:
            data["waited_for"] = waited_for
        if files_before is not None:
            data["files_before"] = files_before
            # A switch to docker may be interrupted and started again: it needs these too.
            data["files_containerd"] = files_after
        elif earlier is not None:
            if "files_before" in earlier:
                data["files_before"] = earlier["files_before"]
            if "files_containerd" in earlier:
                data["files_containerd"] = earlier["files_containerd"]
        if not self.unfinished:
            try:
                self._write(data)
            except OSError as exc:
                raise commands.NodeError(
                    "Nothing was changed, because the journal cannot be written. " + explain(exc)
                ) from exc
            self.data = data
        else:
            self.data = data
            self.write()

    def step(self, name: str) -> None:
        self.current["steps"].append({"name": name, "start": self.host.time()})
        self.write()

    def finish(self, state: JournalState) -> None:
        ended = self.current.copy()
        ended["state"] = state
        ended["end"] = self.host.time()
        self.write(ended)
        self.data = ended

    def write(self, data: t.Optional[JournalData] = None) -> None:
        """Once the switch has begun, a full disk must not keep the node from getting to its end.

        What is on the disk then still says that the switch runs, and the next run finishes it.
        """
        self.complaint = ""
        try:
            self._write(data or self.current)
        except OSError as exc:
            self.complaint = "The journal is not up to date. " + explain(exc)

    def _write(self, data: JournalData) -> None:
        self.host.write_text(paths.JOURNAL, json.dumps(data, indent=1) + "\n", mode=0o600)

    def elapsed(self) -> float:
        """Seconds since the switch was started."""
        return round(self.host.time() - self.current["start"], 2)

    def timings(self) -> t.List[SwitchStep]:
        return timings(self.current)


def explain(exc: BaseException) -> str:
    """What went wrong, with what to do where a disk is full."""
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        place = "of %s " % exc.filename if exc.filename else ""
        return "%s. Make room on the file system %s(df -h, df -i), and run this again." % (
            exc,
            place,
        )
    return str(exc) or type(exc).__name__

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The switch's journal: the one place that knows what is in it. JournalData has its form."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, host, paths
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
    if not text:
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
    data = parse(node.read_text(paths.JOURNAL))
    if data is None:
        return None
    path, variable = paths.KUBEADM_FLAGS
    words, _error = kubelet_flags.read_env(data.get("files_before", {}).get(path) or "", variable)
    return {
        "direction": data["direction"],
        "state": data["state"],
        "flags_before": flag_values(words),
    }


class Journal:
    """What was done and how to undo it, on disk before it is done."""

    def __init__(self, node: host.Host) -> None:
        self.host = node
        self.data = parse(node.read_text(paths.JOURNAL))

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

    def written(self, path: str) -> t.List[t.Optional[str]]:
        """What this collection wrote to a flag file, in either direction."""
        if self.data is None:
            return []
        return [self.data["files_after"].get(path), self.data.get("files_containerd", {}).get(path)]

    def begin(
        self, direction: Direction, files_after: Files, files_before: t.Optional[Files] = None
    ) -> None:
        """Start a switch; files_before is for one to containerd, and kept by one to docker."""
        earlier = self.data
        self.data = {
            "version": VERSION,
            "direction": direction,
            "state": "running",
            "start": self.host.time(),
            "steps": [],
            "files_after": files_after,
        }
        if files_before is not None:
            self.data["files_before"] = files_before
            # A switch to docker may be interrupted and started again: it needs these too.
            self.data["files_containerd"] = files_after
        elif earlier is not None:
            if "files_before" in earlier:
                self.data["files_before"] = earlier["files_before"]
            if "files_containerd" in earlier:
                self.data["files_containerd"] = earlier["files_containerd"]
        self.write()

    def step(self, name: str) -> None:
        self.current["steps"].append({"name": name, "start": self.host.time()})
        self.write()

    def finish(self, state: JournalState) -> None:
        self.current["state"] = state
        self.current["end"] = self.host.time()
        self.write()

    def write(self) -> None:
        text = json.dumps(self.current, indent=1) + "\n"
        self.host.write_text(paths.JOURNAL, text, mode=0o600)

    def elapsed(self) -> float:
        """Seconds since the switch was started."""
        return round(self.host.time() - self.current["start"], 2)

    def timings(self) -> t.List[SwitchStep]:
        return timings(self.current)

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The switch's journal."""

from __future__ import annotations

import json
import time
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, files, paths

Files = t.Dict[str, t.Optional[str]]


class SwitchFailed(Exception):
    """The node did not come to be Ready; the text says what was seen."""


class Journal:
    """What was done and how to undo it, on disk before it is done."""

    def __init__(self) -> None:
        self.path = paths.JOURNAL
        text = files.read_text(self.path)
        try:
            self.data: t.Dict[str, t.Any] = json.loads(text) if text else {}
            if not isinstance(self.data, dict):
                raise ValueError("a JSON object is expected")
        except ValueError as exc:
            raise commands.NodeError(
                "%s cannot be read (%s). Look at the kubelet's flags in %s, move the journal "
                "away, and run this again." % (self.path, exc, paths.KUBEADM_FLAGS[0])
            ) from exc

    @property
    def unfinished(self) -> t.Optional[str]:
        """The direction of a switch that was begun and not ended."""
        return self.data.get("direction") if self.data.get("state") == "running" else None

    def begin(self, direction: str, files_before: Files, files_after: Files) -> None:
        if direction == "containerd":
            self.data["files_before"] = files_before
            # begin("docker") leaves these: the way back may break off and be begun again.
            self.data["files_containerd"] = files_after
        self.data["files_after"] = files_after
        self.data.update(version=1, direction=direction, state="running", steps=[])
        self.data["began"] = time.time()
        self.write()

    def step(self, name: str) -> None:
        self.data["steps"].append({"name": name, "began": time.time()})
        self.write()

    def finish(self, state: str) -> None:
        self.data["state"] = state
        self.data["ended"] = time.time()
        self.write()

    def write(self) -> None:
        files.write_text(self.path, json.dumps(self.data, indent=1) + "\n", mode=0o600)

    def timings(self) -> t.List[t.Dict[str, t.Any]]:
        began = [step["began"] for step in self.data["steps"]] + [self.data["ended"]]
        return [
            {"name": step["name"], "seconds": round(began[index + 1] - began[index], 2)}
            for index, step in enumerate(self.data["steps"])
        ]

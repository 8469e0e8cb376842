# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Progress of a module that an action plugin watches, and its end."""

from __future__ import annotations

import json
import os
import time
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import commands


def finish(
    module: t.Any,
    work: t.Callable[[], t.Dict[str, t.Any]],
    *failures: t.Type[Exception],
) -> None:
    """Do a watched module's work and end it, with its result or with what went wrong.

    failures: exceptions besides NodeError whose text is for the person who reads it. The last
    line of progress comes first: the action plugin then asks for the result.
    """
    progress = Progress(module.params["progress_file"])
    start = time.monotonic()
    try:
        result = dict(work())
        # On the node: the controller's clock would add the time between two polls.
        result["delta"] = round(time.monotonic() - start, 2)
    except (commands.NodeError,) + failures as exc:
        progress.end()
        module.fail_json(msg=str(exc))
    else:
        progress.end()
        module.exit_json(**result)


class Progress:
    """What a module is doing now, as JSON lines in a file that the action plugin reads.

    Each line is {"time": epoch seconds, "text": sentence, "pid": of the module}.
    """

    def __init__(self, path: t.Optional[str]) -> None:
        self.path = path

    def say(self, text: str) -> None:
        line = {"time": round(time.time(), 1), "text": text, "pid": os.getpid()}
        if self.path:
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")

    def end(self) -> None:
        """The last line: the result is about to be there."""
        if self.path:
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps({"ended": True}) + "\n")

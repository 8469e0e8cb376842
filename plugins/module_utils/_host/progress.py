# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Progress of a module that action plugins watch, and its end."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import time
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    lock,
    sanitize,
)

Result = t.Dict[str, t.Any]


class Failed(Exception):
    """The work failed, and there is more to return than a sentence."""

    def __init__(self, text: str, **result: t.Any) -> None:
        super().__init__(text)
        self.result = result


def finish(
    module: t.Any,
    work: t.Callable[[], Result],
    *failures: t.Type[Exception],
    holds: t.Optional[str] = None,
) -> None:
    """Do a watched module's work and end it, with its result or with what went wrong.

    failures: exceptions besides NodeError whose text is for the person who reads it.
    holds: the kind of job for the node's lock; without it the module takes none. If a job of the
    same kind holds the lock, the result is {"attach": that job}, and the action plugin watches it.
    """
    params = module.params
    report = Progress(params["progress_file"])
    start = time.monotonic()
    ended: Result
    try:
        with contextlib.ExitStack() as stack:
            if holds and not module.check_mode:
                who = params.get("started_by")
                stack.enter_context(lock.held(holds, who, params["progress_file"]))
            report.begin()
            ended = dict(work())
    except lock.Held as exc:
        if exc.job and exc.job["kind"] == holds and exc.job["progress_file"]:
            module.exit_json(changed=False, attach=exc.job)
            return
        ended = {"failed": True, "msg": str(exc)}
    except Failed as exc:
        ended = dict(exc.result, failed=True, msg=str(exc))
    except (commands.NodeError,) + failures as exc:
        ended = {"failed": True, "msg": str(exc)}
    except BaseException as exc:  # a fault of ours: Ansible shows its traceback
        report.end({"failed": True, "msg": "%s: %s" % (type(exc).__name__, exc)})
        raise
    if "msg" in ended:
        ended["msg"] = sanitize.shown_lines(str(ended["msg"]))
    # On the node: the controller's clock would add the time between two polls.
    ended["delta"] = round(time.monotonic() - start, 2)
    # The lock is free by now: who reads this line may start the next job.
    report.end(ended if holds else None)
    if ended.pop("failed", False):
        module.fail_json(**ended)
    module.exit_json(**ended)


class Progress:
    """What a module is doing now, as JSON lines in a file that action plugins read.

    Each line is {"time": epoch seconds, "text": sentence, "pid" and "process_start": the module's};
    the last one has "ended", and the result where others may be attached. It informs and nothing
    more: if it cannot be written, the work goes on, and the job's own record has the result.
    """

    def __init__(self, path: t.Optional[str]) -> None:
        self.path = path

    def begin(self) -> None:
        """Start the file, and remove those of this module's earlier runs that have ended.

        The process holds a flock on its own file, so that no other run removes it. The file stays
        until a later run, because several controllers may be watching, and one may be away.
        """
        if not self.path:
            return
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
            module = os.path.basename(self.path).rpartition("-")[0]
            for path in glob.glob(os.path.join(os.path.dirname(self.path), module + "-*.jsonl")):
                with open(path, "rb") as stream, contextlib.suppress(BlockingIOError):
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(path)
        with contextlib.suppress(OSError):
            # Not closed: the flock lasts as long as the process.
            fcntl.flock(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600), fcntl.LOCK_SH)
        self._write({})

    def say(self, text: str) -> None:
        self._write({"text": sanitize.shown(text)})

    def end(self, result: t.Optional[Result]) -> None:
        """The last line: the module's process is about to end."""
        self._write({"ended": True, "result": result})

    def _write(self, line: t.Dict[str, t.Any]) -> None:
        if not self.path:
            return
        process = {"pid": os.getpid(), "process_start": lock.process_start(os.getpid())}
        text = json.dumps(dict(line, time=round(time.time(), 1), **process))
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with open(descriptor, "w", encoding="utf-8") as stream:
                # A line that a full disk cut must not take this one with it: readers skip an
                # empty line, and one that is not JSON.
                stream.write("\n" + text + "\n")

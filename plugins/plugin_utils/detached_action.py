# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module detached on the node and show what it is doing while it does it.

A long module must go on when the connection drops (a node in the middle of a switch is no place
to stop), and a person must see where it is. So the module runs as an Ansible async job, writes
its progress as JSON lines (module_utils/_host/progress.py), and this reads them as they come.

Where a job of the same kind holds the node's lock, the module returns that job's record, and this
watches that job. Its result is in the last line of its progress, which every controller and user
can wait for; an async job's own record is read by the one who started it, and then removed.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import shlex
import socket
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.homelab.containerd.plugins.module_utils._host import lock, paths

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import Job

display = Display()
PROGRESS_DIR = paths.RUN_DIR
POLL_SECONDS = 1.0
#: The job's own record is asked this often, in case it died without a last line.
STATUS_SECONDS = 15.0
#: In so many polls neither the process nor its end may be found, before it counts as killed.
MISSED_POLLS_LIMIT = 3
#: How long a connection may be away before giving up on it; the job on the node goes on.
UNREACHABLE_SECONDS = 600.0
#: async_wrapper kills a job after its limit, also one that works: so it has none to speak of. A job
#: that hangs has time limits of its own, and one that died is found by its process.
LIMIT_SECONDS = 365 * 24 * 3600


class Killed(Exception):
    """The watched process is gone, and has left no result."""


class Watched(t.NamedTuple):
    """A job, as the one who started it knows it (record), or one who is attached (process)."""

    progress_file: str
    #: The file of the async job. Its directory depends on how the connection sets HOME, so it is
    #: not guessed; its name is the job's id.
    record: str | None = None
    process: tuple[int, int] | None = None


class DetachedAction(ActionBase):
    """Base of the action plugins of modules that run detached, and of node_job."""

    module = ""
    #: Whether other runs may be reading the progress after the end.
    attachable = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        if self._task.check_mode:
            result = self._execute_module(module_name=self.module, task_vars=task_vars)
            return dict(result)
        host = task_vars.get("inventory_hostname", "node")
        while True:
            start = time.time()
            name = self.module.rsplit(".", 1)[-1]
            path = "%s/%s-%s.jsonl" % (PROGRESS_DIR, name, secrets.token_hex(4))
            started = self._start(
                dict(self._task.args, progress_file=path, started_by=started_by()), task_vars
            )
            if "results_file" not in started:
                return started
            try:
                result = self._watch(Watched(path, record=started["results_file"]), task_vars)
            except Killed:
                return {
                    "failed": True,
                    "msg": "%s: %s was killed on the node before it ended. "
                    "Run the playbook again: it resumes where this was interrupted."
                    % (host, self.module),
                }
            if not self.attachable:
                self._low_level_execute_command("rm -f " + shlex.quote(path))
            if "attach" in result:
                try:
                    result = self._attach(result["attach"], task_vars)
                except Killed:
                    # The kernel has freed its lock, so this run can do what that one has not done.
                    self._show(host, "that job was killed, this run takes its place")
                    continue
            end = time.time()
            # By one clock for all nodes: theirs may differ.
            result.setdefault("delta", round(end - start, 2))
            # An attached run came later than its job's start.
            start = min(start, end - result["delta"])
            return dict(result, start=round(start, 2), end=round(end, 2))

    def _attach(self, job: Job, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Watch a job that another run started, from its beginning to its result."""
        host = task_vars.get("inventory_hostname", "node")
        self._show(host, "attached to a job that is running: " + lock.describe(job))
        process = (job["pid"], job["process_start"])
        return self._watch(Watched(job["progress_file"], process=process), task_vars)

    def _start(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        before = self._task.async_val
        self._task.async_val = LIMIT_SECONDS
        try:
            return dict(
                self._execute_module(
                    module_name=self.module,
                    module_args=arguments,
                    task_vars=task_vars,
                    wrap_async=True,
                )
            )
        finally:
            self._task.async_val = before

    def _watch(self, job: Watched, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Show the job's progress until it has ended, and return its result."""
        host = task_vars.get("inventory_hostname", "node")
        seen = 0
        last_status = last_answer = time.monotonic()
        ended = False
        result: dict[str, t.Any] | None = None
        process = job.process
        missed = 0
        while True:
            time.sleep(POLL_SECONDS)
            try:
                lines, read = self._lines(job.progress_file, seen)
                seen += read
                for line in lines:
                    if line.get("ended"):
                        ended, result = True, line.get("result")
                    if line.get("pid"):
                        process = (line["pid"], line["process_start"])
                    if line.get("text"):
                        self._show(host, line["text"])
                if ended and result is not None and not job.record:
                    return result
                if ended or missed or time.monotonic() - last_status > STATUS_SECONDS:
                    last_status = time.monotonic()
                    status = self._status(job.record, "status", task_vars) if job.record else {}
                    if status.get("finished"):
                        self._status(job.record, "cleanup", task_vars)
                        return {
                            key: value
                            for key, value in status.items()
                            if key not in ("ansible_job_id", "finished", "started", "results_file")
                        }
                    # It may have ended, well or not, since its job was asked: then the next poll
                    # finds its last line, or the record that is written for it.
                    alive = not ended and self._alive(job.record, process)
                    missed = 0 if alive else missed + 1
                    if missed > MISSED_POLLS_LIMIT:
                        if result is None:
                            raise Killed
                        return result  # async_wrapper, which writes the record, was killed
                last_answer = time.monotonic()
            except AnsibleError as exc:
                if time.monotonic() - last_answer > UNREACHABLE_SECONDS:
                    raise AnsibleConnectionFailure(
                        "%s has not answered for %d s. Its job (%s) goes on there. Run the same "
                        "command again when the node answers: it attaches to the job, or finds "
                        "what it has done. The last error: %s"
                        % (host, UNREACHABLE_SECONDS, self.module, exc)
                    ) from exc
                self._show(host, "does not answer, its job goes on: %s" % exc)

    def _show(self, host: str, text: str) -> None:
        """Now: ansible-core keeps a task's warnings until the task has ended."""
        if not self._task.no_log:
            display.display("    %s  %s" % (host, text), color="bright blue")

    def _alive(self, record: str | None, process: tuple[int, int] | None) -> bool:
        if process:
            # With its start: after a reboot another process may have the number.
            command = 'test "$(sed "s/.*) //" /proc/%d/stat | cut -d" " -f20)" = %d' % process
        else:
            # It may not have come to its first line. [] keeps grep from finding itself.
            name = os.path.basename(record or "").partition(".")[0]
            command = "grep -qs '[%s]%s' /proc/[0-9]*/cmdline" % (name[:1], name[1:])
        return bool(self._low_level_execute_command(command)["rc"] == 0)

    def _lines(self, path: str, seen: int) -> tuple[list[dict[str, t.Any]], int]:
        """What was written behind so many lines, and how many lines that are."""
        got = self._low_level_execute_command(
            "tail -n +%d %s 2>/dev/null" % (seen + 1, shlex.quote(path))
        )
        texts = got["stdout"].splitlines()
        lines = []
        for number, text in enumerate(texts):
            try:
                lines.append(dict(json.loads(text)))
            except ValueError:
                if number == len(texts) - 1 and text:
                    return lines, number  # half written: the next look has it whole
                # An empty one, or one that a full disk cut off.
        return lines, len(texts)

    def _status(
        self, record: str | None, mode: str, task_vars: dict[str, t.Any]
    ) -> dict[str, t.Any]:
        directory, job = os.path.split(record or "")
        return dict(
            self._execute_module(
                module_name="ansible.legacy.async_status",
                module_args={"jid": job, "mode": mode, "_async_dir": directory},
                task_vars=task_vars,
            )
        )


def started_by() -> str:
    """For who meets the job on the node: the user and the controller."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "somebody"
    return "%s@%s" % (user, socket.gethostname())

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module detached on the node and show what it is doing while it does it.

A long module must go on when the connection drops (a node in the middle of a switch is no place
to stop), and a person must see where it is. So the module runs as an Ansible async job, writes
its progress as JSON lines (module_utils/_host/progress.py), and this reads them as they come.
"""

from __future__ import annotations

import json
import secrets
import shlex
import time
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.homelab.containerd.plugins.module_utils._host import paths

display = Display()
PROGRESS_DIR = paths.RUN_DIR
POLL_SECONDS = 1.0
#: The job's own record is asked this often, in case it died without a last line.
STATUS_SECONDS = 15.0
#: In so many polls neither the process nor its end may be found, before it counts as killed.
MISSED_POLLS_LIMIT = 3
#: How long a connection may be away before giving up on it; the job on the node goes on.
UNREACHABLE_SECONDS = 600.0


class DetachedAction(ActionBase):
    """Base of the action plugins of carry_images, restore_blobs and switch_runtime."""

    module = ""
    limit_seconds = 4 * 3600

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        if self._task.check_mode:
            result = self._execute_module(module_name=self.module, task_vars=task_vars)
            return dict(result)
        progress = "%s/%s-%s.jsonl" % (
            PROGRESS_DIR,
            self.module.rsplit(".", 1)[-1],
            secrets.token_hex(4),
        )
        self._low_level_execute_command(
            "mkdir -p -m 0755 %s && touch %s" % (PROGRESS_DIR, shlex.quote(progress))
        )
        start = time.time()
        job = self._start(dict(self._task.args, progress_file=progress), task_vars)
        if "ansible_job_id" not in job:
            return job
        try:
            result = self._watch(job["ansible_job_id"], progress, task_vars)
            end = time.time()
            # By one clock for all nodes: theirs may differ.
            result.setdefault("delta", round(end - start, 2))
            return dict(result, start=round(start, 2), end=round(end, 2))
        finally:
            self._low_level_execute_command("rm -f " + shlex.quote(progress))

    def _start(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        before = self._task.async_val
        self._task.async_val = self.limit_seconds
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

    def _watch(self, job: str, progress: str, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        host = task_vars.get("inventory_hostname", "node")
        seen = 0
        last_status = last_answer = time.monotonic()
        ended = False
        pid = None
        missed = 0
        while True:
            time.sleep(POLL_SECONDS)
            try:
                for line in self._lines(progress, seen):
                    seen += 1
                    ended = ended or line.get("ended", False)
                    pid = line.get("pid", pid)
                    if line.get("text"):
                        display.display("    %s  %s" % (host, line["text"]), color="bright blue")
                if ended or missed or time.monotonic() - last_status > STATUS_SECONDS:
                    last_status = time.monotonic()
                    result = self._status(job, "status", task_vars)
                    if result.get("finished"):
                        self._status(job, "cleanup", task_vars)
                        return {
                            key: value
                            for key, value in result.items()
                            if key not in ("ansible_job_id", "finished", "started", "results_file")
                        }
                    # It may have ended, well or not, since its job was asked: then the next poll
                    # finds its last line, or the record that is written for it.
                    missed = 0 if ended or self._alive(pid, progress) else missed + 1
                    if missed > MISSED_POLLS_LIMIT:
                        return {
                            "failed": True,
                            "msg": "%s: %s was killed on the node before it ended. "
                            "Run the playbook again: it resumes where this was interrupted."
                            % (host, self.module),
                        }
                last_answer = time.monotonic()
            except AnsibleError as exc:
                if time.monotonic() - last_answer > UNREACHABLE_SECONDS:
                    raise
                display.warning("%s does not answer, its job goes on: %s" % (host, exc))

    def _alive(self, pid: int | None, progress: str) -> bool:
        # The file is on /run: after a reboot it is gone, whoever has the process's number then.
        command = "test -e %s" % shlex.quote(progress)
        if pid:
            command += " && test -d /proc/%d" % pid
        got = self._low_level_execute_command(command)
        return bool(got["rc"] == 0)

    def _lines(self, path: str, seen: int) -> list[dict[str, t.Any]]:
        got = self._low_level_execute_command(
            "tail -n +%d %s 2>/dev/null" % (seen + 1, shlex.quote(path))
        )
        lines = []
        for line in got["stdout"].splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                break  # half written: the next look has it whole
        return lines

    def _status(self, job: str, mode: str, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        directory = self._remote_expand_user(
            self.get_shell_option("async_dir", default="~/.ansible_async")
        )
        return dict(
            self._execute_module(
                module_name="ansible.legacy.async_status",
                module_args={"jid": job, "mode": mode, "_async_dir": directory},
                task_vars=task_vars,
            )
        )

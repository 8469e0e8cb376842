# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import secrets
import shlex
import typing as t

from ansible.errors import AnsibleActionFail
from ansible_collections.homelab.containerd.plugins.plugin_utils.detached_action import (
    PROGRESS_DIR,
    DetachedAction,
)


class ActionModule(DetachedAction):
    """Watches a build, and keeps its secrets out of everything that is written to a disk.

    A module's arguments travel in a file in the remote temporary directory (an async one's do even
    with pipelining), so the secrets do not go with them: they go through the connection's standard
    input into a file of root's on the node's /run, which is memory, and the module removes it as
    soon as it has read it.
    """

    module = "homelab.containerd.build"
    attachable = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        arguments = dict(self._task.args)
        given = arguments.pop("secrets", None) or {}
        if arguments.keys() & {"secrets_file", "progress_file", "started_by"}:
            raise AnsibleActionFail(
                "secrets_file, progress_file and started_by are set by the action plugin."
            )
        if not isinstance(given, dict):
            raise AnsibleActionFail("secrets has to be a dictionary of id and value.")
        if not given:
            return super().run(tmp, task_vars)
        path = "%s/build-%s.secrets" % (PROGRESS_DIR, secrets.token_hex(8))
        before = self._task.args
        self._task.args = dict(arguments, secrets_file=path)
        try:
            self._hand_over(path, {key: str(value) for key, value in given.items()})
            return super().run(tmp, task_vars)
        finally:
            self._task.args = before
            self._low_level_execute_command("rm -f " + shlex.quote(path))

    def _hand_over(self, path: str, values: dict[str, str]) -> None:
        quoted = shlex.quote(path)
        # On a node where /run is a disk (no systemd) there is no such place: refused. What a killed
        # controller left there is removed; a module reads its own within seconds.
        command = (
            "mkdir -p -m 0755 %s && case $(stat -f -c %%T %s) in tmpfs|ramfs) ;; *) exit 77;; esac "
            "&& find %s -name 'build-*.secrets' -mmin +60 -delete && umask 077 && cat >%s"
            % (PROGRESS_DIR, PROGRESS_DIR, PROGRESS_DIR, quoted)
        )
        got = self._low_level_execute_command(command, in_data=json.dumps(values).encode())
        if got["rc"] == 77:
            raise AnsibleActionFail(
                "The node's %s is not in memory, so secrets would reach its disk. Mount a tmpfs on "
                "/run, as systemd does, or build without secrets." % PROGRESS_DIR
            )
        if got["rc"] != 0:
            raise AnsibleActionFail(
                "The secrets could not be copied to the node: %s" % (got["stderr"] or got["stdout"])
            )

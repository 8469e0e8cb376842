# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import Report
from ansible_collections.homelab.containerd.plugins.plugin_utils.report import model, page, text

display = Display()

#: For a file or a log; a terminal has its own width.
WIDTH = 96


class ActionModule(ActionBase):
    """show_report: all of it happens here; plugins/modules/show_report.py documents it."""

    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            argument_spec={
                "plans": {"type": "list", "elements": "dict", "required": True},
                "cluster": {"type": "dict", "default": {}},
                "mode": {"type": "str", "choices": ["assess", "migrate"], "default": "assess"},
                "serial": {"type": "str", "default": "1"},
                "outcomes": {"type": "list", "elements": "dict", "default": []},
                "api": {"type": "dict", "default": {}},
                "directory": {"type": "path", "default": "~/.cache/homelab-containerd/report"},
            }
        )
        directory = arguments.pop("directory")
        content = model.build(now=time.time(), **arguments)
        files: dict[str, str] = {}
        if not self._task.check_mode:
            files = self._write(directory, content)
        width = min(100, max(80, display.columns)) if sys.stdout.isatty() else WIDTH
        for line, colour in text.lines(content, display.verbosity > 0, width):
            display.display(line, color=colour)
        if files:
            display.display("\nThis report as a page: %s" % files["html"])
        return dict(result, changed=False, verdict=content["verdict"], files=files)

    def _write(self, directory: str, content: Report) -> dict[str, str]:
        kinds = {
            "json": json.dumps(content, indent=1, ensure_ascii=False) + "\n",
            "html": page.page(content),
            "txt": text.text(content, width=WIDTH),
        }
        files = {kind: os.path.join(directory, "report." + kind) for kind in kinds}
        try:
            os.makedirs(directory, exist_ok=True)
            for kind, content_of in kinds.items():
                _replace(files[kind], content_of)
        except OSError as exc:
            # A migration must not fail because its report cannot be written.
            display.warning(
                "The report could not be written on the controller: %s. Set migrate_report_dir to "
                "a directory that can be written to." % exc
            )
            return {}
        return files


def _replace(path: str, text: str) -> None:
    """Write the whole file or nothing: somebody may be reading it."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".report-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The machine that a module runs on, handed to what changes it, so that a test can hand another."""

from __future__ import annotations

import http.client
import os
import subprocess
import time
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, files


class Host:
    """Its files, below a root that is empty outside tests, its commands and its clock."""

    def __init__(self, root: str = "") -> None:
        self.root = root

    def path(self, path: str) -> str:
        """Where one of the host's absolute paths is for this process."""
        return self.root + path

    def exists(self, path: str) -> bool:
        return os.path.exists(self.path(path))

    def read_text(self, path: str) -> t.Optional[str]:
        return files.read_text(self.path(path))

    def write_text(self, path: str, text: str, mode: t.Optional[int] = None) -> None:
        files.write_text(self.path(path), text, mode)

    def run(
        self, words: t.Sequence[str], timeout: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return commands.run(words, timeout, check)

    def journal_tail(self, unit: str, lines: int = 15) -> str:
        """The end of a unit's journal, for an error message."""
        words = ["journalctl", "-u", unit, "-n", str(lines), "--no-pager", "-o", "cat"]
        printed = self.run(words, check=False).stdout
        return printed.strip() or "(the journal of %s is empty)" % unit

    def http_get(self, port: int, url: str) -> t.Tuple[t.Optional[int], str]:
        """Ask a server of this machine: the status and the body, or None and why not."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", url)
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as exc:
            return None, str(exc)
        finally:
            connection.close()

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

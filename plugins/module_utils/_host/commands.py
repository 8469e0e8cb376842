# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run commands on the node."""

from __future__ import annotations

import os
import subprocess
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import files, sanitize


class NodeError(Exception):
    """Something on the node did not work; the text says what was tried and what it printed.

    It is for a person: without the secrets of a command line or of what a program printed.
    """

    def __str__(self) -> str:
        return sanitize.shown_lines(super().__str__())


def run(
    words: t.Sequence[str], timeout: float = 60, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command; NodeError with its exit status and output when it fails (if check)."""
    env = dict(os.environ, LC_ALL="C")
    env["PATH"] = env.get("PATH", "") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            list(words),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            # A journal may hold anything.
            errors="replace",
            timeout=timeout,
            env=env,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        if check:
            raise NodeError("%s: %s" % (" ".join(words), exc)) from exc
        return subprocess.CompletedProcess(list(words), 127, "", str(exc))
    if check and done.returncode != 0:
        raise NodeError(
            "%s: exit status %d: %s"
            % (" ".join(words), done.returncode, (done.stderr or done.stdout).strip()[-2000:])
        )
    return done


def start(words: t.Sequence[str], env: t.Dict[str, str]) -> subprocess.Popen[str]:
    """A program whose standard error is to be read line by line while it works."""
    return subprocess.Popen(
        list(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=env,
    )


def command_line(process_name: str) -> t.Tuple[t.Optional[int], t.List[str]]:
    """The pid and words of the running program of this name (the first found)."""
    for entry in sorted((e for e in os.listdir("/proc") if e.isdigit()), key=int):
        words = (files.read_text("/proc/%s/cmdline" % entry) or "").split("\0")
        if words and os.path.basename(words[0]) == process_name:
            return int(entry), [word for word in words if word]
    return None, []


def unit_active(unit: str) -> bool:
    return run(["systemctl", "is-active", "--quiet", unit], check=False).returncode == 0


def start_ticks(stat: str) -> int:
    """When a process started, in the kernel's ticks since the boot: field 22 of /proc/PID/stat.

    proc(5). The name, field 2, may hold anything; it ends with the last parenthesis.
    """
    return int(stat.rpartition(")")[2].split()[19])

#!/usr/bin/env python3
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every file on this machine with its metadata, and every process, as JSON."""

from __future__ import annotations

import json
import os
import sys

#: What the kernel makes up, what is a cluster's own running business, and Ansible's own place.
LEFT_OUT = (
    "/proc",
    "/sys",
    "/dev",
    "/run/docker/containerd",
    "/run/containerd/io.containerd.runtime.v2.task",
    "/run/systemd",
    "/var/log",
    "/var/lib/etcd",
    "/var/lib/docker/containers",
    "/var/lib/docker/overlay2",
    "/root/.ansible",
)


def files() -> dict[str, list[int]]:
    found = {}
    for directory, directories, names in os.walk("/"):
        kept = [n for n in directories if os.path.join(directory, n) not in LEFT_OUT]
        directories[:] = kept
        for name in kept + names:
            path = os.path.join(directory, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            # A directory's size and times are in the names that it holds.
            detail = [] if name in kept else [status.st_size, status.st_mtime_ns]
            found[path] = [status.st_mode, status.st_uid, status.st_gid, *detail]
    return found


def processes() -> dict[str, str]:
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as stream:
                words = stream.read().replace("\0", " ").strip()
        except OSError:
            continue
        if words and int(pid) != os.getpid():
            found[pid] = words
    return found


json.dump({"files": files(), "processes": processes()}, sys.stdout)

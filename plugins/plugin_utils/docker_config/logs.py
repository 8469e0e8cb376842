# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docker's logging: the keys log-driver and log-opts."""

from __future__ import annotations

import json
import re

from ansible_collections.homelab.containerd.plugins.module_utils._docker.daemon_config import (
    shown_log_option,
    type_of,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.sanitize import clean
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.result import (
    NO_EQUIVALENT,
    NOT_NEEDED,
    TRANSLATED,
    Collector,
    Json,
    Key,
    Outcome,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.values import (
    kubernetes_quantity,
    parse_size,
)

#: docker's drivers that keep logs in files on the node, as the kubelet does.
FILE_LOG_DRIVERS = ("json-file", "local", "")
#: The kubelet does not start with fewer (container_log_manager.go).
FEWEST_FILES = 2

_LABELS = "Log agents add a pod's labels themselves."
_METADATA = "Log agents add what they know of a pod themselves."
_REMOTE = "Belongs to drivers that send logs away"

#: What becomes of docker's logging options where the kubelet writes the files.
LOG_OPTS: dict[str, tuple[Outcome, str, str]] = {
    "compress": (NOT_NEEDED, "The kubelet compresses rotated files", ""),
    "labels": (NO_EQUIVALENT, "The kubelet adds nothing to the lines", _LABELS),
    "labels-regex": (NO_EQUIVALENT, "The kubelet adds nothing to the lines", _LABELS),
    "env": (NO_EQUIVALENT, "The kubelet adds nothing to the lines", _METADATA),
    "env-regex": (NO_EQUIVALENT, "The kubelet adds nothing to the lines", _METADATA),
    "tag": (
        NO_EQUIVALENT,
        "The kubelet adds nothing to the lines",
        "The file's name says pod, namespace and container.",
    ),
    "mode": (
        NO_EQUIVALENT,
        "containerd always waits for the file: a container that writes faster than the disk blocks",
        "Look at containers that write a lot.",
    ),
    "max-buffer-size": (NOT_NEEDED, "Belongs to mode=non-blocking", ""),
    "cache-disabled": (NOT_NEEDED, _REMOTE, ""),
    "cache-max-size": (NOT_NEEDED, _REMOTE, ""),
    "cache-max-file": (NOT_NEEDED, _REMOTE, ""),
    "cache-compress": (NOT_NEEDED, _REMOTE, ""),
}


def log_driver(out: Collector, row: Key, value: str, origin: str) -> None:
    if value in FILE_LOG_DRIVERS:
        out.add(
            row.name,
            value,
            origin,
            NOT_NEEDED,
            "The kubelet keeps every container's output in files below /var/log/pods. Their "
            "lines are CRI's, not JSON",
            remedy="Tell log agents to read CRI's format.",
        )
    elif value == "none":
        out.add(
            row.name,
            value,
            origin,
            NO_EQUIVALENT,
            "docker kept no logs; the kubelet keeps every container's output in files below "
            "/var/log/pods",
            remedy="Limit them with containerLogMaxSize and containerLogMaxFiles.",
        )
    else:
        out.add_row(row, value, origin)


def log_opts(out: Collector, row: Key, value: dict[str, Json], origin: str) -> None:
    for option, item in value.items():
        key = "log-opts." + option
        if not isinstance(item, str):
            if item is None or isinstance(item, (dict, list)):
                out.wrong(key, item, origin, "a string is expected, found " + type_of(item))
                continue
            out.problem(
                key,
                "dockerd wants a string here (%s), and refuses the file"
                % json.dumps(json.dumps(shown_log_option(option, item))),
            )
            item = json.dumps(item)
        if out.log_driver not in FILE_LOG_DRIVERS:
            out.add(
                key,
                item,
                origin,
                NOT_NEEDED,
                "Belongs to docker's log driver %s" % clean(out.log_driver),
            )
        elif option == "max-size":
            _max_size(out, key, item, origin)
        elif option == "max-file":
            _max_file(out, key, item, origin)
        elif (option, item) == ("mode", "blocking"):
            out.add(key, item, origin, NOT_NEEDED, "containerd waits for the file too")
        elif option in LOG_OPTS:
            outcome, text, remedy = LOG_OPTS[option]
            out.add(key, item, origin, outcome, text, remedy=remedy)
        else:
            out.unknown(key, item, origin, ["max-size", "max-file", *LOG_OPTS])


def _max_size(out: Collector, key: str, value: str, origin: str) -> None:
    size = parse_size(value)
    if size is None or size <= 0:
        out.wrong(key, value, origin, "it is not a size such as 10m")
        return
    quantity = kubernetes_quantity(size)
    out.kubelet["containerLogMaxSize"] = quantity
    text = "%s, the same number of bytes as the kubelet writes it (docker counts in thousands)"
    to = "kubelet config.yaml: containerLogMaxSize"
    if out.log_driver != "local" and out.log_options.get("max-file") is None:
        # json-file keeps 1 file by default (moby's jsonfilelog.New), local 5 as the kubelet does.
        out.kubelet["containerLogMaxFiles"] = FEWEST_FILES
        text += "; with 2 files, as docker keeps 1 without max-file and the kubelet refuses less"
        to += ", containerLogMaxFiles"
    out.add(key, value, origin, TRANSLATED, text % quantity, to)


def _max_file(out: Collector, key: str, value: str, origin: str) -> None:
    if not re.fullmatch(r"[+]?[0-9]{1,9}", value) or int(value) < 1:
        out.wrong(key, value, origin, "it is not a number of files")
        return
    if out.log_options.get("max-size") is None and out.log_driver != "local":
        out.add(
            key, value, origin, NOT_NEEDED, "Without max-size docker never begins a second file"
        )
        return
    files = int(value)
    out.kubelet["containerLogMaxFiles"] = max(files, FEWEST_FILES)
    out.add(
        key,
        value,
        origin,
        TRANSLATED,
        "The kubelet refuses less than 2" if files < FEWEST_FILES else "Files of each container",
        "kubelet config.yaml: containerLogMaxFiles",
    )

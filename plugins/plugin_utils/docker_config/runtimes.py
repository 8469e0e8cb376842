# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docker's OCI runtimes: the keys runtimes and default-runtime.

Rules: moby's daemon/runtime_unix.go, setupRuntimes: a path is a program like runc, a runtimeType
a shim with options.
"""

from __future__ import annotations

import hashlib
import json
import re
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._docker.daemon_config import (
    type_of,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.sanitize import BLANK, clean
from ansible_collections.homelab.containerd.plugins.plugin_utils.containerd_config import RUNC
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.result import (
    NO_EQUIVALENT,
    NOT_NEEDED,
    TRANSLATED,
    UNKNOWN,
    Collector,
    Json,
    Key,
    Runtime,
)

#: moby's builtin names for runc; the last was dropped in 23.
RUNC_NAMES = ("runc", RUNC, "io.containerd.runtime.v1.linux")
#: Where the role containerd writes scripts that give a runtime its arguments.
SCRIPTS = "/usr/local/lib/homelab-containerd/runtimes"
#: What moby's types.Runtime has.
FIELDS = ("path", "runtimeArgs", "runtimeType", "options")

#: What a RuntimeClass's handler has to be.
DNS_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
#: Go's encoding/json ignores the case of a field's name.
_FIELD = {field.lower(): field for field in FIELDS}


class Outcome(t.NamedTuple):
    """A runtime as containerd has it, or why not, and whether dockerd refuses it too."""

    runtime: Runtime | None
    why: str = ""
    refused: bool = False


def runtimes(out: Collector, row: Key, value: dict[str, Json], origin: str) -> None:
    for name, written in value.items():
        key = "runtimes." + name
        item = fields_of(written)
        found = translate_runtime(name, item)
        if found.runtime:
            out.containerd.setdefault("runtimes", {})[name] = found.runtime
            text = row.text
            if not re.fullmatch(DNS_LABEL, name):
                text = "Its name is not a DNS label, so no RuntimeClass can name it; it can be the "
                text += "default"
            out.add(key, written, origin, TRANSLATED, text, row.to)
            if item.get("runtimeArgs"):
                command = script_command(item["path"], item["runtimeArgs"])
                out.scripts[script_path(name)] = str(command)
            for field in sorted(name for name in set(item) - set(FIELDS) if item[name]):
                out.add(
                    key + "." + field,
                    item[field],
                    origin,
                    UNKNOWN,
                    "dockerd ignores it: a runtime has %s" % ", ".join(FIELDS),
                    remedy="Correct or remove it; it is not carried over.",
                )
        elif found.refused:
            out.wrong(key, written, origin, found.why)
        else:
            out.add(
                key,
                written,
                origin,
                NO_EQUIVALENT,
                found.why,
                remedy="Set it by hand through containerd_config_overrides, with a script of "
                "yours as its BinaryName where it needs arguments.",
            )


def default_runtime(out: Collector, row: Key, value: str, origin: str) -> None:
    if value in RUNC_NAMES:
        out.add(row.name, value, origin, NOT_NEEDED, "containerd's default too")
    elif value in out.runtimes:
        out.containerd["default_runtime_name"] = value
        out.add_row(row, value, origin)
    elif re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+", value):
        # docker accepts the name of any shim that is installed.
        out.containerd.setdefault("runtimes", {})[value] = {"runtime_type": value}
        out.containerd["default_runtime_name"] = value
        out.add_row(row, value, origin)
    else:
        out.wrong(
            row.name, value, origin, "runtimes has no %s that can be carried over" % clean(value)
        )


def fields_of(value: Json) -> Json:
    """A runtime with its fields' names as moby has them; other fields keep theirs."""
    if not isinstance(value, dict):
        return value
    return {_FIELD.get(name.lower(), name): item for name, item in value.items()}


def translate_runtime(name: str, value: Json) -> Outcome:
    """value: as fields_of() returns it. merge_settings sets the cgroup driver of all runtimes."""
    if name == "runc":
        return Outcome(None, "the name runc is reserved by docker", True)
    if not name or not name.isprintable() or re.search(r"[\"\\]", name):
        # containerd 1.x cannot read such a key, however it is quoted (go-toml v1).
        return Outcome(None, "its name has characters that containerd cannot read")
    if not isinstance(value, dict):
        return Outcome(None, "an object is expected, found " + type_of(value), True)
    path, kind = value.get("path") or "", value.get("runtimeType") or ""
    arguments, options = value.get("runtimeArgs") or [], value.get("options") or {}
    if not isinstance(path, str) or not isinstance(kind, str) or not isinstance(options, dict):
        return Outcome(None, "path and runtimeType are strings, and options is an object", True)
    if not (path + kind).isprintable():
        return Outcome(None, "path and runtimeType have characters that no path has", True)
    if bool(path) == bool(kind):
        return Outcome(None, "it has to have one of path and runtimeType", True)
    if BLANK in json.dumps([arguments, options]):
        # In containerd's configuration or in a script of ours everybody could read it.
        return Outcome(None, "its arguments or options have a secret in them, which is not read")
    if path:
        if options:
            return Outcome(None, "options belong to a runtimeType, not to a path", True)
        if not isinstance(arguments, list) or not all(isinstance(a, str) for a in arguments):
            return Outcome(None, "runtimeArgs is a list of strings", True)
        if arguments and script_command(path, arguments) is None:
            return Outcome(None, "its runtimeArgs hold characters that a shell would interpret")
        program = script_path(name) if arguments else path
        return Outcome({"runtime_type": RUNC, "options": {"BinaryName": program}})
    if arguments:
        return Outcome(None, "runtimeArgs belong to a path, not to a runtimeType", True)
    runtime: Runtime = {"runtime_type": kind}
    if options:
        if not _fits_toml(options):
            return Outcome(None, "its options hold values that TOML or containerd does not have")
        runtime["options"] = options
    return Outcome(runtime)


def script_path(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
    if plain != name or name.startswith("."):
        plain += "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
    return "%s/%s" % (SCRIPTS, plain)


def script_command(path: str, arguments: t.Sequence[str]) -> str | None:
    """What a script runs to give a runtime its arguments (moby's wrapRuntime): no shim can."""
    words = [path, *arguments]
    if not all(re.fullmatch(r"[A-Za-z0-9_@%+=:,./ -]+", word) for word in words):
        return None
    return " ".join(words)


def _fits_toml(value: Json) -> bool:
    """Whether TOML has it, in keys that every containerd reads."""
    if isinstance(value, dict):
        return all(re.fullmatch("[A-Za-z0-9_-]+", key) for key in value) and all(
            _fits_toml(item) for item in value.values()
        )
    if isinstance(value, list):
        return all(_fits_toml(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 1 << 63
    return value is not None

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who on a node uses docker besides the kubelet: files that call it, processes that talk to it.

What is returned names files, lines and docker's subcommand, never the text of a line: command
lines hold passwords.
"""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
import stat
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, files

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        DockerCall,
        DockerCallInFile,
        DockerProcess,
        Kind,
        LogAgent,
        Login,
    )

#: What docker's subcommands are for (docker's CLI reference).
PURPOSES = {
    "builds": ("build", "builder", "buildx", "bake"),
    "runs": (
        *("run", "create", "start", "stop", "restart", "kill", "rm", "exec", "up", "down"),
        *("compose", "stack", "service", "swarm", "update", "pause", "unpause", "cp", "attach"),
    ),
    "monitors": (
        "ps",
        "stats",
        "logs",
        "events",
        "inspect",
        "info",
        "top",
        "version",
        "port",
        "ls",
    ),
    "images": (
        "pull",
        "push",
        "tag",
        "save",
        "load",
        "import",
        "export",
        "images",
        "image",
        "commit",
    ),
    "cleans": ("prune", "rmi", "system"),
}

_PURPOSE_OF = {word: purpose for purpose, words in PURPOSES.items() for word in words}
#: Subcommands that only name a group: what follows them says what is done.
_GROUPS = ("image", "container", "buildx", "builder", "compose", "system", "volume", "network")

_CALL = re.compile(
    # Not part of a longer name (docker-registry, /var/lib/docker/…) and not a key (docker: x).
    r"(?<![\w.@=-])(?:/\S*/)?(docker-compose|docker)(?![\w./:=-])"
    # Global options, with or without a value of their own.
    r"((?:\s+--?[A-Za-z][\w-]*(?:=\S+|\s+(?=\S*[/:])\S+)?)*)"
    r"\s+([a-z][a-z-]*)(?:\s+([a-z][a-z-]*))?"
)

UNIT_DIRS = (
    *("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"),
    "/lib/systemd/system",  # where /lib is no link to /usr/lib
)

CRON_FILES = (
    *(
        "/etc/crontab",
        "/etc/anacrontab",
        "/etc/cron.d/*",
        "/etc/cron.hourly/*",
        "/etc/cron.daily/*",
    ),
    *(
        "/etc/cron.weekly/*",
        "/etc/cron.monthly/*",
        "/var/spool/cron/crontabs/*",
        "/var/spool/cron/*",
    ),
)

SCRIPT_FILES = (
    *("/usr/local/bin/*", "/usr/local/sbin/*", "/etc/rc.local", "/root/*", "/root/bin/*"),
    *("/home/*/*", "/home/*/bin/*", "/opt/*/*", "/opt/*/bin/*", "/srv/*/*"),
)

#: Log agents' own directories (their packages' defaults).
LOG_AGENT_DIRS = (
    *("/etc/filebeat", "/etc/fluent-bit", "/etc/td-agent-bit", "/etc/td-agent", "/etc/fluent"),
    *("/etc/promtail", "/etc/vector", "/etc/rsyslog.d", "/etc/syslog-ng", "/etc/datadog-agent"),
    *("/etc/telegraf", "/etc/alloy", "/etc/logrotate.d"),
)

DOCKER_LOGS = "/var/lib/docker/containers"
#: Files larger than this are data or programs, not something a person wrote.
TEXT_LIMIT = 256 * 1024
FILES_LIMIT = 4000
#: Units that are docker's own, or name it only to come after it.
OWN_UNITS = frozenset(["docker.service", "docker.socket", "containerd.service", "kubelet.service"])
#: What brings images back from docker (role keep_images).
OWN_SCRIPT = "/usr/local/sbin/homelab-keep-images"


def docker_calls(text: str) -> t.List[DockerCall]:
    """Lines of a script that call docker; the first line is 1, a command "docker build".

    purpose is one of PURPOSES' keys or "unknown". Comments do not count.
    """
    found: t.List[DockerCall] = []
    for number, line in enumerate(text.splitlines(), 1):
        if "docker" not in line or line.lstrip().startswith(("#", ";", "//")):
            continue
        for match in _CALL.finditer(line):
            program, _options, first, second = match.groups()
            word, shown = first, first
            if first in _GROUPS and second:
                word, shown = second, "%s %s" % (first, second)
            purpose = _PURPOSE_OF.get(word) or _PURPOSE_OF.get(first)
            if purpose is None and program == "docker":
                continue  # prose, or a plugin of somebody's own
            found.append(
                {
                    "line": number,
                    "command": "%s %s" % (program, shown),
                    "purpose": purpose or "unknown",
                }
            )
    return found


def small_text(path: str) -> t.Optional[str]:
    """A regular file's text if it is small and has no zero byte, else None."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= TEXT_LIMIT:
            return None
        with open(path, "rb") as stream:
            data = stream.read(TEXT_LIMIT)
    except OSError:
        return None
    return None if b"\0" in data else data.decode("utf-8", "replace")


def _in_file(calls: t.Iterable[DockerCall], path: str, kind: Kind) -> t.List[DockerCallInFile]:
    return [
        {
            "line": call["line"],
            "command": call["command"],
            "purpose": call["purpose"],
            "path": path,
            "kind": kind,
        }
        for call in calls
    ]


def _calls_in(
    paths: t.Iterable[str], kind: Kind, scripts_only: bool = False
) -> t.List[DockerCallInFile]:
    found: t.List[DockerCallInFile] = []
    for path in paths:
        text = small_text(path)
        if text is None or "docker" not in text or path.endswith(OWN_SCRIPT):
            continue
        if scripts_only and not text.startswith("#!") and not path.endswith(".sh"):
            continue
        found += _in_file(docker_calls(text), path, kind)
    return found


def _globbed(patterns: t.Iterable[str], root: str) -> t.List[str]:
    paths: t.Dict[str, None] = {}
    for pattern in patterns:
        # A directory with more files than that holds data, not scripts.
        some = sorted(itertools.islice(glob.iglob(root + pattern), FILES_LIMIT))
        paths.update(dict.fromkeys(some))
    return list(paths)


def unit_calls(text: str) -> t.List[DockerCall]:
    """docker_calls() over a unit's Exec lines alone: Description= is prose, After= is an order."""
    kept = [line if re.match(r"\s*Exec\w+\s*=|\s+\S", line) else "" for line in text.splitlines()]
    return docker_calls("\n".join(re.sub(r"^\s*Exec\w+\s*=[-@:+!]*", "  ", line) for line in kept))


def calling_units(root: str = "") -> t.List[DockerCallInFile]:
    """systemd units, timers' services and drop-ins among them, that call docker."""
    found: t.List[DockerCallInFile] = []
    seen = set()
    for directory in UNIT_DIRS:
        for path in _globbed([directory + "/*.service", directory + "/*.d/*.conf"], root):
            name = os.path.basename(path)
            unit = os.path.basename(os.path.dirname(path))[:-2] if name.endswith(".conf") else name
            # A unit in /etc hides the one of its name in /usr; a link in *.wants is one of both.
            if unit in OWN_UNITS or (name, unit) in seen:
                continue
            seen.add((name, unit))
            text = small_text(path)
            if text and "docker" in text:
                found += _in_file(unit_calls(text), path, "unit")
    return found


def calling_files(root: str = "") -> t.List[DockerCallInFile]:
    """Units, cron jobs and scripts that call docker."""
    return (
        calling_units(root)
        + _calls_in(_globbed(CRON_FILES, root), "cron")
        + _calls_in(_globbed(SCRIPT_FILES, root), "script", scripts_only=True)
    )


def log_agents(root: str = "") -> t.List[LogAgent]:
    """Log agents' configuration that reads docker's own log files."""
    found: t.List[LogAgent] = []
    patterns = [directory + suffix for directory in LOG_AGENT_DIRS for suffix in ("/*", "/*/*")]
    for path in _globbed(patterns, root):
        for number, line in enumerate((small_text(path) or "").splitlines(), 1):
            if DOCKER_LOGS in line and not line.lstrip().startswith(("#", ";")):
                found.append({"path": path, "line": number})
                break
    return found


def logins(paths: t.Iterable[str], kubelet_reads: t.Container[str]) -> t.List[Login]:
    """Registry logins; no credential.

    helpers: hosts, or "*", whose credentials a program keeps (credHelpers, credsStore).
    """
    found = []
    for path in paths:
        text = files.read_text(path)
        if text is None:
            continue
        entry: Login = {
            "path": path,
            "hosts": [],
            "helpers": [],
            "kubelet_reads": path in kubelet_reads,
            "error": None,
        }
        try:
            value = json.loads(text or "{}")
            # .dockercfg is what is under "auths" in config.json.
            auths = value if path.endswith(".dockercfg") else value.get("auths") or {}
            entry["hosts"] = sorted(str(host) for host in auths)
            entry["helpers"] = sorted(str(host) for host in value.get("credHelpers") or {})
            if value.get("credsStore"):
                entry["helpers"].append("*")
        except (ValueError, AttributeError, TypeError, RecursionError) as exc:
            entry["error"] = "%s: %s" % (type(exc).__name__, str(exc).splitlines()[0][:200])
        if entry["hosts"] or entry["helpers"] or entry["error"]:
            found.append(entry)
    return found


def kubelet_login_paths(root_dir: str, directory: str, home: str) -> t.List[str]:
    """Where the kubelet looks for registry logins (pkg/credentialprovider/config.go)."""
    paths = [os.path.join(place, "config.json") for place in (root_dir, directory)]
    paths += [os.path.join(home, ".docker/config.json")] if home else []
    paths += ["/.docker/config.json"]
    paths += [os.path.join(place, ".dockercfg") for place in (root_dir, directory)]
    paths += [os.path.join(home, ".dockercfg")] if home else []
    return list(dict.fromkeys(paths + ["/.dockercfg"]))


def peers(ss_output: str, sockets: t.Container[str]) -> t.Set[str]:
    """Inodes of the sockets at the other end of connections to these paths.

    ss_output: ``ss -xnH`` (ss(8)): state, queues, local address, local inode, peer address, peer
    inode; the path is on the listening side's sockets.
    """
    found = set()
    for line in ss_output.splitlines():
        words = line.split()
        if len(words) >= 8 and words[1] == "ESTAB" and words[4] in sockets:
            found.add(words[7])
    return found


def owners(inodes: t.Container[str], proc: str = "/proc") -> t.Dict[str, int]:
    """Socket inode to the pid of the first process that holds it."""
    found: t.Dict[str, int] = {}
    for pid in sorted((e for e in os.listdir(proc) if e.isdigit()), key=int):
        directory = "%s/%s/fd" % (proc, pid)
        try:
            names = os.listdir(directory)
        except OSError:
            continue  # it ended
        for name in names:
            try:
                target = os.readlink(directory + "/" + name)
            except OSError:
                continue
            if target.startswith("socket:[") and target[8:-1] in inodes:
                found.setdefault(target[8:-1], int(pid))
    return found


def container_of(cgroup: str) -> t.Optional[str]:
    """The ID of the container that a /proc/PID/cgroup names, or None on the host."""
    match = re.search(r"[/-]([0-9a-f]{64})(?:\.scope)?(?:/|$)", cgroup, re.M)
    return match.group(1) if match else None


def unit_of(cgroup: str) -> t.Optional[str]:
    match = re.search(r"/([^/\s]+\.service)(?:/|$)", cgroup, re.M)
    return match.group(1) if match else None


def connected_processes(sockets: t.Sequence[str]) -> t.List[DockerProcess]:
    """Processes that hold a connection to these sockets now, the kubelet left out."""
    inodes = peers(commands.run(["ss", "-xnH"], check=False).stdout, frozenset(sockets))
    found: t.Dict[int, DockerProcess] = {}
    # Whoever looks may be asking docker just now.
    for pid in set(owners(inodes).values()) - {os.getpid()}:
        name = (files.read_text("/proc/%d/comm" % pid) or "").strip()
        cgroup = files.read_text("/proc/%d/cgroup" % pid) or ""
        if name and name not in ("kubelet", "dockerd"):
            found[pid] = {
                "pid": pid,
                "name": name,
                "unit": unit_of(cgroup),
                "container": container_of(cgroup),
            }
    return [found[pid] for pid in sorted(found)]

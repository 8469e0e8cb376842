# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small things that every module here does on a node: run, read, write, ask ctr."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import typing as t

STATE_DIR = "/var/lib/homelab-containerd"
#: What switch_runtime did or was doing on this node.
JOURNAL = STATE_DIR + "/switch.json"
NAMESPACE = "k8s.io"


class NodeError(Exception):
    """Something on the node did not work; the text says what was tried and what it printed."""


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


def read_text(path: str) -> t.Optional[str]:
    """A file's text, or None where there is none to read."""
    return read(path)[0]


def read(path: str) -> t.Tuple[t.Optional[str], t.Optional[str]]:
    """A file's text, and why it cannot be read; both are None where there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(), None
    except OSError as exc:
        # A link that leads nowhere is there, and somebody meant it to lead to something.
        return None, "it cannot be opened: %s" % exc.strerror if os.path.lexists(path) else None


def write_text(path: str, text: str, mode: t.Optional[int] = None) -> None:
    """Replace a file in one step, on the disk before this returns; its mode stays as it was."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    if mode is None:
        try:
            mode = os.stat(path).st_mode & 0o7777
        except OSError:
            mode = 0o644
    descriptor, temporary = tempfile.mkstemp(prefix=".homelab-", dir=directory)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    directory_fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(directory_fd)
    finally:
        os.close(directory_fd)


def command_line(process_name: str) -> t.Tuple[t.Optional[int], t.List[str]]:
    """The pid and words of the running program of this name (the first found)."""
    for entry in sorted((e for e in os.listdir("/proc") if e.isdigit()), key=int):
        words = (read_text("/proc/%s/cmdline" % entry) or "").split("\0")
        if words and os.path.basename(words[0]) == process_name:
            return int(entry), [word for word in words if word]
    return None, []


def file_system(path: str) -> str:
    """The type of the file system that PATH is on, "" where the mount table does not say."""
    best, kind = "", ""
    for line in (read_text("/proc/self/mounts") or "").splitlines():
        words = line.split()
        if len(words) > 2:
            place = words[1].replace("\\040", " ")
            inside = path == place or path.startswith(place.rstrip("/") + "/")
            if inside and len(place) >= len(best):
                best, kind = place, words[2]
    return kind


def disk_facts(path: str) -> t.Dict[str, t.Any]:
    """Where PATH is or will be: its nearest directory that exists now."""
    existing = path
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    status = os.statvfs(existing)
    return {
        "path": path,
        "device": os.stat(existing).st_dev,
        "free_bytes": status.f_bavail * status.f_frsize,
        "total_bytes": status.f_blocks * status.f_frsize,
        "free_inodes": status.f_favail,
        "total_inodes": status.f_files,
        "file_system": file_system(os.path.realpath(existing)),
    }


def unit_active(unit: str) -> bool:
    return run(["systemctl", "is-active", "--quiet", unit], check=False).returncode == 0


def journal_tail(unit: str, lines: int = 15) -> str:
    """The end of a unit's journal, for an error message."""
    done = run(["journalctl", "-u", unit, "-n", str(lines), "--no-pager", "-o", "cat"], check=False)
    return done.stdout.strip() or "(the journal of %s is empty)" % unit


def ctr(*words: str, timeout: float = 60) -> str:
    """Run containerd's own client in the kubelet's namespace and return what it prints."""
    return run(("ctr", "-n", NAMESPACE) + words, timeout=timeout).stdout


def ctr_feed(arguments: t.Sequence[str], chunks: t.Iterable[bytes]) -> None:
    """Give ctr its standard input as it comes; NodeError with what ctr says."""
    words = ["ctr", "-n", NAMESPACE] + list(arguments)
    with tempfile.TemporaryFile() as output:
        sink = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=output, stderr=output)
        stdin = t.cast("t.IO[bytes]", sink.stdin)
        try:
            for chunk in chunks:
                stdin.write(chunk)
            stdin.close()
        except BrokenPipeError:
            pass  # ctr ended; what it printed says why
        except BaseException:
            sink.kill()
            sink.wait()
            raise
        if sink.wait() != 0:
            output.seek(0)
            printed = output.read().decode("utf-8", "replace").strip()[-2000:]
            raise NodeError("%s: %s" % (" ".join(words), printed))


def ctr_import(chunks: t.Iterable[bytes], *options: str) -> None:
    """Feed an image archive to ``ctr images import`` as it comes."""
    ctr_feed(["images", "import"] + list(options) + ["-"], chunks)


def containerd_images() -> t.Dict[str, t.Dict[str, t.Any]]:
    """Image references in the kubelet's namespace: {"digest": of the manifest, "labels": [...]}."""
    references = {}
    for line in ctr("images", "list").splitlines()[1:]:
        words = line.split()
        if len(words) >= 3:
            references[words[0]] = {"digest": words[2], "labels": words[-1].split(",")}
    return references


def finish(
    module: t.Any,
    work: t.Callable[[], t.Dict[str, t.Any]],
    *failures: t.Type[Exception],
) -> None:
    """Do a watched module's work and end it, with its result or with what went wrong.

    failures: exceptions besides NodeError whose text is for the person who reads it. The last
    line of progress comes first: the action plugin then asks for the result.
    """
    progress = Progress(module.params["progress_file"])
    try:
        result = work()
    except (NodeError,) + failures as exc:
        progress.end()
        module.fail_json(msg=str(exc))
    else:
        progress.end()
        module.exit_json(**result)


class Progress:
    """What a module is doing now, as JSON lines in a file that the action plugin reads.

    Each line is {"time": epoch seconds, "text": sentence, "pid": of the module}.
    """

    def __init__(self, path: t.Optional[str]) -> None:
        self.path = path

    def say(self, text: str) -> None:
        line = {"time": round(time.time(), 1), "text": text, "pid": os.getpid()}
        if self.path:
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")

    def end(self) -> None:
        """The last line: the result is about to be there."""
        if self.path:
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps({"ended": True}) + "\n")

# Copyright (c) 2026, the homelab.containerd authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every part of the lab needs: running programs, progress, the lock, and the host's engine."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from cache import CACHE

HERE = Path(__file__).resolve().parent
LAB = CACHE / "lab"
# Go's and Debian's name of the machine: the two differ for none of those that are supported.
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())

# The file system types under which overlayfs cannot keep its upper directory.
NO_OVERLAY = {"overlay", "aufs", "nfs", "nfs4", "ecryptfs", "fuse", "vfat"}
CAP_SYS_RESOURCE = 24

Result = TypeVar("Result")


class Failure(Exception):
    """Something a person has to read: what was tried, what came out, what to do next."""


def say(text: str) -> None:
    print(text, flush=True)


def tail(text: str, lines: int = 25) -> str:
    return "\n".join("    " + line[:300] for line in text.strip().splitlines()[-lines:])


def run(
    *command: str | Path,
    check: bool = True,
    text: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: IO[bytes] | None = None,
    timeout: float | None = None,
    hint: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a program; a failure says what was run, what it printed, and what to do next."""
    words = [str(word) for word in command]
    source = stdin if stdin is not None or text is not None else subprocess.DEVNULL
    try:
        done = subprocess.run(
            words,
            stdin=source,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=dict(env) if env is not None else None,
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise Failure(f"{words[0]} is not installed. {hint}".strip()) from None
    except subprocess.TimeoutExpired:
        raise Failure(f"no answer in {timeout} s: {' '.join(words)}") from None
    if check and done.returncode != 0:
        shown = " ".join(words)
        shown = shown if len(shown) < 300 else shown[:300] + " …"
        message = f"exit code {done.returncode} from: {shown}\n{tail(done.stdout + done.stderr)}"
        raise Failure(message + (f"\n  next: {hint}" if hint else ""))
    return done


def output(*command: str | Path, **options: Any) -> str:
    return run(*command, **options).stdout.strip()


class Progress:
    """Numbered steps: each prints its start, what is left, and the seconds it took."""

    def __init__(self, title: str, steps: Sequence[tuple[str, float]]) -> None:
        """Steps are (name, usual seconds on two cores); the seconds only serve "left"."""
        self.title = title
        self.steps = list(steps)
        self.begun = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        index = [step[0] for step in self.steps].index(name)
        later = self.steps[index + 1 :]
        left = ", ".join(step[0] for step in later) or "nothing"
        about = sum(step[1] for step in self.steps[index:])
        say(
            f"{self.title} [{index + 1}/{len(self.steps)}] {name} … "
            f"(about {about:.0f} s to go; left after this: {left})"
        )
        start = time.monotonic()
        try:
            yield
        except Failure as failure:
            raise Failure(f"{self.title}: step '{name}' failed: {failure}") from None
        say(
            f"{self.title} [{index + 1}/{len(self.steps)}] {name}: {time.monotonic() - start:.1f} s"
        )

    def done(self, result: str) -> None:
        say(f"{self.title}: {result} ({time.monotonic() - self.begun:.1f} s)")


def wait_for(what: str, probe: Callable[[], Result | None], seconds: float) -> Result:
    """Ask until there is an answer; Failure from the probe counts as none."""
    deadline = time.monotonic() + seconds
    while True:
        reason = ""
        try:
            answer = probe()
            if answer:
                return answer
        except Failure as failure:
            reason = f"\n  last answer: {failure}"
        if time.monotonic() > deadline:
            raise Failure(f"waited {seconds:.0f} s in vain for {what}{reason}")
        time.sleep(0.3)


@contextmanager
def lock(name: str) -> Iterator[None]:
    """One at a time. Python's descriptors are not inherited, so no daemon keeps the lock."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f".lock-{name}", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another lab {name} is running here; waiting for it to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- the host -------------------------------------------------------------------------------


def has_sys_resource() -> bool:
    """Whether this host can hand out CAP_SYS_RESOURCE (--privileged fails where it cannot)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapBnd:"):
            return bool(int(line.split()[1], 16) >> CAP_SYS_RESOURCE & 1)
    return True


def apt_install(*packages: str) -> None:
    """Install what is missing, from Debian."""
    if shutil.which("dpkg-query") is None or shutil.which("apt-get") is None:
        raise Failure(f"this is no Debian host: install by hand: {' '.join(packages)}")
    listed = run(
        "dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages, check=False
    )
    have = {line.split()[0] for line in listed.stdout.splitlines() if line.endswith(" installed")}
    missing = [package for package in packages if package not in have]
    if not missing:
        return
    if os.geteuid() != 0:
        raise Failure(f"as root: apt-get install --no-install-recommends {' '.join(missing)}")
    say(f"installing {' '.join(missing)} on this host")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    hint = "check /etc/apt/sources.list and the way to the Debian mirror"
    run("apt-get", "update", env=env, hint=hint)
    run("apt-get", "install", "-y", "--no-install-recommends", *missing, env=env, hint=hint)


def docker_info() -> dict[str, Any] | None:
    if shutil.which("docker") is None:
        return None
    done = run("docker", "info", "--format", "{{json .}}", check=False, timeout=60)
    try:
        info = json.loads(done.stdout)
    except ValueError:
        return None
    return info if isinstance(info, dict) and info.get("ServerVersion") else None


def debian_mirror(suite: str) -> str:
    """The Debian mirror that this host's apt is set up for: one with the suite, or any; else ""."""
    targets = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"]
    try:
        said = run(*targets, check=False).stdout
    except Failure:
        said = ""
    sites = [line.split() for line in said.splitlines() if len(line.split()) == 2]
    debian = [site for site in sites if site[0].rstrip("/").endswith("/debian")]
    return next((site[0] for site in debian if site[1] == suite), debian[0][0] if debian else "")


def ensure_engine() -> dict[str, Any]:
    """A container engine on this host that can carry a node; answers what `docker info` says."""
    info = docker_info()
    if info is None and os.environ.get("DOCKER_HOST"):
        raise Failure(f"no docker answers at DOCKER_HOST={os.environ['DOCKER_HOST']}")
    if info is None:
        if shutil.which("dockerd") is None or shutil.which("docker") is None:
            apt_install("docker.io")
        if Path("/run/systemd/system").is_dir():
            run("systemctl", "start", "docker", hint="journalctl -u docker")
        elif os.geteuid() == 0:
            start_engine()
        else:
            raise Failure("docker is not running and this is not root: start it, or use root")
        try:
            info = wait_for("docker to answer on this host", docker_info, 60)
        except Failure as failure:
            log = CACHE / "dockerd.log"
            said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            raise Failure(f"{failure}\n  {log}:\n{tail(said)}") from None
    root = info.get("DockerRootDir", "/var/lib/docker")
    kind = file_system(Path(root))
    if kind in NO_OVERLAY or kind.startswith("fuse"):
        raise Failure(
            f"{root} is on {kind}, which cannot carry overlay2 inside a node's volumes\n"
            "  next: put docker's data-root on ext4 or xfs (daemon.json: data-root)"
        )
    raise_inotify_limit()
    return info


def raise_inotify_limit() -> None:
    """All nodes share root's inotify instances: with the kernel's 128, the CRI plugin of the
    fourth or fifth node fails to load ("failed to create fsnotify watcher: too many open files").
    """
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    try:
        if int(limit.read_text(encoding="ascii")) < 1024:
            limit.write_text("1024", encoding="ascii")
    except OSError:
        print(
            "note: fs.inotify.max_user_instances cannot be raised here; few nodes at once will do",
            flush=True,
        )


def start_engine() -> None:
    """Without systemd nobody else starts dockerd; it goes on when this program ends."""
    log = CACHE / "dockerd.log"
    say(f"starting dockerd on this host (log: {log})")
    for leftover in (Path("/var/run/docker.pid"), Path("/run/docker/containerd/containerd.pid")):
        # A pid file of a daemon that is gone stops the next one, if the number was given again.
        if (
            leftover.exists()
            and not Path("/proc", leftover.read_text().strip() or "0", "exe").exists()
        ):
            leftover.unlink()
    with open(log, "ab") as file:
        subprocess.Popen(
            ["dockerd"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            close_fds=True,
        )


def file_system(path: Path) -> str:
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, point, type_ = line.split()[:3]
        inside = str(path) == point or str(path).startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, type_
    return kind

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a build, from what buildctl prints, and what to do about a failure."""

from __future__ import annotations

import base64
import datetime
import json
import re
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import sanitize

#: Lines of a failed step that its message repeats.
LOG_LINES = 15

#: BuildKit's words for a base image without the blobs of its layers.
NO_BLOBS = (
    r"could not fetch content descriptor sha256:\S+|content digest sha256:\S+ not found"
    r"|failed to get reader from content store"
)

#: What buildctl's last words mean to the person who reads them.
REMEDIES = (
    (
        NO_BLOBS,
        "A base image misses blobs of its layers in containerd: it was adopted from docker, its "
        "blobs could not be restored, and no registry has it. Wait until they are restored (role "
        "carry_images, docs/images.md), or import it yourself: docker save IMAGE | ctr -n k8s.io "
        "images import --no-unpack -",
    ),
    (
        r"failed to resolve source metadata for (?P<image>\S+?):? .*(?:not found|denied)",
        "No registry has the base image {image}, and containerd does not either (ctr -n k8s.io "
        "images list). Where only docker had it, run the role carry_images; see 'The base image "
        "can disappear' in docs/buildkit.md.",
    ),
    (
        r"failed to resolve source metadata for (?P<image>\S+?):? .*(?:dial tcp|lookup|timeout)",
        "The registry of the base image {image} does not answer. Where the node has the image, "
        "leave pull unset and it is not asked.",
    ),
    (
        r"failed to push .*(?:dial tcp|lookup|connection refused|EOF|timeout|no route)",
        "The image is built and cached; only the registry does not answer. Run it again when it "
        "does: nothing is built again.",
    ),
    (
        r"failed to push .*(?:denied|unauthorized|authorization|401|403)",
        "The registry requires a login: buildctl sends the one in /root/.docker/config.json of the "
        "node (option docker_config).",
    ),
    (
        r"server gave HTTP response to HTTPS client",
        "The registry uses plain http: list it in buildkit_registries with insecure: true.",
    ),
    (
        r"no space left on device",
        "The disk is full. buildctl prune frees the build cache; images stay.",
    ),
    (
        r"secret (?P<image>\S+): not found|secret not found",
        "The Dockerfile asks for a secret that was not given: name it in secrets.",
    ),
    (
        r"failed to read dockerfile: open (?P<image>\S+): no such file",
        "Set dockerfile to its path below the context.",
    ),
    (
        r"exec format error|no match for platform|does not support platform",
        "The node cannot run this platform's programs: leave platforms out, build on a node of "
        "that architecture, or install its emulator (binfmt).",
    ),
    (
        r"unknown scheme git|exec: \"git\": executable file not found|git.*not found in \$PATH",
        "buildkitd fetches a git context with the node's git, which it looks for when it starts: "
        "install git there and restart buildkitd (systemctl restart buildkit).",
    ),
    (
        r"code = Unavailable|error reading from server|transport is closing|connection refused|"
        r"connection error|closing transport",
        "buildkitd went away (journalctl -u buildkit). Nothing was published. Run it again: steps "
        "that had ended are cached.",
    ),
)

Event = t.Dict[str, t.Any]


def _time(text: t.Optional[str]) -> t.Optional[float]:
    """Seconds of an RFC 3339 time with up to nine digits of fraction."""
    found = re.match(r"(\d+-\d+-\d+T\d+:\d+:\d+)(?:\.(\d+))?(Z|[+-]\d+:\d+)", text or "")
    if not found:
        return None
    zone = found.group(3).replace("Z", "+00:00").replace(":", "")
    moment = datetime.datetime.strptime(found.group(1) + zone, "%Y-%m-%dT%H:%M:%S%z")
    return moment.timestamp() + float("0." + (found.group(2) or "0"))


class Steps:
    """A build's steps, from the events of ``buildctl --progress=rawjson``.

    An event is {"vertexes": [{"digest", "name", "started", "completed", "cached", "error"}],
    "statuses": [{"vertex", "id", "current", "total"}], "logs": [{"vertex", "data": base64}]}
    (client.SolveStatus of BuildKit). Names and logs are the Dockerfile's and its programs': they
    are made fit to be shown as they come in.

    mask: takes the build's own secrets out of a text, before any of its characters is replaced.
    """

    def __init__(self, mask: t.Callable[[str], str] = str) -> None:
        self.mask = mask
        self.steps: t.Dict[str, t.Dict[str, t.Any]] = {}
        self._partial: t.Dict[str, str] = {}

    def feed(self, event: Event) -> t.List[str]:
        """Take an event in; returns the sentences that are new with it."""
        said: t.List[str] = []
        for vertex in event.get("vertexes") or []:
            said += self._vertex(vertex)
        for log in event.get("logs") or []:
            said += self._log(log)
        return said

    def _vertex(self, vertex: Event) -> t.List[str]:
        known = self.steps.setdefault(
            vertex["digest"],
            {"name": "", "state": "", "seconds": 0.0, "log": []},
        )
        name = sanitize.shown(" ".join(self.mask(vertex.get("name", "")).split()))
        known["name"] = name
        # What BuildKit does for itself is not news, nor does it matter when it fails: a context
        # without a .dockerignore is an error in it.
        if name.startswith("[internal]"):
            return []
        error = vertex.get("error") or ""
        started, completed = _time(vertex.get("started")), _time(vertex.get("completed"))
        if started and not completed:
            # A FROM begins several times: resolve, fetch, unpack.
            before, known["state"] = known["state"], "runs"
            return [] if before else [name]
        if not completed or known["state"] in ("cached", "failed"):
            return []
        seconds = completed - started if started else 0.0
        known["seconds"] = round(known["seconds"] + seconds, 1)
        if "context canceled" in error:
            known["state"] = "cancelled"
        elif error:
            known["state"] = "failed"
            return ["%s FAILED after %.1f s" % (name, seconds)]
        elif vertex.get("cached"):
            known["state"] = "cached"
            return ["%s CACHED" % name]
        else:
            before, known["state"] = known["state"], "done"
            if seconds >= 0.05 or (before == "runs" and " FROM " not in name):
                return ["%s done, %.1f s" % (name, seconds)]
        return []

    def _log(self, log: Event) -> t.List[str]:
        step = self.steps.get(log.get("vertex", ""))
        if step is None:
            return []
        text = base64.b64decode(log.get("data") or "").decode("utf-8", "replace")
        text = self._partial.pop(log["vertex"], "") + text
        *whole, rest = text.split("\n")
        if rest:
            self._partial[log["vertex"]] = rest
        lines = [self._line(line) for line in whole]
        step["log"] = (step["log"] + lines)[-LOG_LINES:]
        return ["  " + line for line in lines if line.strip()]

    def _line(self, line: str) -> str:
        # What a terminal would have overwritten: the last of what one line was.
        return str(sanitize.shown(self.mask(line).rstrip("\r").rpartition("\r")[2]))

    def failed(self) -> t.Optional[t.Dict[str, t.Any]]:
        """The step that failed, with the end of what it printed."""
        for digest, step in self.steps.items():
            if step["state"] == "failed":
                rest = self._partial.get(digest)
                return dict(step, log=step["log"] + ([self._line(rest)] if rest else []))
        return None

    def report(self) -> t.List[t.Dict[str, t.Any]]:
        """name, state (done, cached, failed) and seconds of each step of the Dockerfile."""
        return [
            {key: step[key] for key in ("name", "state", "seconds")}
            for step in self.steps.values()
            if step["state"]
        ]


def parse(line: str) -> t.Optional[Event]:
    """An event, or None for a line that is meant for people."""
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def remedy(text: str) -> str:
    """What to do about buildctl's error, where it is known."""
    for pattern, advice in REMEDIES:
        found = re.search(pattern, text, re.IGNORECASE | re.DOTALL)
        if found:
            return advice.format(**found.groupdict())
    return ""


def failure(said: str, step: t.Optional[t.Dict[str, t.Any]]) -> str:
    """The message of a failed build: what buildctl said, the step's last words, what to do.

    said: the lines for people of buildctl's stderr. They hold the lines of the Dockerfile around
    the failing one, which is marked with >>>.
    """
    parts = ["The build failed.", said.strip() or "buildctl ended without a message."]
    if step and step["log"]:
        parts.append("The last that %s printed:\n%s" % (step["name"], "\n".join(step["log"])))
    advice = remedy(said)
    if advice:
        parts.append(advice)
    return "\n".join(parts)


def resolved(steps: Steps) -> str:
    """The digest that a build of ``FROM name`` found for the name, or ""."""
    for step in steps.steps.values():
        found = re.search(r"FROM \S+@(sha256:[0-9a-f]{64})", step["name"])
        if found:
            return found.group(1)
    return ""


def without_blobs(said: str, steps: Steps) -> t.Set[str]:
    """The digests in which a base image without blobs can be found, if that is why a build failed.

    They are of the blobs that BuildKit named, and of the manifests of all images in FROM.
    """
    if not re.search(NO_BLOBS, said):
        return set()
    named = " ".join([said] + [step["name"] for step in steps.steps.values()])
    return set(re.findall(r"sha256:[0-9a-f]{64}", named))


def absent(said: str) -> bool:
    """Whether a build of ``FROM name`` failed because the registry does not have the name."""
    return bool(re.search(r": not found(\s|$)", said))

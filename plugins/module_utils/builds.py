# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What buildctl is asked, and what it says, as sentences for people. Pure functions over data."""

from __future__ import annotations

import base64
import csv
import datetime
import io
import json
import re
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils import images

# The grammar of distribution/reference (reference/regexp.go), with the host optional as docker
# has it and without a digest: a name to publish under has none.
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = r"%s(?:\.%s)*(?::[0-9]+)?" % (_LABEL, _LABEL)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
TAG = re.compile(r"(?:%s/)?%s(?:/%s)*(?::[\w][\w.-]{0,127})?" % (_HOST, _PART, _PART), re.ASCII)
#: util/gitutil of BuildKit: what it takes for a git context rather than for a file by http.
GIT = re.compile(r"(?:git://|ssh://|git@|(?:https?://)[^#?]+\.git(?:[#?]|$)|github\.com/)")
PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9.]+)?")
#: Lines of a failed step that its message repeats.
LOG_LINES = 15

#: What buildctl's last words mean to the person who reads them.
REMEDIES = (
    (
        r"content digest sha256:\S+ not found|failed to get reader from content store",
        "A base image has no layer blobs in containerd: it was adopted from docker and its blobs "
        "were not filled in yet. Wait for the fill (role carry_images, docs/images.md), or bring "
        "it by hand: docker save IMAGE | ctr -n k8s.io images import --no-unpack -",
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
        "does: nothing is built anew.",
    ),
    (
        r"failed to push .*(?:denied|unauthorized|authorization|401|403)",
        "The registry wants a login: buildctl sends the one in /root/.docker/config.json of the "
        "node (option docker_config).",
    ),
    (
        r"server gave HTTP response to HTTPS client",
        "The registry speaks plain http: list it in buildkit_registries with insecure: true.",
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


def is_git(context: str) -> bool:
    """Whether BuildKit takes this context for a git repository that it fetches itself."""
    return bool(GIT.match(context))


def full_name(tag: str) -> str:
    """A short name as the kubelet looks for it. buildctl takes names as they are given."""
    name = images.normalize(tag)
    return name if ":" in name.rpartition("/")[2] else name + ":latest"


def problems(options: t.Dict[str, t.Any]) -> t.List[str]:
    """What is wrong with the options of the module build, a sentence each with key and remedy."""
    found = []
    if not options["tags"]:
        found.append("tags is empty: name what the image shall be called, as app:1")
    for tag in options["tags"]:
        if not TAG.fullmatch(tag):
            found.append(
                "tags has %r, which is no image name: [host[:port]/]path[:tag], the path in lower "
                "case" % tag
            )
    for platform in options["platforms"]:
        if not PLATFORM.fullmatch(platform):
            found.append("platforms has %r: it is written as linux/arm64" % platform)
    for key in ("cache_from", "cache_to"):
        for entry in options[key]:
            if not re.match(r"type=\w+(,|$)", entry):
                found.append(
                    "%s has %r: it is written as type=registry,ref=HOST/NAME or "
                    "type=local,%s=DIRECTORY"
                    % (key, entry, "src" if key == "cache_from" else "dest")
                )
    for name in options["build_args"]:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            found.append("build_args has the name %r: letters, digits and _ only" % name)
    for name in options["secrets"]:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            found.append("secrets has the id %r: letters, digits and _.- only" % name)
    if "archive" in options["destinations"] and not options["archive"]:
        found.append("destinations has archive: say in archive which file to write")
    if "node" in options["destinations"] and len(options["platforms"]) > 1:
        found.append(
            "destinations has node and platforms has several: a node runs one. Build for several "
            "into a registry or an archive"
        )
    if options["dockerfile"].startswith("/") or ".." in options["dockerfile"].split("/"):
        found.append("dockerfile is %r: it is a path below the context" % options["dockerfile"])
    return found


def _field(text: str) -> str:
    """One field of buildctl's comma-separated attributes."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow([text])
    return buffer.getvalue()


def _compressed(options: t.Dict[str, t.Any]) -> t.List[str]:
    """Without force, layers that a build for the node left uncompressed would go out as such."""
    return ["compression=" + options["compression"], "force-compression=true"]


def output(options: t.Dict[str, t.Any], destination: str, publish: bool, archive: str = "") -> str:
    """The value of --output. Without publish the image is made and goes nowhere.

    What stays on the node is not compressed: it would only cost time. archive: where to write it.
    """
    name = _field("name=" + ",".join(full_name(tag) for tag in options["tags"]))
    if destination == "archive" and publish:
        words = ["type=oci", _field("dest=" + archive), name]
        return ",".join(words + _compressed(options))
    words = ["type=image", name]
    if destination == "node":
        words.append("compression=uncompressed")
        words.append("unpack=true" if publish else "store=false")
    else:
        words += _compressed(options)
        if destination == "archive":
            words.append("oci-mediatypes=true")
        words.append("store=false")
        if publish:
            words.append("push=true")
    return ",".join(words)


def buildctl(
    options: t.Dict[str, t.Any], destination: str, publish: bool, metadata: str, archive: str = ""
) -> t.List[str]:
    """buildctl's command line. A secret's value is read from the variable secret_variable()."""
    words = ["build", "--progress=rawjson", "--frontend=dockerfile.v0"]
    if is_git(options["context"]):
        words.append("--opt=context=" + options["context"])
    else:
        words += [
            "--local=context=" + options["context"],
            "--local=dockerfile=" + options["context"],
        ]
    words.append("--opt=filename=" + options["dockerfile"])
    words.append("--opt=image-resolve-mode=" + ("pull" if options["pull"] else "local"))
    if options["target"]:
        words.append("--opt=target=" + options["target"])
    if options["platforms"]:
        words.append("--opt=platform=" + ",".join(options["platforms"]))
    for name, value in sorted(options["build_args"].items()):
        words.append("--opt=build-arg:%s=%s" % (name, value))
    for name in sorted(options["secrets"]):
        words.append("--secret=id=%s,env=%s" % (name, secret_variable(options, name)))
    if options["no_cache"] and not publish:
        # What is published was built by the run before it; its steps are not to run twice.
        words.append("--no-cache")
    words += ["--import-cache=" + entry for entry in options["cache_from"]]
    if publish:
        words += ["--export-cache=" + entry for entry in options["cache_to"]]
    words += ["--output=" + output(options, destination, publish, archive)]
    return words + ["--metadata-file=" + metadata]


def secret_variable(options: t.Dict[str, t.Any], name: str) -> str:
    """The environment variable of buildctl that holds a secret."""
    return "HOMELAB_SECRET_%d" % sorted(options["secrets"]).index(name)


def mask(text: str, secrets: t.Iterable[str]) -> str:
    """The text without the values, nor any longer line of one: a step may print what it has."""
    forms = set()
    for secret in secrets:
        forms |= {secret, secret.strip()} | {
            line.strip() for line in secret.splitlines() if len(line.strip()) >= 8
        }
    for form in sorted(filter(str.strip, forms), key=len, reverse=True):
        text = text.replace(form, "********")
    return text


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
    (client.SolveStatus of BuildKit).
    """

    def __init__(self) -> None:
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
        name = " ".join(vertex.get("name", "").split())
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
        # What a terminal would have overwritten: the last of what one line was.
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in whole]
        step["log"] = (step["log"] + lines)[-LOG_LINES:]
        return ["  " + line for line in lines if line.strip()]

    def failed(self) -> t.Optional[t.Dict[str, t.Any]]:
        """The step that failed, with the end of what it printed."""
        for digest, step in self.steps.items():
            if step["state"] == "failed":
                rest = self._partial.get(digest)
                return dict(step, log=step["log"] + ([rest] if rest else []))
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
    parts = ["The build failed.", said.strip() or "buildctl ended without a word."]
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


def absent(said: str) -> bool:
    """Whether a build of ``FROM name`` failed because the registry does not have the name."""
    return bool(re.search(r": not found(\s|$)", said))

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What buildctl is asked, and what it says, as sentences for people. Pure functions over data."""

from __future__ import annotations

import csv
import io
import re
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._containerd.image_names import (
    TAG,
    full_name,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.sanitize import is_secret

#: util/gitutil of BuildKit: what it takes for a git context rather than for a file by http.
GIT = re.compile(r"(?:git://|ssh://|git@|(?:https?://)[^#?]+\.git(?:[#?]|$)|github\.com/)")
PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9.]+)?")


def is_git(context: str) -> bool:
    """Whether BuildKit takes this context for a git repository that it fetches itself."""
    return bool(GIT.match(context))


def problems(options: t.Dict[str, t.Any]) -> t.List[str]:
    """What is wrong with the options of the module build, a sentence each with key and remedy."""
    found = []
    if not options["tags"]:
        found.append("tags is empty: set the names of the image, for example app:1")
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


def secret_values(options: t.Dict[str, t.Any]) -> t.List[str]:
    """What must not be shown of a build's options: of some the name says so."""
    named = [(name, str(value)) for name, value in options["build_args"].items()]
    for entry in options["cache_from"] + options["cache_to"]:
        named += [(word.partition("=")[0], word.partition("=")[2]) for word in entry.split(",")]
    # A value of a letter or two is a switch, and would be found in every line.
    telling = [value for name, value in named if is_secret(name) and len(value) >= 4]
    in_url = re.findall(r"://([^/\s]{8,})@", options["context"])
    return [value for value in options["secrets"].values() if value.strip()] + telling + in_url


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

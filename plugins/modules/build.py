#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: build
short_description: Build an image from a Dockerfile with the node's BuildKit
version_added: "0.1.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Takes the place of C(docker build). The image goes to this node's containerd, where the kubelet
    finds it, to a registry, to an OCI archive, or to several of these.
  - The steps are shown as they run. A failure names the failing line of the Dockerfile.
  - It builds first and publishes nothing, and then publishes what is new. So a failed build leaves
    nothing behind, and a second run that gives the same image changes nothing.
options:
  context:
    description:
      - A directory on the node, or a git repository that buildkitd fetches with the node's git,
        as V(https://git.lab/app.git#main:subdirectory).
      - The role of this name brings a directory of the controller to the node before.
    type: str
    required: true
  dockerfile:
    description: The Dockerfile, as a path below the context.
    type: str
    default: Dockerfile
  tags:
    description: The image's names.
    type: list
    elements: str
    required: true
  destinations:
    description:
      - V(node) is this node's containerd; layers are not compressed, since they go no further.
      - V(registry) pushes under the names of O(tags); V(archive) writes O(archive).
    type: list
    elements: str
    choices: [node, registry, archive]
    default: [node]
  archive:
    description: The file for an OCI archive (a tar) on the node.
    type: path
  build_args:
    description: Values for ARG. They are seen in the process list and in the image's history.
    type: dict
    default: {}
  target:
    description: The stage to build, the last one when empty.
    type: str
    default: ""
  platforms:
    description: What to build for, as V(linux/arm64); the node's own when empty.
    type: list
    elements: str
    default: []
  secrets:
    description:
      - Ids and values for C(RUN --mount=type=secret,id=ID).
      - They reach neither disk nor process list nor output; a step that prints one is shown with
        asterisks in its place.
    type: dict
  secrets_file:
    description: Set by the action plugin, which takes O(secrets) out of the arguments.
    type: path
  cache_from:
    description: Caches to import, as V(type=registry,ref=registry.lab/app/cache).
    type: list
    elements: str
    default: []
  cache_to:
    description: Where to export the cache, as V(type=registry,ref=registry.lab/app/cache,mode=max).
    type: list
    elements: str
    default: []
  no_cache:
    description: Run every step anew. The image is new then, and the task changed.
    type: bool
    default: false
  pull:
    description: Ask the registries for the base images even where containerd has them.
    type: bool
    default: false
  compression:
    description: Of the layers that leave the node.
    type: str
    choices: [gzip, zstd, estargz, uncompressed]
    default: gzip
  docker_config:
    description: The directory with the config.json that holds the logins to registries.
    type: path
    default: /root/.docker
  address:
    description: buildkitd's socket.
    type: str
    default: unix:///run/buildkit/buildkitd.sock
  containerd_namespace:
    description: containerd's namespace that buildkitd builds in.
    type: str
    default: k8s.io
  timeout:
    description: Seconds for the whole build.
    type: int
    default: 7200
  progress_file:
    description: Where to write progress. Set by the action plugin.
    type: path
attributes:
  check_mode:
    description:
      - Builds, into the cache alone, and publishes nothing; so it knows whether the image is new,
        and finds errors in the Dockerfile. The run after it finds every step cached.
    support: full
  diff_mode:
    description: Shows each name with its image ID before and after.
    support: full
"""

EXAMPLES = r"""
- name: Build what the pods of this node run
  homelab.containerd.build:
    context: /srv/app
    tags: [home/app:1]

- name: Build from git, with a token, for the registry
  homelab.containerd.build:
    context: https://git.lab/app.git#v1.2
    tags: [registry.lab:5000/app:1.2, registry.lab:5000/app:latest]
    destinations: [registry]
    secrets:
      GIT_AUTH_TOKEN: "{{ git_token }}"
"""

RETURN = r"""
image_id:
  description: The digest of the image's configuration, as docker and CRI show it.
  returned: success
  type: str
digests:
  description: Destination to the digest of the manifest that it got.
  returned: success
  type: dict
published:
  description: >-
    What was new, each with C(destination), C(name) and C(digest); in check mode what would be.
  returned: success
  type: list
  elements: dict
steps:
  description: The Dockerfile's steps, each with C(name), C(state) (done or cached) and C(seconds).
  returned: success
  type: list
  elements: dict
seconds:
  description: How long it took, to a hundredth.
  returned: success
  type: float
"""

import json
import os
import tarfile
import tempfile
import threading
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils import builds, node

PIN = "io.cri-containerd.pinned"

Published = t.Dict[str, str]


class Builder:
    def __init__(self, options: t.Dict[str, t.Any]) -> None:
        self.options = options
        self.progress = node.Progress(options["progress_file"])
        self.deadline = time.monotonic() + options["timeout"]
        self.masked = list(options["secrets"].values())
        self.told = False
        self.client = ["buildctl", "--addr=" + options["address"]]

    # --- buildctl -------------------------------------------------------------------------------

    def buildctl(
        self, words: t.Sequence[str], tell: t.Callable[[str], bool]
    ) -> t.Tuple[int, str, builds.Steps]:
        """Run buildctl: its exit status, its lines for people, the steps.

        tell: which sentences of the steps a person shall see.
        """
        env = dict(os.environ, LC_ALL="C", DOCKER_CONFIG=self.options["docker_config"])
        env["PATH"] = env.get("PATH", "") + ":/usr/local/bin"
        for name, value in self.options["secrets"].items():
            env[builds.secret_variable(self.options, name)] = value
        command = self.client + list(words)
        try:
            process = node.start(command, env)
        except OSError as exc:
            raise node.NodeError(
                "buildctl cannot be run: %s. The role buildkit installs it." % exc
            ) from exc
        # Asked to end, it still notes which build it was (forget()).
        timer = threading.Timer(max(0.0, self.deadline - time.monotonic()), process.terminate)
        timer.start()
        steps = builds.Steps()
        said = []
        try:
            for line in t.cast("t.IO[str]", process.stderr):
                event = builds.parse(line)
                if event is None:
                    said.append(line)
                    continue
                for sentence in filter(tell, steps.feed(event)):
                    self.progress.say(builds.mask(sentence, self.masked))
            status = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
        if time.monotonic() > self.deadline:
            said.append("It was ended after %d s (timeout).\n" % self.options["timeout"])
        return status, builds.mask("".join(said), self.masked), steps

    def forget(self, place: str) -> None:
        """Remove a build from buildkitd's history, which keeps on disk what its steps printed."""
        ref = node.read_text(place)
        if not ref:
            return
        words = self.client + ["debug", "ctl", "--delete", ref]
        for _attempt in range(5):  # buildkitd may be restarting
            if node.run(words, check=False).returncode == 0:
                return
            time.sleep(1)
        self.progress.say(
            "buildkitd's history may hold a secret that a step printed: buildctl prune-histories"
        )

    def worker(self) -> t.Dict[str, t.Any]:
        """buildkitd's worker: its labels and platforms."""
        words = self.client + ["debug", "workers"]
        done = node.run(words + ["--format={{json .}}"], check=False)
        try:
            return t.cast("t.Dict[str, t.Any]", json.loads(done.stdout)[0])
        except (ValueError, IndexError, KeyError):
            raise node.NodeError(
                "No buildkitd answers at %s (option address): %s. The role buildkit installs it; "
                "systemctl status buildkit says what it does."
                % (self.options["address"], (done.stderr or done.stdout).strip()[-500:])
            )

    def solve(self, destination: str, publish: bool, archive: str = "") -> t.Dict[str, t.Any]:
        """One run of buildctl build: what it says of the image, and "steps"."""
        with tempfile.TemporaryDirectory(prefix="homelab-build-") as directory:
            metadata = os.path.join(directory, "metadata.json")
            ref = os.path.join(directory, "ref")
            words = builds.buildctl(self.options, destination, publish, metadata, archive)
            words.append("--ref-file=" + ref)
            # Further runs find every step cached: what they export or push is all that is new.
            first, self.told = not self.told, True
            try:
                status, said, steps = self.buildctl(
                    words, lambda sentence: first or sentence.startswith(("exporting", "pushing"))
                )
            finally:
                if self.options["secrets"]:
                    self.forget(ref)
            if status != 0:
                step = steps.failed()
                if step:
                    step["log"] = [builds.mask(line, self.masked) for line in step["log"]]
                raise node.NodeError(builds.failure(said, step))
            with open(metadata, encoding="utf-8") as stream:
                return dict(json.load(stream), steps=steps.report())

    # --- what is there before -------------------------------------------------------------------

    def ctr(self, *words: str) -> str:
        return node.run(
            ["ctr", "-n", self.options["containerd_namespace"]] + list(words), timeout=120
        ).stdout

    def on_node(self) -> t.Dict[str, t.Dict[str, t.Any]]:
        """containerd's names among the tags: {"digest", "pinned"}."""
        wanted = {builds.full_name(tag) for tag in self.options["tags"]}
        found = {}
        for line in self.ctr("images", "list").splitlines()[1:]:
            words = line.split()
            if len(words) >= 3 and words[0] in wanted:
                found[words[0]] = {"digest": words[2], "pinned": PIN + "=pinned" in words[-1]}
        return found

    def image_id(self, digest: str) -> str:
        """The image ID of a manifest; an index stands for itself."""
        try:
            manifest = json.loads(self.ctr("content", "get", digest))
            return str(manifest.get("config", {}).get("digest", digest))
        except (node.NodeError, ValueError):
            return digest

    def in_registry(self, tag: str) -> str:
        """The digest that the registry has for a name, or "".

        buildkitd is asked, by a Dockerfile that only says FROM: it knows the registry's mirrors,
        certificates and logins.
        """
        with tempfile.TemporaryDirectory(prefix="homelab-build-") as directory:
            with open(os.path.join(directory, "Dockerfile"), "w", encoding="utf-8") as stream:
                stream.write("FROM %s\n" % tag)
            words = ["build", "--progress=rawjson", "--frontend=dockerfile.v0"]
            words += ["--local=dockerfile=" + directory, "--opt=image-resolve-mode=pull"]
            if self.options["platforms"]:
                words.append("--opt=platform=" + self.options["platforms"][0])
            status, said, steps = self.buildctl(words, lambda sentence: False)
        if status != 0:
            if builds.absent(said):
                return ""
            raise node.NodeError(
                "The image is built; the registry could not be asked what it has under %s:\n%s\n%s"
                % (
                    tag,
                    said.strip().rpartition("error: ")[2],
                    "Nothing was pushed. Run it again when the registry answers: every step is "
                    "cached. Where it is the address that is wrong, correct tags.",
                )
            )
        return builds.resolved(steps)

    def in_archive(self) -> str:
        """The image ID (or an index's digest) in the archive that is there, or ""."""
        try:
            with tarfile.open(self.options["archive"]) as tar:

                def read(name: str) -> t.Any:
                    stream = tar.extractfile(name)
                    return json.loads(stream.read()) if stream else {}

                digest = read("index.json")["manifests"][0]["digest"]
                manifest = read("blobs/" + digest.replace(":", "/"))
                return str(manifest.get("config", {}).get("digest", digest))
        except (OSError, KeyError, IndexError, ValueError, tarfile.TarError):
            return ""

    # --- publishing -----------------------------------------------------------------------------

    def to_node(self, built: t.Dict[str, t.Any], publish: bool) -> t.List[Published]:
        before = self.on_node()
        wanted = built["image_id"]
        new = []
        for tag in self.options["tags"]:
            name = builds.full_name(tag)
            had = before.get(name, {}).get("digest", "")
            had = self.image_id(had) if had else ""
            if had != wanted:
                new.append({"destination": "node", "name": name, "before": had, "after": wanted})
        if new and publish:
            self.solve("node", True)
            for name, entry in before.items():
                if entry["pinned"]:  # an export takes the label away
                    self.ctr("images", "label", name, PIN + "=pinned")
        return new

    def to_registry(self, built: t.Dict[str, t.Any], publish: bool) -> t.List[Published]:
        new = []
        for tag in self.options["tags"]:
            had, wanted = self.in_registry(tag), built["containerimage.digest"]
            if had != wanted:
                new.append({"destination": "registry", "name": tag, "before": had, "after": wanted})
        if new and publish:
            self.solve("registry", True)
        return new

    def to_archive(self, built: t.Dict[str, t.Any], publish: bool) -> t.List[Published]:
        path = self.options["archive"]
        had, wanted = self.in_archive(), built["image_id"]
        if had == wanted:
            return []
        if publish:
            descriptor, temporary = tempfile.mkstemp(
                prefix=".homelab-", dir=os.path.dirname(path) or "/"
            )
            os.close(descriptor)
            try:
                self.solve("archive", True, temporary)
                os.chmod(temporary, 0o644)
                os.rename(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        return [{"destination": "archive", "name": path, "before": had, "after": wanted}]


def check(options: t.Dict[str, t.Any], builder: Builder) -> None:
    """Refuse what cannot work, before anything runs."""
    wrong = builds.problems(options)
    if not builds.is_git(options["context"]):
        path = os.path.join(options["context"], options["dockerfile"])
        if not os.path.isdir(options["context"]):
            wrong.append(
                "context is %s, which is no directory on this node and no git repository (as "
                "https://git.lab/app.git#main)" % options["context"]
            )
        elif not os.path.isfile(path):
            wrong.append("dockerfile: there is no %s" % path)
    if "archive" in options["destinations"] and options["archive"]:
        directory = os.path.dirname(options["archive"])
        if not os.path.isdir(directory):
            wrong.append("archive: there is no directory %s" % directory)
    if not wrong:
        worker = builder.worker()
        executor = worker["labels"].get("org.mobyproject.buildkit.worker.executor")
        namespace = worker["labels"].get("org.mobyproject.buildkit.worker.containerd.namespace")
        if "node" in options["destinations"] and executor != "containerd":
            wrong.append(
                "destinations has node, and buildkitd's worker is not containerd's (%s): it cannot "
                "put images there. Set buildkit_worker to containerd, or build for a registry"
                % executor
            )
        elif "node" in options["destinations"] and namespace != options["containerd_namespace"]:
            wrong.append(
                "containerd_namespace is %s, and buildkitd builds in %s: pods would not find the "
                "image" % (options["containerd_namespace"], namespace)
            )
        known = {"%s/%s" % (p["os"], p["architecture"]) for p in worker.get("platforms") or []}
        # Elsewhere an image for another platform is of use, and to cross-compile takes no emulator.
        for platform in options["platforms"] if "node" in options["destinations"] else ():
            if "/".join(platform.split("/")[:2]) not in known:
                wrong.append(
                    "platforms has %s, and this node runs %s: build on a node of that "
                    "architecture, install its emulator (binfmt), or build for a registry"
                    % (platform, ", ".join(sorted(known)))
                )
    if wrong:
        raise node.NodeError("Nothing was built: %s." % "; ".join(wrong))


def run_module(module: AnsibleModule) -> t.Dict[str, t.Any]:
    started = time.monotonic()
    options = dict(module.params)
    options["secrets"] = take_secrets(module)
    options["build_args"] = {key: str(value) for key, value in options["build_args"].items()}
    builder = Builder(options)
    check(options, builder)
    ways = {"node": builder.to_node, "registry": builder.to_registry, "archive": builder.to_archive}
    steps: t.List[t.Dict[str, t.Any]] = []
    digests = {}
    new: t.List[Published] = []
    built: t.Dict[str, t.Any] = {}
    # Every form of it is made before the first is published: a failure leaves all as it was.
    made = {}
    for destination in options["destinations"]:
        built = builder.solve(destination, False)
        built["image_id"] = built.get(
            "containerimage.config.digest", built["containerimage.digest"]
        )
        made[destination] = built
        digests[destination] = built["containerimage.digest"]
        steps = steps or built["steps"]
        options["no_cache"] = False
    for destination, built in made.items():
        new += ways[destination](built, not module.check_mode)
    for entry in new:
        builder.progress.say(
            "%s %s: %s" % (entry["destination"], entry["name"], entry["after"][:19])
        )
    if not new:
        builder.progress.say("nothing new: %s is there already" % built["image_id"][:19])

    def listing(key: str) -> str:
        return "".join(
            "%s %s %s\n" % (entry["destination"], entry["name"], entry[key] or "absent")
            for entry in new
        )

    return {
        "changed": bool(new),
        "image_id": built["image_id"],
        "digests": digests,
        "published": [
            {
                "destination": entry["destination"],
                "name": entry["name"],
                "digest": digests[entry["destination"]],
            }
            for entry in new
        ],
        "steps": [dict(step, name=builds.mask(step["name"], builder.masked)) for step in steps],
        "seconds": round(time.monotonic() - started, 2),
        "diff": {"before": listing("before"), "after": listing("after")},
    }


def take_secrets(module: AnsibleModule) -> t.Dict[str, str]:
    """The secrets, from the file in memory that the action plugin wrote; it is gone afterwards."""
    path = module.params["secrets_file"]
    if not path:
        return {key: str(value) for key, value in (module.params["secrets"] or {}).items()}
    try:
        with open(path, encoding="utf-8") as stream:
            values = json.load(stream)
        os.unlink(path)
    except (OSError, ValueError) as exc:
        raise node.NodeError("The secrets did not arrive: %s. Run it again." % exc) from exc
    module.no_log_values.update(value for value in values.values() if value.strip())
    return dict(values)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "context": {"type": "str", "required": True},
            "dockerfile": {"type": "str", "default": "Dockerfile"},
            "tags": {"type": "list", "elements": "str", "required": True},
            "destinations": {
                "type": "list",
                "elements": "str",
                "choices": ["node", "registry", "archive"],
                "default": ["node"],
            },
            "archive": {"type": "path"},
            "build_args": {"type": "dict", "default": {}},
            "target": {"type": "str", "default": ""},
            "platforms": {"type": "list", "elements": "str", "default": []},
            "secrets": {"type": "dict", "no_log": True},
            "secrets_file": {"type": "path", "no_log": False},
            "cache_from": {"type": "list", "elements": "str", "default": []},
            "cache_to": {"type": "list", "elements": "str", "default": []},
            "no_cache": {"type": "bool", "default": False},
            "pull": {"type": "bool", "default": False},
            "compression": {
                "type": "str",
                "choices": ["gzip", "zstd", "estargz", "uncompressed"],
                "default": "gzip",
            },
            "docker_config": {"type": "path", "default": "/root/.docker"},
            "address": {"type": "str", "default": "unix:///run/buildkit/buildkitd.sock"},
            "containerd_namespace": {"type": "str", "default": "k8s.io"},
            "timeout": {"type": "int", "default": 7200},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    node.finish(module, lambda: run_module(module))


if __name__ == "__main__":
    main()

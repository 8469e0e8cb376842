# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build an image on the node through buildctl."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
import threading
import time
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._build import buildctl
from ansible_collections.homelab.containerd.plugins.module_utils._build import (
    progress as build_progress,
)
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import (
    blobs,
    image_names,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    files,
    progress,
)

PIN = "io.cri-containerd.pinned"
Published = t.Dict[str, str]


class Builder:
    def __init__(self, options: t.Dict[str, t.Any]) -> None:
        self.options = options
        self.progress = progress.Progress(options["progress_file"])
        self.deadline = time.monotonic() + options["timeout"]
        self.masked = buildctl.secret_values(options)
        self.told = False
        #: Base images whose blobs were restored, and whether they are pulled instead.
        self.restored: t.List[str] = []
        self.pulled = False
        self.client = ["buildctl", "--addr=" + options["address"]]

    # --- buildctl -------------------------------------------------------------------------------

    def buildctl(
        self, words: t.Sequence[str], tell: t.Callable[[str], bool]
    ) -> t.Tuple[int, str, build_progress.Steps]:
        """Run buildctl: its exit status, its lines for people, the steps.

        tell: which sentences of the steps to show.
        """
        env = dict(os.environ, LC_ALL="C", DOCKER_CONFIG=self.options["docker_config"])
        env["PATH"] = env.get("PATH", "") + ":/usr/local/bin"
        for name, value in self.options["secrets"].items():
            env[buildctl.secret_variable(self.options, name)] = value
        command = self.client + list(words)
        try:
            process = commands.start(command, env)
        except OSError as exc:
            raise commands.NodeError(
                "buildctl cannot be run: %s. The role buildkit installs it." % exc
            ) from exc
        # Asked to end, it still notes which build it was (forget()).
        timer = threading.Timer(max(0.0, self.deadline - time.monotonic()), process.terminate)
        timer.start()
        steps = build_progress.Steps(self.mask)
        said = []
        try:
            for line in t.cast("t.IO[str]", process.stderr):
                event = build_progress.parse(line)
                if event is None:
                    said.append(line)
                    continue
                for sentence in filter(tell, steps.feed(event)):
                    self.progress.say(sentence)
            status = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
        if time.monotonic() > self.deadline:
            said.append("It was ended after %d s (timeout).\n" % self.options["timeout"])
        return status, self.mask("".join(said)), steps

    def mask(self, text: str) -> str:
        return buildctl.mask(text, self.masked)

    def forget(self, place: str) -> None:
        """Remove a build from buildkitd's history, which keeps on disk what its steps printed."""
        ref = files.read_text(place)
        if not ref:
            return
        words = self.client + ["debug", "ctl", "--delete", ref]
        for _attempt in range(5):  # buildkitd may be restarting
            if commands.run(words, check=False).returncode == 0:
                return
            time.sleep(1)
        self.progress.say(
            "buildkitd's history may hold a secret that a step printed: buildctl prune-histories"
        )

    def worker(self) -> t.Dict[str, t.Any]:
        """buildkitd's worker: its labels and platforms."""
        words = self.client + ["debug", "workers"]
        done = commands.run(words + ["--format={{json .}}"], check=False)
        try:
            return t.cast("t.Dict[str, t.Any]", json.loads(done.stdout)[0])
        except (ValueError, IndexError, KeyError):
            raise commands.NodeError(
                "No buildkitd answers at %s (option address): %s. The role buildkit installs it; "
                "systemctl status buildkit says what it does."
                % (self.options["address"], (done.stderr or done.stdout).strip()[-500:])
            )

    def solve(self, destination: str, publish: bool, archive: str = "") -> t.Dict[str, t.Any]:
        """One run of buildctl build: what it says of the image, and "steps"."""
        with tempfile.TemporaryDirectory(prefix="homelab-build-") as directory:
            metadata = os.path.join(directory, "metadata.json")
            ref = os.path.join(directory, "ref")
            words = buildctl.buildctl(self.options, destination, publish, metadata, archive)
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
            digests = build_progress.without_blobs(said, steps) if status != 0 else set()
            if digests and not self.pulled:
                self.complete_bases(digests)
                self.told = False
                return self.solve(destination, publish, archive)
            if status != 0:
                step = steps.failed()
                raise commands.NodeError(build_progress.failure(said, step))
            with open(metadata, encoding="utf-8") as stream:
                return dict(json.load(stream), steps=steps.report())

    def complete_bases(self, digests: t.Set[str]) -> None:
        """A base image was adopted from docker and misses blobs: restore them, or else pull it."""
        why = "containerd has no record of it"
        if not self.restored:
            try:
                self.restored = blobs.restore_bases(digests, self.progress)
            except (commands.NodeError, OSError) as exc:
                why = str(exc)
            if self.restored:
                return
        self.pulled = self.options["pull"] = True
        self.progress.say(
            "a base image misses blobs that cannot be restored (%s): this build pulls its base "
            "images from their registries" % why
        )

    # --- what is there before -------------------------------------------------------------------

    def ctr(self, *words: str) -> str:
        return commands.run(
            ["ctr", "-n", self.options["containerd_namespace"]] + list(words), timeout=120
        ).stdout

    def on_node(self) -> t.Dict[str, t.Dict[str, t.Any]]:
        """containerd's names among the tags: {"digest", "pinned"}."""
        wanted = {image_names.full_name(tag) for tag in self.options["tags"]}
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
        except (commands.NodeError, ValueError):
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
            if build_progress.absent(said):
                return ""
            raise commands.NodeError(
                "The image is built; the registry could not be asked what it has under %s:\n%s\n%s"
                % (
                    tag,
                    said.strip().rpartition("error: ")[2],
                    "Nothing was pushed. Run it again when the registry answers: every step is "
                    "cached. Where it is the address that is wrong, correct tags.",
                )
            )
        return build_progress.resolved(steps)

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
            name = image_names.full_name(tag)
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
    wrong = buildctl.problems(options)
    if not buildctl.is_git(options["context"]):
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
        raise commands.NodeError("Nothing was built: %s." % "; ".join(wrong))

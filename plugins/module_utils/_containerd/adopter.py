# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gives containerd the layers of docker's images in place, and then the images on them.

The order makes it safe to be killed anywhere, and to lose power. Linking happens in a directory of
our own. A layer gets the name containerd looks for, its chain ID, only when it is whole and on the
disk: containerd's databases reach the disk with each change, links and renames do not. ctr marks
what it prepares and commits as a root of garbage collection, so nothing is collected before the
images refer to it; which chains have that mark is noted before, and a later run takes it away.
That run also compares them with docker's layers, and removes what is not the same.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import filecmp
import json
import os
import shutil
import time
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._containerd import (
    adoption,
    client,
    comparison,
    image_names,
)
from ansible_collections.homelab.containerd.plugins.module_utils._docker import layer_store
from ansible_collections.homelab.containerd.plugins.module_utils._docker.api import DockerAPI
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands, files, paths

Image = t.Dict[str, t.Any]
ReportProgress = t.Callable[[t.Callable[[], str]], t.ContextManager[None]]
#: What was adopted, for restore_blobs: adoption.missing_blobs() has its form, and {"restore" and
#: "containerd_root": the options, "snapshots" and "docker": {chain ID: the layer's directory}}
#: besides.
RECORD = paths.STATE_DIR + "/adopted.json"
#: docker's records of the layers' tar streams, by chain ID: with them, the blobs can be made from
#: containerd's own directories, when docker's are gone.
TAR_SPLITS = paths.STATE_DIR + "/tar-split"
#: {"chains": [...]}: those that may have ctr's mark, or may not be whole.
JOURNAL = paths.STATE_DIR + "/adopting.json"
#: Of a snapshot that is being made; its chain's digest and the run's time follow. A name of an
#: earlier run may be taken for ever: containerd has two databases, and a power cut between them
#: leaves a snapshot in the one that the other does not know.
KEY = "homelab-adopt-"
#: Layers linked, and programs running, at once.
WORKERS = 4


def load(path: str) -> t.Dict[str, t.Any]:
    """A JSON file's value, {} where there is none. It was written in one step, so it is whole."""
    return t.cast("t.Dict[str, t.Any]", json.loads(files.read_text(path) or "{}"))


def refusal(why: str) -> commands.NodeError:
    return commands.NodeError(
        "The images cannot be adopted: %s. Set carry_images_method to auto or stream; nothing was "
        "changed." % why
    )


def hexadecimal(chain: str) -> str:
    return chain.split(":")[1]


def manifests_and_blobs() -> t.Tuple[t.Set[str], t.Set[str]]:
    """The digests of the images, and of all content, in the kubelet's namespace."""
    manifests = {entry["digest"] for entry in client.containerd_images().values()}
    return manifests, client.content()


def tar_split(chain: str) -> str:
    return "%s/%s.json.gz" % (TAR_SPLITS, hexadecimal(chain))


def keep_tar_splits(originals: t.Dict[str, str]) -> None:
    """Copy docker's records, by chain ID, where there is no copy or it is not the same."""
    os.makedirs(TAR_SPLITS, mode=0o700, exist_ok=True)
    places = []
    for chain, original in originals.items():
        place = tar_split(chain)
        if not os.path.exists(place) or not filecmp.cmp(original, place, shallow=False):
            shutil.copyfile(original, place + ".new")
            places.append(place)
    if places:
        # A name is not to be there before its content.
        layer_store.sync_file_system(TAR_SPLITS)
        for place in places:
            os.rename(place + ".new", place)
        layer_store.sync_file_system(TAR_SPLITS)


class Adopter:
    def __init__(
        self,
        api: DockerAPI,
        docker_root: str,
        containerd_root: str,
        report_progress: ReportProgress,
    ) -> None:
        self.api, self.docker_root, self.report_progress = api, docker_root, report_progress
        self.containerd_root = containerd_root
        self.snapshots = containerd_root + "/io.containerd.snapshotter.v1.overlayfs/snapshots"
        self.staging = containerd_root + "/homelab-adopt"
        self.layers: t.Dict[str, layer_store.Layer] = {}
        self.chains: t.Dict[str, t.List[str]] = {}
        self.sizes: t.Dict[str, int] = {}
        self.places: t.Dict[str, str] = {}
        self.present: t.Set[str] = set()
        self.linked = self.done = 0
        self.view: t.Optional[layer_store.View] = None
        self.run = "-%x" % time.time_ns()
        #: Image ID to why it has to be streamed; and images that docker removed meanwhile.
        self.reasons: t.Dict[str, str] = {}
        self.vanished: t.Set[str] = set()

    def adopt(
        self,
        wanted: t.Sequence[Image],
        names: t.Dict[str, t.List[str]],
        restore: str,
        require_adoption: bool,
    ) -> None:
        """names: image ID to the names to give it. What is adopted is not in reasons or vanished.

        NodeError where an image cannot be adopted and the user requires it, before containerd is
        given anything.
        """
        try:
            self.clean()
            self.look(wanted)
            self.link()
            if require_adoption and self.reasons:
                raise refusal(next(iter(self.reasons.values())))
            chosen = [
                image
                for image in wanted
                if image["id"] not in self.vanished and image["id"] not in self.reasons
            ]
            if chosen:
                self.note(chosen)
                self.commit(chosen)
                self.tell_containerd(chosen, names, restore)
        finally:
            shutil.rmtree(self.staging, ignore_errors=True)
        self.release()

    # --- what an earlier run left ---

    def remove_damaged(self) -> None:
        """Take from containerd what a run that was interrupted left in part.

        To be called before anybody asks containerd which images it has: these are carried again.
        """
        if load(JOURNAL).get("chains") is None:
            return
        self._replace_tar_splits()
        self._remove_damaged_images()
        self._remove_damaged_layers()

    def _replace_tar_splits(self) -> None:
        """Also of images that are whole: docker may be gone when their blobs are restored."""
        originals = {
            layer["chain"]: layer_store.tar_split_in(self.docker_root, layer["chain"])
            for image in load(RECORD).get("images", {}).values()
            for layer in image["layers"]
        }
        keep_tar_splits({c: path for c, path in originals.items() if os.path.exists(path)})

    def _remove_damaged_images(self) -> None:
        """Those whose manifest or config is lost: containerd believes that it has them."""
        listed = client.content()
        for identity, image in load(RECORD).get("images", {}).items():
            lost = [
                digest
                for digest in (image["manifest"], identity)
                if digest in listed and not adoption.is_content(self.containerd_root, digest)
            ]
            if lost:
                self._remove_image(image["manifest"])
                client.ctr("content", "delete", *lost)

    @staticmethod
    def _remove_image(manifest: str) -> None:
        names = [
            n for n, entry in client.containerd_images().items() if entry["digest"] == manifest
        ]
        if names:
            client.ctr("images", "remove", *names)

    def _remove_damaged_layers(self) -> None:
        parents = {}
        for words in client.snapshots("Committed"):
            parents[words[0]] = words[1] if len(words) == 3 else ""
        ours = set(load(JOURNAL)["chains"]) & set(parents)
        removed: t.List[str] = []
        for top in sorted(ours - {parents[chain] for chain in ours}):
            chain, directories, missing = self._layers_below(top, parents)
            lineage: t.List[t.Tuple[str, str]] = []
            for directory in reversed(directories):
                lineage.insert(0, (chain, directory))
                chain = parents[chain]
            damaged = [c for c, directory in lineage if c in ours and self._differs(c, directory)]
            if damaged:
                # With all that is on it.
                chains = [c for c, _directory in lineage]
                removed += chains[chains.index(damaged[0]) :]
            removed += missing
        removed = list(dict.fromkeys(removed))
        if not removed:
            return
        for image in load(RECORD).get("images", {}).values():
            if any(layer["chain"] in removed for layer in image["layers"]):
                self._remove_image(image["manifest"])
        pending = removed
        while pending:
            leaves = [c for c in pending if c not in {parents[child] for child in pending}]
            try:
                client.ctr("snapshots", "delete", *leaves)
            except commands.NodeError as exc:
                raise commands.NodeError(
                    "Layers that an interrupted run gave containerd differ from docker's and "
                    "cannot be removed: %s. Remove the containers that use them (crictl rm, ctr "
                    "containers delete), and run this again." % exc
                )
            pending = [chain for chain in pending if chain not in leaves]

    @staticmethod
    def _layers_below(
        chain: str, parents: t.Dict[str, str]
    ) -> t.Tuple[str, t.List[str], t.List[str]]:
        """The next chain that can be mounted and its directories, and those on it that cannot."""
        missing: t.List[str] = []
        while chain:
            try:
                return chain, comparison.containerd_layers(chain), missing
            except commands.NodeError as exc:
                # containerd looks whether the topmost has a directory.
                if "no such file" not in str(exc):
                    raise
            missing.insert(0, chain)
            chain = parents[chain]
        return "", [], missing

    def _differs(self, chain: str, directory: str) -> bool:
        try:
            layer = layer_store.Layer(self.docker_root, chain, "", "")
            return bool(comparison.layer_differences(layer.directory, directory))
        except (layer_store.Vanished, layer_store.Refused):
            return False  # nothing to compare it with, and nothing to make it again from

    def clean(self) -> None:
        """Look at containerd's snapshots, and remove what a killed run was making."""
        self.present = {words[0] for words in client.snapshots("Committed")}
        left = [words[0] for words in client.snapshots("Active") if words[0].startswith(KEY)]
        if left:
            client.ctr("snapshots", "delete", *left)
        shutil.rmtree(self.staging, ignore_errors=True)

    # --- docker's side: nothing that containerd knows of is changed ---

    def look(self, wanted: t.Sequence[Image]) -> None:
        if not os.path.isdir(self.snapshots):
            why = "containerd does not keep its snapshots in %s" % self.snapshots
            self.reasons = {image["id"]: why for image in wanted}
            return
        for image in wanted:
            try:
                diffs = self.api.layers(image)
                if diffs is None:
                    self.vanished.add(image["id"])
                    continue
                chains = image_names.chain_ids(diffs)
                for chain, diff, parent in zip(chains, diffs, [""] + chains[:-1]):
                    if chain not in self.layers:
                        layer = layer_store.Layer(self.docker_root, chain, diff, parent)
                        self.layers[chain] = layer
                self.chains[image["id"]] = chains
            except layer_store.Vanished:
                self.vanished.add(image["id"])
            except layer_store.Refused as exc:
                self.reasons[image["id"]] = str(exc)

    def _leave_out(self, chain: str, why: t.Optional[str]) -> None:
        """Leave out the images on a layer: for the stream, or altogether where it is gone."""
        for identity, chains in self.chains.items():
            if chain in chains and why:
                self.reasons.setdefault(identity, why)
            elif chain in chains:
                self.vanished.add(identity)

    def _staged(self, chain: str) -> str:
        return "%s/%s" % (self.staging, hexadecimal(chain))

    def link(self) -> None:
        if self.layers:
            self._link_layers()
        # A directory that was being removed may have been read half. An image that docker still
        # has kept its layers all the time, unless they were removed and made again.
        listed = {image["Id"] for image in self.api.get("/images/json")}
        self.vanished |= set(self.chains) - listed
        for layer in self.layers.values():
            if not layer.still_there():
                self._leave_out(layer.chain, None)
        # Nobody removed these, so they are not to be left behind in silence.
        for identity in self.vanished & listed:
            self.reasons.setdefault(identity, "docker lists it, and has not all of its layers")
        self.vanished -= listed

    def _link_layers(self) -> None:
        os.makedirs(self.staging, mode=0o700)
        try:
            self.view = view = layer_store.View(
                self.docker_root + "/overlay2", self.snapshots, self.staging
            )
        except layer_store.Refused as exc:
            for chain in self.layers:
                self._leave_out(chain, str(exc))
            return
        to_link = [layer for chain, layer in self.layers.items() if chain not in self.present]
        total = sum(layer.bytes for layer in to_link)

        def one(layer: layer_store.Layer) -> None:
            if layer.chain not in self.present:
                source, target = view.path(layer.directory), view.path(self._staged(layer.chain))
                layer_store.link_layer(source, target)
                self.linked += layer.bytes
                self.done += 1
            self.sizes[layer.chain] = layer.stream_size()

        def sentence() -> str:
            return "linking: %d of %d layers, %.0f of %.0f MB" % (
                self.done,
                len(to_link),
                self.linked / 1e6,
                total / 1e6,
            )

        order = sorted(self.layers.values(), key=lambda layer: -layer.bytes)
        with self.report_progress(sentence), concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            for layer, outcome in [(layer, pool.submit(one, layer)) for layer in order]:
                try:
                    outcome.result()
                except layer_store.Refused as exc:
                    self._leave_out(layer.chain, str(exc))
                except layer_store.Vanished:
                    self._leave_out(layer.chain, None)

    # --- containerd's side ---

    def _chains_of(self, chosen: t.Sequence[Image]) -> t.List[str]:
        """Each once, parents before children."""
        return list(dict.fromkeys(c for image in chosen for c in self.chains[image["id"]]))

    def note(self, chosen: t.Sequence[Image]) -> None:
        """Keep docker's records of the streams, and the chains about to be marked."""
        chains = self._chains_of(chosen)
        keep_tar_splits({chain: self.layers[chain].tar_split for chain in chains})
        fresh = [chain for chain in chains if chain not in self.present]
        before = load(JOURNAL).get("chains", [])
        files.write_text(JOURNAL, json.dumps({"chains": sorted(set(before) | set(fresh))}))

    def commit(self, chosen: t.Sequence[Image]) -> None:
        """A snapshot for each chain that has none. Two processes each: ctr knows no other way."""
        depth: t.Dict[int, t.Set[str]] = {}
        for image in chosen:
            for level, chain in enumerate(self.chains[image["id"]]):
                if chain not in self.present:
                    depth.setdefault(level, set()).add(chain)
        count = sum(len(chains) for chains in depth.values())
        made = 0

        def sentence() -> str:
            return "adding them to containerd: %d of %d layers" % (made, count)

        with self.report_progress(sentence), concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            for level in sorted(depth):
                chains = sorted(depth[level])
                list(pool.map(self._fill_one, chains))
                # Once for a level, since it can take long.
                layer_store.sync_file_system(self.containerd_root)
                for _done in pool.map(self._commit_one, chains):
                    made += 1

    def _fill_one(self, chain: str) -> None:
        layer, key = self.layers[chain], KEY + hexadecimal(chain) + self.run
        parents = [layer.parent] if layer.parent else []
        printed = client.ctr("snapshots", "prepare", "--mounts", key, *parents)
        upper = adoption.upper_directory(json.loads(printed))
        if not upper.startswith(self.snapshots + "/"):
            client.ctr("snapshots", "delete", key)
            raise commands.NodeError(
                "containerd keeps its snapshots in %s, not in %s: set carry_images_containerd_root,"
                " or carry_images_method to stream" % (os.path.dirname(upper), self.snapshots)
            )
        view = t.cast("layer_store.View", self.view)
        # An empty directory may be replaced by a full one, in one step.
        os.rename(view.path(self._staged(chain)), view.path(upper))
        self.places[chain] = upper

    def _commit_one(self, chain: str) -> None:
        key = KEY + hexadecimal(chain) + self.run
        try:
            client.ctr("snapshots", "commit", chain, key)
        except commands.NodeError as exc:
            if "already exists" not in str(exc):
                raise
            client.ctr("snapshots", "delete", key)  # somebody pulled it meanwhile

    def tell_containerd(
        self, chosen: t.Sequence[Image], names: t.Dict[str, t.List[str]], restore: str
    ) -> None:
        """Note the images for restore_blobs, and import them all at once."""
        record = load(RECORD)
        record.update(restore=restore, containerd_root=self.containerd_root)
        known = record.setdefault("images", {})
        parcels = []
        for image in chosen:
            chains = self.chains[image["id"]]
            if not set(chains) <= set(self.places):
                # Of an interrupted run, which did not get to its record, or of a pull.
                self.places.update(zip(chains, comparison.containerd_layers(chains[-1])))
            place = "%s/image/overlay2/imagedb/content/sha256/%s" % (
                self.docker_root,
                hexadecimal(image["id"]),
            )
            with open(place, "rb") as stream:
                config = stream.read()
            layers = [(self.layers[chain].diff, self.sizes[chain]) for chain in chains]
            made = adoption.manifest(config, layers)
            parcels.append((config, made, names[image["id"]]))
            known[image["id"]] = {
                "manifest": adoption.digest(made),
                "names": names[image["id"]],
                "local": bool(image_names.unregistered_tags(image)),
                "layers": [
                    {"chain": chain, "diff": diff, "size": size}
                    for chain, (diff, size) in zip(chains, layers)
                ],
            }
            record.setdefault("docker", {}).update(
                {chain: self.layers[chain].directory for chain in chains}
            )
        record.setdefault("snapshots", {}).update(self.places)
        files.write_text(RECORD, json.dumps(record, sort_keys=True), 0o600)
        client.ctr_import([adoption.archive(parcels)])
        layer_store.sync_file_system(self.containerd_root)

    @staticmethod
    def release() -> None:
        """Take ctr's mark off what it marked: the images hold their layers now, and only they."""
        marked = load(JOURNAL).get("chains")
        if marked is None:
            return
        there = {words[0] for words in client.snapshots("Committed")}
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            list(
                pool.map(
                    lambda chain: client.ctr("snapshots", "label", chain, "containerd.io/gc.root="),
                    [chain for chain in marked if chain in there],
                )
            )
        with contextlib.suppress(FileNotFoundError):
            os.unlink(JOURNAL)

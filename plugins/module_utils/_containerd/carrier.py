# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring docker's images into containerd: adopted in place, or streamed."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import (
    adopter,
    adoption,
    blobs,
    client,
    config,
    image_names,
)
from ansible_collections.homelab.containerd.plugins.module_utils._docker import (
    daemon_config,
    layer_store,
)
from ansible_collections.homelab.containerd.plugins.module_utils._docker.api import (
    DockerAPI,
    DockerError,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    files,
    mounts,
    progress,
)

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        CarryFacts,
        CarryMethod,
    )

Image = t.Dict[str, t.Any]
PIN = "io.cri-containerd.pinned"
#: The stream keeps this many bytes in flight.
CHUNK = 1 << 20
#: A prefix for images that have only a digest for a name; it is gone when the module ends.
TEMPORARY = "homelab-carry.invalid/image"


class Carrier:
    def __init__(self, module: AnsibleModule) -> None:
        self.params = module.params
        self.api = DockerAPI(module.params["docker_socket"], timeout=120)
        self.progress = progress.Progress(module.params["progress_file"])
        self.info = self.api.get("/info")
        self.streamed = 0
        self._ids: t.Dict[str, str] = {}

    def make_adopter(self) -> adopter.Adopter:
        return adopter.Adopter(
            self.api,
            self.info["DockerRootDir"],
            self.params["containerd_root"],
            self.report_progress,
        )

    def docker_images(self) -> t.List[Image]:
        return [
            {
                "id": entry["Id"],
                "tags": [tag for tag in entry.get("RepoTags") or [] if "<none>" not in tag],
                "digests": [d for d in entry.get("RepoDigests") or [] if "<none>" not in d],
                "size": entry.get("Size", 0),
            }
            for entry in self.api.get("/images/json")
        ]

    def containerd_ids(self) -> t.Dict[str, str]:
        """containerd's references and the image ID each stands for."""
        references = client.containerd_images()
        for name, entry in references.items():
            # CRI gives every image a reference that is its ID.
            if name.startswith("sha256:"):
                self._ids[entry["digest"]] = name
        return {name: self._image_id(entry["digest"]) for name, entry in references.items()}

    def _image_id(self, manifest: str) -> str:
        if manifest not in self._ids:
            try:
                found = json.loads(client.ctr("content", "get", manifest)).get("config") or {}
            except commands.NodeError as exc:
                if not client.is_gone(exc):
                    raise
                found = {}
            except ValueError:
                found = {}
            self._ids[manifest] = found.get("digest", "")
        return self._ids[manifest]

    def layers(self, image: Image) -> t.List[str]:
        """The diff IDs of an image's layers; none where docker removed it meanwhile."""
        return self.api.layers(image) or []

    def layer_sizes(self, wanted: t.Sequence[Image]) -> t.Dict[str, int]:
        """Chain ID to bytes for the layers of these images, as docker's layer store has them."""
        store = "%s/image/%s/layerdb/sha256" % (self.info["DockerRootDir"], self.info["Driver"])
        sizes = {}
        for image in wanted:
            for chain in image_names.chain_ids(self.layers(image)):
                text = files.read_text("%s/%s/size" % (store, chain.split(":", 1)[1]))
                if text is None:
                    return {entry["id"]: entry["size"] for entry in wanted}  # too much, never less
                sizes[chain] = int(text)
        return sizes

    def choose(self) -> CarryMethod:
        """How to carry on this node, and why; NodeError where another way was required."""
        _pid, words = commands.command_line("dockerd")
        flags = daemon_config.flag_values(words)
        try:
            text = files.read_text(daemon_config.config_file(flags))
            daemon_json = json.loads(text or "{}")
        except ValueError:
            daemon_json = {}
        docker = dict(adoption.storage(self.info), daemon_json={"value": daemon_json}, flags=flags)
        facts = {
            "docker": docker,
            "containerd": {"snapshotter": config.snapshotter(config.effective("containerd"))},
            "disk": {
                "docker": mounts.disk_facts(self.info["DockerRootDir"]),
                "containerd": mounts.disk_facts(self.params["containerd_root"]),
            },
        }
        method = self.params["method"]
        chosen = adoption.carry_method(t.cast("CarryFacts", facts), method)
        if method == "adopt" and chosen["method"] != "adopt":
            raise adopter.refusal(chosen["why"])
        return chosen

    def check_space(self, method: str, size: int, to_restore: int) -> None:
        needed = adoption.space_needed(method, size, to_restore)
        roots = {
            "docker": self.info["DockerRootDir"],
            "containerd": self.params["containerd_root"],
        }
        shares = [(roots[owner], amount) for owner, amount in needed.items() if amount]
        needs: t.Dict[int, t.List[t.Any]] = {}
        for path, amount in shares:
            disk = mounts.disk_facts(path)
            entry = needs.setdefault(disk["device"], [0, disk["free_bytes"], []])
            entry[0] += amount
            entry[2].append(path)
        for amount, free, places in needs.values():
            if amount + self.params["reserve_bytes"] > free:
                raise commands.NodeError(
                    "Not enough space to carry the images: %s needs %.1f MB and %.1f MB kept in "
                    "reserve (carry_images_reserve_bytes), and has %.1f MB free. Remove images "
                    "that nobody needs (docker image prune) or enlarge the file system; nothing "
                    "was changed."
                    % (
                        " with ".join(places),
                        amount / 1e6,
                        self.params["reserve_bytes"] / 1e6,
                        free / 1e6,
                    )
                )

    @contextlib.contextmanager
    def report_progress(self, sentence: t.Callable[[], str]) -> t.Iterator[None]:
        """Say where things are, every three seconds."""
        ended = threading.Event()

        def tell() -> None:
            while not ended.wait(3):
                self.progress.say(sentence())

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield
        finally:
            ended.set()
            teller.join()

    def stream(self, names: t.Sequence[str], expected: int, *options: str) -> None:
        """docker save, straight into ctr images import."""
        state = {"phase": "docker is packing them"}

        def sentence() -> str:
            return "%s: %.0f of about %.0f MB" % (
                state["phase"],
                self.streamed / 1e6,
                expected / 1e6,
            )

        with self.report_progress(sentence):
            # docker writes its first byte when it has packed the last one.
            source = self.api.open("GET", "/images/get", {"names": names}, timeout=4 * 3600)

            def chunks() -> t.Iterator[bytes]:
                state["phase"] = "streaming"
                try:
                    for chunk in iter(lambda: source.read(CHUNK), b""):
                        self.streamed += len(chunk)
                        yield chunk
                except (OSError, http.client.HTTPException) as exc:
                    raise DockerError("docker was interrupted while it sent the images: %s" % exc)
                state["phase"] = "containerd is unpacking them"

            client.ctr_import(chunks(), *options)

    def carry_by_stream(self, wanted: t.Sequence[Image], expected: int) -> None:
        tagged = [image for image in wanted if image["tags"]]
        nameless = [image for image in wanted if not image["tags"]]
        if tagged:
            self.stream([tag for image in tagged for tag in image["tags"]], expected)
        if nameless:
            self.stream(
                [image["id"] for image in nameless],
                expected,
                "--digests",
                "--base-name",
                TEMPORARY,
            )

    def settled_ids(self, wanted: t.Sequence[str]) -> t.Dict[str, str]:
        """containerd_ids(), once CRI has seen what was imported (it hears of it by event)."""
        deadline = time.monotonic() + 15
        while True:
            present = self.containerd_ids()
            if set(wanted) <= {name for name in present if name.startswith("sha256:")}:
                return present
            if time.monotonic() > deadline:
                return present
            time.sleep(0.3)

    def tag(self, image: Image, name: str, present: t.Dict[str, str]) -> None:
        source = sorted(
            (ref for ref, image_id in present.items() if image_id == image["id"]),
            key=lambda ref: ref.startswith("sha256:"),
        )
        if not source:
            raise commands.NodeError(
                "%s was carried, but containerd does not have an image with the ID %s"
                % (name, image["id"])
            )
        client.ctr("images", "tag", "--force", source[0], name)

    def to_pin(self, docker_images: t.Sequence[Image]) -> t.List[t.Dict[str, str]]:
        mode = self.params["pin"]
        if mode == "never":
            return []
        return [
            {"name": image_names.normalize(tag), "docker_name": tag, "id": image["id"]}
            for image in docker_images
            for tag in (image["tags"] if mode == "all" else image_names.unregistered_tags(image))
        ]


def carry(
    carrier: Carrier,
    plan: t.Dict[str, t.List[t.Any]],
    chosen: CarryMethod,
    size: int,
    result: t.Dict[str, t.Any],
) -> None:
    """Bring what is missing, and note in the result what came which way."""
    wanted = plan["carry"]
    adopting = carrier.make_adopter()
    if wanted:
        carrier.progress.say(
            "%d images, %.0f MB of layers: %s, as %s"
            % (
                len(wanted),
                size / 1e6,
                {"adopt": "adopting them in place", "stream": "one stream"}[chosen["method"]],
                chosen["why"],
            )
        )
    if chosen["method"] == "stream":
        # docker cannot export an image without layers; there is nothing in it to link.
        to_adopt = [image for image in wanted if not carrier.layers(image)]
    else:
        to_adopt = wanted
    if to_adopt:
        names: t.Dict[str, t.List[str]] = {}
        for image, name in plan["tag"]:
            names.setdefault(image["id"], []).append(name)
        adopting.adopt(
            to_adopt,
            names,
            carrier.params["restore"],
            require_adoption=carrier.params["method"] == "adopt",
        )
        wanted = [
            image for image in wanted if image not in to_adopt or image["id"] in adopting.reasons
        ]
        for identity, why in adopting.reasons.items():
            carrier.progress.say("%s is streamed: %s" % (identity[:19], why))
        result.update(linked_bytes=adopting.linked, vanished=sorted(adopting.vanished))
    else:
        adopting.clean()
        adopting.release()
    if wanted:
        carrier.check_space("stream", sum(carrier.layer_sizes(wanted).values()), 0)
        carrier.carry_by_stream(wanted, size)
        # containerd does not wait for the renames of what it unpacked.
        layer_store.sync_file_system(carrier.params["containerd_root"])
    result["carried"] = [
        dict(image, method="stream", why=adopting.reasons[image["id"]])
        if image["id"] in adopting.reasons
        else image
        for image in result["carried"]
        if image["id"] not in adopting.vanished
    ]


def waiting(restore: str) -> t.List[t.Dict[str, t.Any]]:
    """What restore_blobs has to do, shortly."""
    return blobs.shortly(blobs.missing(adopter.load(adopter.RECORD), restore)["waiting"])


def verify(
    carrier: Carrier, tagged: t.Sequence[t.Tuple[Image, str]], carried: t.Container[str]
) -> None:
    """The same image ID under each name on both sides, or an error that lists the others.

    An adopted image misses blobs, so containerd reports it as unpacked, but not as complete.
    """
    present = carrier.containerd_ids()
    adopted = adopter.load(adopter.RECORD).get("images", {})
    wrong = [
        "%s is %s, not %s" % (name, present.get(name, "missing"), image["id"])
        for image, name in tagged
        if present.get(name) != image["id"]
    ]
    in_place = {name for image, name in tagged if image["id"] in adopted}
    # Without layers there is nothing to unpack, and containerd says so.
    bare = {
        name
        for image, name in tagged
        if image["id"] in adopted and not adopted[image["id"]]["layers"]
    }
    names = {name for image, name in tagged if image["id"] in carried} - bare
    incomplete = [
        line.split()[0]
        for line in client.ctr("images", "check", timeout=600).splitlines()[1:]
        if line.split()
        and line.split()[0] in names
        and (
            ("incomplete" in line and line.split()[0] not in in_place) or line.split()[-1] != "true"
        )
    ]
    if wrong or incomplete:
        raise commands.NodeError(
            "Images differ from docker's after they were carried: %s"
            % "; ".join(wrong + ["%s is not complete" % name for name in incomplete])
        )

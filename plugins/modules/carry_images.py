#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: carry_images
short_description: Carry docker's local images into containerd, where the kubelet finds them
version_added: "0.1.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Everything that docker has and containerd's namespace C(k8s.io) lacks goes over, in the way that
    fits the node.
  - Where docker's overlay2 and containerd's overlayfs snapshotter are on one file system, the
    layers are B(adopted) where they lie. Each is linked into containerd's place for it, and
    containerd is told of the images; nothing is read or written of their content.
  - Otherwise all go over in one B(stream), without a file in between.
  - Tags, repository digests and image IDs are the same afterwards; each image is checked.
  - Images that no registry has are labelled as pinned. Kubelets from 1.29 then leave them in their
    garbage collection (kubernetes/kubernetes#119986; containerd from 1.6.22 or 1.7.3); on older
    ones the role of this name brings them back when they were collected.
  - Space is checked before the first byte.
options:
  docker_socket:
    description: The engine's unix socket.
    type: path
    default: /var/run/docker.sock
  containerd_root:
    description: Where containerd keeps its content and snapshots.
    type: path
    default: /var/lib/containerd
  method:
    description:
      - V(auto) adopts where that can be, and says why where not.
      - V(adopt) fails where it cannot be, before anything is changed.
      - V(stream) is docker save into ctr images import.
    type: str
    choices: [auto, adopt, stream]
    default: auto
    version_added: "0.2.0"
  fill:
    description:
      - Of which adopted images M(homelab.containerd.fill_images) shall write the layers' blobs, so
        that there is space for them. An export, a push or a build upon an image needs them.
    type: str
    choices: [never, local_only, all]
    default: local_only
    version_added: "0.2.0"
  pin:
    description: Which images to protect from the kubelet's garbage collection.
    type: str
    choices: [never, local_only, all]
    default: local_only
  overwrite:
    description:
      - Whether a name that stands for another image in containerd is given to docker's image.
      - Right while docker is what the node runs on; wrong afterwards.
    type: bool
    default: false
  reserve_bytes:
    description: Bytes that have to stay free on each file system involved.
    type: int
    default: 1073741824
  progress_file:
    description: Where to write progress. Set by the action plugin.
    type: path
attributes:
  check_mode:
    description: Says what would be carried and how many bytes, and fails where space is short.
    support: full
  diff_mode:
    description: Shows the references before and after.
    support: full
"""

EXAMPLES = r"""
- name: Carry all images that containerd lacks
  homelab.containerd.carry_images:
    pin: local_only
"""

RETURN = r"""
method:
  description: V(adopt) or V(stream), the way that was found to fit.
  returned: always
  type: str
why:
  description: Why this way, half a sentence.
  returned: always
  type: str
carried:
  description:
    - The images carried (in check mode, to carry), each with C(id), C(tags), C(bytes), C(method),
      and C(why) where an image was streamed although the others were adopted.
  returned: always
  type: list
  elements: dict
tagged:
  description: References that were added.
  returned: always
  type: list
  elements: str
pinned:
  description: References that were labelled as pinned.
  returned: always
  type: list
  elements: str
protected:
  description:
    - Images that were to be protected, each with C(name) in containerd, C(docker_name) and C(id),
      whether or not this containerd heeds the label.
  returned: always
  type: list
  elements: dict
kept:
  description: References that name another image in containerd, left as they are.
  returned: always
  type: list
  elements: str
dangling:
  description: IDs of images without a name, which are not carried.
  returned: always
  type: list
  elements: str
bytes:
  description: Bytes of the layers to carry, each counted once.
  returned: always
  type: int
linked_bytes:
  description: Bytes of the layers that were adopted.
  returned: always
  type: int
vanished:
  description: IDs of images that docker removed meanwhile; they are not carried.
  returned: always
  type: list
  elements: str
waiting:
  description:
    - Adopted images that wait for their layers' blobs (M(homelab.containerd.fill_images)), each
      with C(id), C(names), C(layers) and C(bytes).
  returned: always
  type: list
  elements: dict
streamed_bytes:
  description: Bytes that went through the stream.
  returned: always
  type: int
seconds:
  description: How long it took, to a hundredth.
  returned: always
  type: float
began:
  description: When it began, in seconds since 1970 by the controller's clock; RV(ended) the same.
  returned: when not in check mode
  type: float
ended:
  description: When it had ended.
  returned: when not in check mode
  type: float
"""

import contextlib
import http.client
import json
import os
import threading
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils import (
    adopter,
    adoption,
    images,
    kubelet_flags,
    node,
)
from ansible_collections.homelab.containerd.plugins.module_utils.docker_api import (
    DockerAPI,
    DockerError,
)

Image = t.Dict[str, t.Any]

PIN = "io.cri-containerd.pinned"
#: The stream keeps this many bytes in flight.
CHUNK = 1 << 20
#: A prefix for images that have only a digest for a name; it is gone when the module ends.
TEMPORARY = "homelab-carry.invalid/image"
CONTAINERD_CONFIG = "/etc/containerd/config.toml"


class Carrier:
    def __init__(self, module: AnsibleModule) -> None:
        self.params = module.params
        self.api = DockerAPI(module.params["docker_socket"], timeout=120)
        self.progress = node.Progress(module.params["progress_file"])
        self.info = self.api.get("/info")
        self.streamed = 0
        self._ids: t.Dict[str, str] = {}

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
        references = node.containerd_images()
        for name, entry in references.items():
            # CRI gives every image a reference that is its ID.
            if name.startswith("sha256:"):
                self._ids[entry["digest"]] = name
        return {name: self._image_id(entry["digest"]) for name, entry in references.items()}

    def _image_id(self, manifest: str) -> str:
        if manifest not in self._ids:
            try:
                config = json.loads(node.ctr("content", "get", manifest)).get("config") or {}
            except (node.NodeError, ValueError):
                config = {}
            self._ids[manifest] = config.get("digest", "")
        return self._ids[manifest]

    def layers(self, image: Image) -> t.List[str]:
        """The diff IDs of an image's layers."""
        details = self.api.get("/images/%s/json" % image["id"])
        return details["RootFS"].get("Layers") or []

    def layer_sizes(self, wanted: t.Sequence[Image]) -> t.Dict[str, int]:
        """Chain ID to bytes for the layers of these images, as docker's layer store has them."""
        store = "%s/image/%s/layerdb/sha256" % (self.info["DockerRootDir"], self.info["Driver"])
        sizes = {}
        for image in wanted:
            for chain in images.chain_ids(self.layers(image)):
                text = node.read_text("%s/%s/size" % (store, chain.split(":", 1)[1]))
                if text is None:
                    return {entry["id"]: entry["size"] for entry in wanted}  # too much, never less
                sizes[chain] = int(text)
        return sizes

    def choose(self) -> t.Dict[str, str]:
        """How to carry on this node, and why; NodeError where another way was insisted on."""
        _pid, words = node.command_line("dockerd")
        flags = kubelet_flags.flag_values(words[1:])
        try:
            path = flags.get("config-file", "/etc/docker/daemon.json")
            daemon_json = json.loads(node.read_text(path) or "{}")
        except ValueError:
            daemon_json = {}
        facts = {
            "docker": dict(
                adoption.storage(self.info), daemon_json={"value": daemon_json}, flags=flags
            ),
            "containerd": {"config_text": node.read_text(CONTAINERD_CONFIG)},
            "disk": {
                "docker": node.disk_facts(self.info["DockerRootDir"]),
                "containerd": node.disk_facts(self.params["containerd_root"]),
            },
        }
        wish = self.params["method"]
        chosen = adoption.carry_method(facts, wish)
        if wish == "adopt" and chosen["method"] != "adopt":
            raise adopter.refusal(chosen["why"])
        return chosen

    def check_space(self, method: str, size: int, to_fill: int) -> None:
        """By stream docker spools once; containerd keeps each layer as a blob and unpacked.

        Adopted, a layer costs its directories, and its blob where it is to be filled.
        """
        docker_root = self.info["DockerRootDir"]
        if method == "adopt":
            shares = [(self.params["containerd_root"], int(adoption.LINKED_SHARE * size) + to_fill)]
        else:
            shares = [
                (docker_root, size),
                (self.params["containerd_root"], int(adoption.STREAMED_SHARE * size)),
            ]
        needs: t.Dict[int, t.List[t.Any]] = {}
        for path, amount in shares:
            disk = node.disk_facts(path)
            entry = needs.setdefault(disk["device"], [0, disk["free_bytes"], []])
            entry[0] += amount
            entry[2].append(path)
        for amount, free, paths in needs.values():
            if amount + self.params["reserve_bytes"] > free:
                raise node.NodeError(
                    "Not enough space to carry the images: %s needs %.1f MB and %.1f MB kept in "
                    "reserve (carry_images_reserve_bytes), and has %.1f MB free. Remove images "
                    "that nobody needs (docker image prune) or enlarge the file system; nothing "
                    "was changed."
                    % (
                        " with ".join(paths),
                        amount / 1e6,
                        self.params["reserve_bytes"] / 1e6,
                        free / 1e6,
                    )
                )

    @contextlib.contextmanager
    def telling(self, sentence: t.Callable[[], str]) -> t.Iterator[None]:
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

        with self.telling(sentence):
            # docker writes its first byte when it has packed the last one.
            source = self.api.open("GET", "/images/get", {"names": names}, timeout=4 * 3600)

            def chunks() -> t.Iterator[bytes]:
                state["phase"] = "streaming"
                try:
                    for chunk in iter(lambda: source.read(CHUNK), b""):
                        self.streamed += len(chunk)
                        yield chunk
                except (OSError, http.client.HTTPException) as exc:
                    raise DockerError("docker broke off while it sent the images: %s" % exc)
                state["phase"] = "containerd is unpacking them"

            node.ctr_import(chunks(), *options)

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
            raise node.NodeError(
                "%s was carried, but containerd does not have an image with the ID %s"
                % (name, image["id"])
            )
        node.ctr("images", "tag", "--force", source[0], name)

    def to_pin(self, docker_images: t.Sequence[Image]) -> t.List[t.Dict[str, str]]:
        mode = self.params["pin"]
        if mode == "never":
            return []
        return [
            {"name": images.normalize(tag), "docker_name": tag, "id": image["id"]}
            for image in docker_images
            for tag in (image["tags"] if mode == "all" else images.unregistered_tags(image))
        ]


def run_module(module: AnsibleModule) -> t.Dict[str, t.Any]:
    started = time.monotonic()
    carrier = Carrier(module)
    docker_images = carrier.docker_images()
    answers = node.run(["ctr", "version"], check=False).returncode == 0
    if not answers and not module.check_mode:
        node.ctr("version")  # says why
    before = carrier.containerd_ids() if answers else {}
    plan = images.missing(docker_images, before, module.params["overwrite"])
    chosen = carrier.choose()
    size = sum(carrier.layer_sizes(plan["carry"]).values())
    if plan["carry"]:
        to_fill = [
            image
            for image in plan["carry"]
            if module.params["fill"] == "all"
            or (module.params["fill"] == "local_only" and images.unregistered_tags(image))
        ]
        carrier.check_space(
            chosen["method"], size, sum(carrier.layer_sizes(to_fill).values()) if to_fill else 0
        )
    references = node.containerd_images() if answers else {}
    protected = [
        entry for entry in carrier.to_pin(docker_images) if entry["name"] not in plan["kept"]
    ]
    pins = [
        entry["name"]
        for entry in protected
        if PIN + "=pinned" not in references.get(entry["name"], {"labels": []})["labels"]
    ]
    interrupted = os.path.exists(adopter.JOURNAL)
    result: t.Dict[str, t.Any] = {
        "changed": bool(plan["carry"] or plan["tag"] or pins or interrupted),
        "method": chosen["method"],
        "why": chosen["why"],
        "carried": [
            dict(image, bytes=image["size"], method=chosen["method"]) for image in plan["carry"]
        ],
        "tagged": [name for _image, name in plan["tag"]],
        "pinned": pins,
        "protected": protected,
        "kept": plan["kept"],
        "dangling": plan["dangling"],
        "vanished": [],
        "bytes": size,
        "linked_bytes": 0,
    }
    after = sorted(set(before) | {name for _image, name in plan["tag"]})
    result["diff"] = {
        "before": "".join(name + "\n" for name in sorted(before)),
        "after": "".join(name + "\n" for name in after),
    }
    if not module.check_mode and result["changed"]:
        carry(carrier, plan, chosen, size, result)
        gone = set(result["vanished"])
        tagged = [(image, name) for image, name in plan["tag"] if image["id"] not in gone]
        present = carrier.settled_ids([image["id"] for image, _name in tagged])
        for image, name in tagged:
            if present.get(name) != image["id"]:
                carrier.tag(image, name, present)
        for name in [ref for ref in present if ref.startswith(TEMPORARY)]:
            node.ctr("images", "remove", name)
        lost = {entry["name"] for entry in protected if entry["id"] in gone}
        for name in pins:
            if name not in lost:
                node.ctr("images", "label", name, PIN + "=pinned")
        verify(carrier, tagged, {image["id"] for image in plan["carry"]})
        result["protected"] = [entry for entry in protected if entry["id"] not in gone]
        result["pinned"] = [name for name in pins if name not in lost]
        result["tagged"] = [name for _image, name in tagged]
        carrier.progress.say(
            "%d images carried and checked, %d names, %d pinned"
            % (len(result["carried"]), len(tagged), len(result["pinned"]))
        )
    result.update(
        waiting=waiting(module.params["fill"]) if answers else [],
        streamed_bytes=carrier.streamed,
        seconds=round(time.monotonic() - started, 2),
    )
    return result


def carry(
    carrier: Carrier,
    plan: t.Dict[str, t.List[t.Any]],
    chosen: t.Dict[str, str],
    size: int,
    result: t.Dict[str, t.Any],
) -> None:
    """Bring what is missing, and note in the result what came which way."""
    wanted = plan["carry"]
    adopting = adopter.Adopter(
        carrier.api,
        carrier.info["DockerRootDir"],
        carrier.params["containerd_root"],
        carrier.telling,
    )
    if wanted:
        carrier.progress.say(
            "%d images, %.0f MB of layers: %s, as %s"
            % (
                len(wanted),
                size / 1e6,
                {"adopt": "adopting them where they lie", "stream": "one stream"}[chosen["method"]],
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
            to_adopt, names, carrier.params["fill"], insist=carrier.params["method"] == "adopt"
        )
        wanted = [
            image for image in wanted if image not in to_adopt or image["id"] in adopting.reasons
        ]
        for identity, why in adopting.reasons.items():
            carrier.progress.say("%s goes by stream: %s" % (identity[:19], why))
        result.update(linked_bytes=adopting.linked, vanished=sorted(adopting.vanished))
    else:
        adopting.clean()
        adopting.release()
    if wanted:
        carrier.check_space("stream", sum(carrier.layer_sizes(wanted).values()), 0)
        carrier.carry_by_stream(wanted, size)
    result["carried"] = [
        dict(image, method="stream", why=adopting.reasons[image["id"]])
        if image["id"] in adopting.reasons
        else image
        for image in result["carried"]
        if image["id"] not in adopting.vanished
    ]


def waiting(fill: str) -> t.List[t.Dict[str, t.Any]]:
    """What fill_images has to do, shortly."""
    record = adopter.load(adopter.RECORD)
    if not record:
        return []
    found = adoption.lacking(record, *adopter.manifests_and_blobs(), fill=fill)["waiting"]
    return [dict(entry, layers=len(entry["layers"])) for entry in found]


def verify(
    carrier: Carrier, tagged: t.Sequence[t.Tuple[Image, str]], carried: t.Container[str]
) -> None:
    """The same image ID under each name on both sides, or an error that lists the others.

    An adopted image lacks blobs, so it is not "complete" to containerd, but it is unpacked.
    """
    present = carrier.containerd_ids()
    adopted = adopter.load(adopter.RECORD).get("images", {})
    wrong = [
        "%s is %s, not %s" % (name, present.get(name, "missing"), image["id"])
        for image, name in tagged
        if present.get(name) != image["id"]
    ]
    lying = {name for image, name in tagged if image["id"] in adopted}
    # Without layers there is nothing to unpack, and containerd says so.
    bare = {
        name
        for image, name in tagged
        if image["id"] in adopted and not adopted[image["id"]]["layers"]
    }
    names = {name for image, name in tagged if image["id"] in carried} - bare
    incomplete = [
        line.split()[0]
        for line in node.ctr("images", "check", timeout=600).splitlines()[1:]
        if line.split()
        and line.split()[0] in names
        and (("incomplete" in line and line.split()[0] not in lying) or line.split()[-1] != "true")
    ]
    if wrong or incomplete:
        raise node.NodeError(
            "Images did not arrive as they left: %s"
            % "; ".join(wrong + ["%s is not complete" % name for name in incomplete])
        )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
            "containerd_root": {"type": "path", "default": "/var/lib/containerd"},
            "method": {
                "type": "str",
                "choices": ["auto", "adopt", "stream"],
                "default": "auto",
            },
            "fill": {
                "type": "str",
                "choices": ["never", "local_only", "all"],
                "default": "local_only",
            },
            "pin": {
                "type": "str",
                "choices": ["never", "local_only", "all"],
                "default": "local_only",
            },
            "overwrite": {"type": "bool", "default": False},
            "reserve_bytes": {"type": "int", "default": 1 << 30},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )

    def work() -> t.Dict[str, t.Any]:
        with adopter.alone(module.check_mode):
            return run_module(module)

    node.finish(module, work, DockerError)


if __name__ == "__main__":
    main()

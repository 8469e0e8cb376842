# Copyright (c) 2026, the homelab.containerd authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Container images without an engine: layers, archives for `docker load`, pushes to a registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shell import ARCH, Failure

EPOCH = 1672531200  # every time in an image, so that the same inputs give the same digests
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Image:
    name: str
    layers: list[bytes]
    command: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    environment: list[str] = field(default_factory=list)

    def config(self) -> bytes:
        runtime: dict[str, Any] = {"Env": [f"PATH={PATH}", *self.environment]}
        if self.entrypoint:
            runtime["Entrypoint"] = self.entrypoint
        elif self.command:
            runtime["Cmd"] = self.command
        if self.ports:
            runtime["ExposedPorts"] = {f"{port}/tcp": {} for port in self.ports}
        content = {
            "architecture": ARCH,
            "os": "linux",
            "created": "2023-01-01T00:00:00Z",
            "config": runtime,
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in self.layers]},
            "history": [{"created": "2023-01-01T00:00:00Z"} for _ in self.layers],
        }
        return json.dumps(content, sort_keys=True).encode()


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Layer:
    """A tar in memory: directories appear as they are needed, times and owners are fixed."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()
        self.tar = tarfile.TarFile(fileobj=self.buffer, mode="w", format=tarfile.PAX_FORMAT)
        self.seen: set[str] = set()

    def _add(self, entry: tarfile.TarInfo, content: bytes = b"") -> None:
        entry.mtime = EPOCH
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.size = len(content)
        self.seen.add(entry.name)
        self.tar.addfile(entry, io.BytesIO(content))

    def directory(self, path: str, mode: int = 0o755) -> None:
        name = path.strip("/")
        if name and name not in self.seen:
            self.directory(str(Path(name).parent).strip("."))
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            self._add(entry)

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        name = path.strip("/")
        self.directory(str(Path(name).parent).strip("."))
        entry = tarfile.TarInfo(name)
        entry.mode = mode
        self._add(entry, content)

    def link(self, path: str, target: str) -> None:
        name = path.strip("/")
        self.directory(str(Path(name).parent).strip("."))
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
        self._add(entry)

    def finish(self) -> bytes:
        self.tar.close()
        return self.buffer.getvalue()


def filtered(source: Path, keep: Callable[[tarfile.TarInfo], bool]) -> bytes:
    """A root file system as a layer, without what the callback refuses."""
    buffer = io.BytesIO()
    with tarfile.open(source) as old, tarfile.open(fileobj=buffer, mode="w") as new:
        for entry in old:
            entry.name = entry.name.lstrip("./") or "."
            if entry.isdev() or not keep(entry):
                continue
            entry.mtime = EPOCH
            entry.pax_headers = {}
            new.addfile(entry, old.extractfile(entry) if entry.isreg() else None)
    return buffer.getvalue()


def write_archive(path: Path, images: Iterable[Image]) -> None:
    """What `docker save` would have written; layers that images share are in it once."""
    index = []
    with tarfile.open(path, "w") as tar:
        done: set[str] = set()

        def put(name: str, content: bytes) -> None:
            if name not in done:
                done.add(name)
                entry = tarfile.TarInfo(name)
                entry.size, entry.mtime = len(content), EPOCH
                tar.addfile(entry, io.BytesIO(content))

        for image in images:
            config = image.config()
            config_name = digest(config)[7:] + ".json"
            put(config_name, config)
            layer_names = []
            for layer in image.layers:
                layer_names.append(f"{digest(layer)[7:]}/layer.tar")
                put(layer_names[-1], layer)
            index.append({"Config": config_name, "RepoTags": [image.name], "Layers": layer_names})
        put("manifest.json", json.dumps(index).encode())


def push(archive: Path, registry: str) -> None:
    """Push every image of an archive to a plain-http registry (the names keep only path:tag)."""
    with tarfile.open(archive) as tar:

        def get(name: str) -> bytes:
            file = tar.extractfile(name)
            if file is None:
                raise Failure(f"{archive}: {name} is no file")
            return file.read()

        for image in json.loads(get("manifest.json")):
            repository, tag = image["RepoTags"][0].split("/", 1)[1].rsplit(":", 1)
            config = get(image["Config"])
            layers = [gzip.compress(get(name), 6, mtime=EPOCH) for name in image["Layers"]]
            for blob in (config, *layers):
                _blob(registry, repository, blob)
            manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "size": len(config), "digest": digest(config)},
                "layers": [
                    {"mediaType": LAYER, "size": len(layer), "digest": digest(layer)}
                    for layer in layers
                ],
            }
            url = f"http://{registry}/v2/{repository}/manifests/{tag}"
            _send("PUT", url, json.dumps(manifest).encode(), MANIFEST)


def _blob(registry: str, repository: str, content: bytes) -> None:
    base = f"http://{registry}/v2/{repository}/blobs"
    try:
        _send("HEAD", f"{base}/{digest(content)}")
        return
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
    place = _send("POST", f"{base}/uploads/", b"").get("Location", "")
    url = urllib.parse.urljoin(f"http://{registry}", place)
    url += ("&" if "?" in url else "?") + "digest=" + urllib.parse.quote(digest(content))
    _send("PUT", url, content, "application/octet-stream")


def _send(method: str, url: str, body: bytes | None = None, kind: str = "") -> dict[str, str]:
    request = urllib.request.Request(url, data=body, method=method)
    if kind:
        request.add_header("Content-Type", kind)
    # No proxy: the registry is a container on this host.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        return dict(answer.headers.items())

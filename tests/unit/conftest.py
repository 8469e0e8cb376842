# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the unit tests share: the recorded output of real programs, and a docker engine's socket."""

from __future__ import annotations

import copy
import http.server
import json
import os
import pathlib
import socketserver
import sys
import threading
import typing as t
import urllib.parse
from collections.abc import Callable, Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECORDED = pathlib.Path(__file__).resolve().parent / "recorded"

# make setup puts this checkout there under its collection's name. `ansible_collections` is a
# namespace package, so that the collections of the environment are still found behind it.
if not (ROOT / ".collections/ansible_collections/homelab/containerd").exists():
    pytest.exit("There is no .collections in this checkout: run `make setup` first.", returncode=2)
sys.path.insert(0, str(ROOT / ".collections"))

Recorded = Callable[[str], t.Any]


def read_recorded(name: str) -> t.Any:
    """A recorded file's text, or its value where it is JSON."""
    text = (RECORDED / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else text


@pytest.fixture
def recorded() -> Recorded:
    return read_recorded


@pytest.fixture
def facts() -> dict[str, t.Any]:
    """node_runtime_info's result on a dockershim node, to be changed as a test likes."""
    return copy.deepcopy(read_recorded("runtime_info-dockershim.json"))


class Engine(socketserver.ThreadingUnixStreamServer):
    """An HTTP server on a unix socket that answers as docker 20.10.24 did on the lab's node."""

    daemon_threads = True

    def __init__(self, path: pathlib.Path) -> None:
        self.path = str(path)
        self.info = read_recorded("docker-20.10.24/info.json")
        self.images = read_recorded("docker-20.10.24/images.json")
        self.containers = read_recorded("docker-20.10.24/containers.json")
        self.requests: list[str] = []
        super().__init__(self.path, _Handler)

    @property
    def stopped(self) -> list[str]:
        """IDs of the containers that somebody stopped, in the order of the requests."""
        return [
            request.split("/")[2]
            for request in self.requests
            if request.startswith("POST ") and "/stop" in request
        ]

    def answer(self, method: str, path: str, query: dict[str, list[str]]) -> tuple[int, t.Any]:
        if path == "/info":
            return 200, self.info
        if path == "/images/json":
            return 200, self.images
        if path == "/containers/json":
            return 200, self._listed(query)
        words = path.split("/")[1:]
        if words[0] == "containers" and len(words) == 3:
            found = [entry for entry in self.containers if entry["Id"] == words[1]]
            if not found:
                return 404, {"message": "No such container: " + words[1]}
            if method == "POST" and words[2] == "stop":
                found[0]["State"] = "exited"
                return 204, None
            pid = 1000 + self.containers.index(found[0]) if found[0]["State"] == "running" else 0
            return 200, {"State": {"Pid": pid, "StartedAt": ""}, "RestartCount": 0}
        if path == "/broken":
            return 200, "<html>"
        return 500, {"message": "not recorded: " + path}

    def _listed(self, query: dict[str, list[str]]) -> list[t.Any]:
        wanted = json.loads(query.get("filters", ["{}"])[0]).get("label", [])
        return [
            entry
            for entry in self.containers
            if (entry["State"] == "running" or query.get("all") == ["1"])
            and all(
                entry["Labels"].get(label.partition("=")[0]) == label.partition("=")[2]
                for label in wanted
            )
        ]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Engine

    def _respond(self) -> None:
        self.server.requests.append("%s %s" % (self.command, self.path))
        url = urllib.parse.urlsplit(self.path)
        status, value = self.server.answer(
            self.command, url.path, urllib.parse.parse_qs(url.query)
        )
        body = b"" if value is None else json.dumps(value).encode()
        if isinstance(value, str):
            body = value.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _respond

    def log_message(self, format: str, *args: t.Any) -> None:
        pass  # the standard one wants an address, which a unix socket's client has not


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> Iterator[Engine]:
    # A socket's path may have 107 bytes at most; pytest's directories can be longer.
    link = pathlib.Path("/tmp") / ("hc-unit-%d" % os.getpid())
    link.symlink_to(tmp_path)
    with Engine(link / "docker.sock") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    link.unlink()


@pytest.fixture
def program(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a shell script of a name first in PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", "%s:%s" % (directory, os.environ["PATH"]))

    def write(name: str, script: str) -> None:
        path = directory / name
        path.write_text("#!/bin/sh\n" + script + "\n")
        path.chmod(0o755)

    return write

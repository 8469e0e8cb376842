# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recorded output of real programs, and a docker engine's socket that answers with it."""

from __future__ import annotations

import http.server
import json
import pathlib
import socketserver
import types
import typing as t
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECORDED = pathlib.Path(__file__).resolve().parent / "recorded"

#: What containerd_config is told: roles/containerd/tasks/configure.yml.
SETTINGS: dict[str, t.Any] = {
    "config_version": 2,
    "cgroup_driver": "systemd",
    "sandbox_image": "registry.k8s.io/pause:3.6",
    "config_path": "/etc/containerd/certs.d",
    "cni_bin_dirs": ["/usr/lib/cni", "/opt/cni/bin"],
    "cni_conf_dir": "/etc/cni/net.d",
    "overrides": {},
}


def read_recorded(name: str) -> t.Any:
    """A recorded file's text, or its value where it is JSON."""
    text = (RECORDED / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else text


def mismatches(value: t.Any, wanted: t.Any, place: str = "") -> list[str]:
    """Where a value is not of a type: TypedDicts with their keys, and what is in them."""
    origin, arguments = t.get_origin(wanted), t.get_args(wanted)
    if wanted in (t.Any, object):
        return []
    if t.is_typeddict(wanted):
        if not isinstance(value, dict):
            return ["%s is no %s" % (place, wanted.__name__)]
        hints = t.get_type_hints(wanted)
        found = ["%s.%s is missing" % (place, key) for key in wanted.__required_keys__ - set(value)]
        found += ["%s.%s is in no contract" % (place, key) for key in set(value) - set(hints)]
        for key in set(value) & set(hints):
            found += mismatches(value[key], hints[key], "%s.%s" % (place, key))
        return sorted(found)
    if origin is t.Literal:
        return [] if value in arguments else ["%s is %r" % (place, value)]
    if origin in (t.Union, types.UnionType):
        return min((mismatches(value, one, place) for one in arguments), key=len)
    if origin is list and isinstance(value, list):
        rows = [mismatches(item, arguments[0], place + "[]") for item in value]
        return sorted({line for row in rows for line in row})
    if origin is dict and isinstance(value, dict):
        rows = [mismatches(item, arguments[1], place + "{}") for item in value.values()]
        return sorted({line for row in rows for line in row})
    # A bool is an int to Python, and to nobody else.
    same = isinstance(value, origin or wanted) and (wanted is bool or not isinstance(value, bool))
    same = same or (wanted is float and isinstance(value, int) and not isinstance(value, bool))
    return [] if same else ["%s is %r, not %s" % (place, value, wanted)]


class Stream(t.NamedTuple):
    """A body that is sent in chunks, as docker sends images."""

    chunks: list[bytes]
    breaks_off: bool = False


class Engine(socketserver.ThreadingUnixStreamServer):
    """An HTTP server on a unix socket that answers as docker 20.10.24 did on the lab's node."""

    daemon_threads = True
    request_queue_size = 128

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

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        pass  # a client that went away in the middle

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
    protocol_version = "HTTP/1.1"

    def _respond(self) -> None:
        self.close_connection = True
        self.server.requests.append("%s %s" % (self.command, self.path))
        url = urllib.parse.urlsplit(self.path)
        status, value = self.server.answer(self.command, url.path, urllib.parse.parse_qs(url.query))
        self.send_response(status)
        if isinstance(value, Stream):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in value.chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.write(b"" if value.breaks_off else b"0\r\n\r\n")
            return
        body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        if value is None:
            body = b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _respond

    def log_message(self, format: str, *args: t.Any) -> None:
        pass  # the standard one wants an address, which a unix socket's client has not

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Docker Engine API over its unix socket, with the standard library alone.

The API (https://docs.docker.com/engine/api/) gives structured data in one connection where
the CLI would cost a process per question; it is spoken without a version prefix, so any
engine from 17.x on answers in its own newest version.
"""

from __future__ import annotations

import http.client
import json
import socket
import typing as t
import urllib.parse

DOCKER_SOCKET = "/var/run/docker.sock"


class DockerError(Exception):
    """The engine did not answer, or answered with an error; the text says which and why.

    status: HTTP's, or None where there was no answer. Only 404 says that what was asked for is not
    there.
    """

    def __init__(self, text: str, status: t.Optional[int] = None) -> None:
        Exception.__init__(self, text)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        http.client.HTTPConnection.__init__(self, "localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class DockerAPI:
    """One engine. Every call opens its own connection, so instances may be shared by threads."""

    def __init__(self, path: str = DOCKER_SOCKET, timeout: float = 60) -> None:
        self.path = path
        self.timeout = timeout

    def open(
        self,
        method: str,
        url: str,
        query: t.Optional[t.Dict[str, t.Any]] = None,
        timeout: t.Optional[float] = None,
    ) -> http.client.HTTPResponse:
        """Send a request and return the response with its body unread (for streams).

        Raises DockerError when the engine cannot be reached or the status is 400 or more.
        """
        if query:
            url += "?" + urllib.parse.urlencode(query, doseq=True)
        connection = _UnixConnection(self.path, timeout or self.timeout)
        try:
            connection.request(method, url)
            response = connection.getresponse()
            if response.status >= 400:
                body = response.read().decode("utf-8", "replace").strip()
                text = "%s %s: %d %s" % (method, url, response.status, body)
                raise DockerError(text, response.status)
        except (OSError, http.client.HTTPException) as exc:
            raise DockerError("%s %s on %s: %s" % (method, url, self.path, exc)) from exc
        return response

    def get(self, url: str, query: t.Optional[t.Dict[str, t.Any]] = None) -> t.Any:
        """GET and decode the JSON answer."""
        response = self.open("GET", url, query)
        try:
            body = response.read()
        except (OSError, http.client.HTTPException) as exc:
            raise DockerError("GET %s on %s: %s" % (url, self.path, exc)) from exc
        return json.loads(body.decode("utf-8"))

    def layers(self, image: t.Dict[str, t.Any]) -> t.Optional[t.List[str]]:
        """The diff IDs of an image's layers, or None where docker removed the image.

        image: {"id", and "tags" for the message}.
        """
        try:
            details = self.get("/images/%s/json" % image["id"])
            return list(details["RootFS"].get("Layers") or [])
        except DockerError as exc:
            if exc.status == 404:
                return None
            why: t.Any = exc
        except (ValueError, KeyError, AttributeError) as exc:
            why = "its answer cannot be read: %r" % exc
        raise DockerError(
            "docker lists the image %s and does not describe it: %s. See docker image inspect, and "
            "journalctl -u docker; then run this again."
            % (", ".join(image.get("tags") or [image["id"]]), why)
        )

    def stop(self, container: str, grace: int) -> None:
        """Stop signal, then SIGKILL after grace seconds; a container already gone is fine."""
        try:
            self.open("POST", "/containers/%s/stop" % container, {"t": grace}, grace + 60).read()
        except DockerError as exc:
            if exc.status != 404:
                raise

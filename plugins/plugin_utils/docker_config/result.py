# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of translating docker's configuration: its types, and the collector that fills it."""

from __future__ import annotations

import difflib
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._docker.daemon_config import (
    CERTS_D,
    shown_log_option,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.sanitize import (
    clean,
    shown,
)

Outcome = t.Literal["translated", "not_needed", "no_equivalent", "unknown"]
TRANSLATED: t.Final = "translated"
NOT_NEEDED: t.Final = "not_needed"
NO_EQUIVALENT: t.Final = "no_equivalent"
UNKNOWN: t.Final = "unknown"

#: Where a setting was found, if not in a file.
COMMAND_LINE = "command line"
ENVIRONMENT = "environment of dockerd"

#: A value of JSON; each key's row says which type it has.
Json = t.Any


class Setting(t.TypedDict):
    """One key or flag: dotted where a map is taken apart, its value without credentials."""

    key: str
    value: Json
    origin: str
    outcome: Outcome
    to: str
    text: str
    remedy: str


class Problem(t.TypedDict):
    """What dockerd does not accept."""

    key: str
    text: str


class Tls(t.TypedDict):
    """How a host is verified; client: pairs of a certificate and its key."""

    skip_verify: t.NotRequired[bool]
    ca: t.NotRequired[list[str]]
    client: t.NotRequired[list[list[str]]]


class Registry(t.TypedDict):
    """host: "name[:port]", or "_default" for all without a file of their own; mirrors: URLs."""

    host: str
    insecure: t.NotRequired[bool]
    mirrors: t.NotRequired[list[str]]
    #: By the "name[:port]" of the registry or of one of its mirrors.
    tls: t.NotRequired[dict[str, Tls]]
    #: For BuildKit: a directory with certificates as docker has them.
    tls_dir: t.NotRequired[str]


class Runtime(t.TypedDict):
    runtime_type: str
    options: t.NotRequired[dict[str, Json]]


class Containerd(t.TypedDict):
    """Settings of config.toml; what docker did not set is not there."""

    runtimes: t.NotRequired[dict[str, Runtime]]
    default_runtime_name: t.NotRequired[str]
    max_concurrent_downloads: t.NotRequired[int]
    enable_selinux: t.NotRequired[bool]


class Kubelet(t.TypedDict):
    """Keys of the kubelet's configuration; the size is a Kubernetes quantity."""

    containerLogMaxSize: t.NotRequired[str]
    containerLogMaxFiles: t.NotRequired[int]


class BuildkitGc(t.TypedDict):
    max_used_space: str


class Buildkit(t.TypedDict):
    registries: list[Registry]
    gc: t.NotRequired[BuildkitGc]


class Translated(t.TypedDict):
    #: One or more for each key and flag.
    settings: list[Setting]
    problems: list[Problem]
    #: For containerd_registries.
    registries: list[Registry]
    #: Networks of insecure-registries.
    unmatched: list[str]
    #: For containerd_config.merge_settings.
    containerd: Containerd
    #: Path to command: scripts that those runtimes need, to exec it with their own arguments.
    scripts: dict[str, str]
    kubelet: Kubelet
    #: HTTP_PROXY, HTTPS_PROXY, NO_PROXY, with their credentials.
    environment: dict[str, str]
    buildkit: Buildkit


class Key(t.NamedTuple):
    """A key of daemon.json or a flag.

    type: "bool", "int", "str", "list" (of strings), "objects" (a list of anything) or "map";
    dockerd refuses other values. outcome: of the key as a whole. handler: the function that decides
    by the value, where parts of it may have another outcome. flag: its name on the command line,
    where that is another. only: "flag" or "file" where the other is not possible.
    """

    name: str
    type: str
    outcome: Outcome
    to: str
    text: str
    remedy: str = ""
    flag: str = ""
    only: str = ""
    handler: t.Callable[[Collector, Key, Json, str], None] | None = None


class Collector:
    """Collects the result, key by key."""

    def __init__(self) -> None:
        self.settings: list[Setting] = []
        self.problems: list[Problem] = []
        self.insecure: list[str] = []
        self.unmatched: list[str] = []
        self.mirrors: list[str] = []
        self.containerd: Containerd = {}
        self.kubelet: Kubelet = {}
        self.environment: dict[str, str] = {}
        self.gc: BuildkitGc | None = None
        self.scripts: dict[str, str] = {}
        #: Registries with certificates below CERTS_D.
        self.with_certificates: list[str] = []
        # What one key has to know of another.
        self.log_driver = "json-file"
        self.log_options: dict[str, Json] = {}
        self.runtimes: set[str] = set()

    def result(self) -> Translated:
        found: list[Registry] = [
            {"host": host, "insecure": True, "mirrors": []} for host in self.insecure
        ]
        if self.mirrors:
            # docker has mirrors for its Hub alone.
            found.append({"host": "docker.io", "insecure": False, "mirrors": self.mirrors})
        hosts = [entry["host"] for entry in found]
        for_buildkit = [entry.copy() for entry in found]
        for_buildkit += [
            {"host": host, "insecure": False, "mirrors": []}
            for host in self.with_certificates
            if host not in hosts
        ]
        for entry in for_buildkit:
            if entry["host"] in self.with_certificates:
                entry["tls_dir"] = "%s/%s" % (CERTS_D, entry["host"])
        buildkit: Buildkit = {"registries": for_buildkit}
        if self.gc:
            buildkit["gc"] = self.gc
        return {
            "settings": self.settings,
            "problems": self.problems,
            "registries": found,
            "unmatched": self.unmatched,
            "containerd": self.containerd,
            "scripts": self.scripts,
            "kubelet": self.kubelet,
            "environment": self.environment,
            "buildkit": buildkit,
        }

    def problem(self, key: str, text: str) -> None:
        self.problems.append({"key": shown(key), "text": shown(text)})

    def add(
        self,
        key: str,
        value: Json,
        origin: str,
        outcome: Outcome,
        text: str,
        to: str = "",
        remedy: str = "",
    ) -> None:
        name = key.rpartition("log-opts.")[2]
        if name != key:
            value = shown_log_option(name, value)
        # The key says whether the value is a secret.
        harmless = next(iter(shown({key: value}).values()))
        self.settings.append(
            {
                "key": shown(key),
                "value": harmless,
                "origin": clean(origin),
                "outcome": outcome,
                "to": to if outcome == TRANSLATED else "",
                "text": shown(text),
                "remedy": remedy,
            }
        )

    def add_row(self, row: Key, value: Json, origin: str, key: str = "") -> None:
        """As the table has it; key: where only a part of the row's value is meant."""
        self.add(key or row.name, value, origin, row.outcome, row.text, row.to, row.remedy)

    def wrong(self, key: str, value: Json, origin: str, why: str) -> None:
        self.problem(key, why)
        self.add(
            key,
            value,
            origin,
            UNKNOWN,
            "Not understood: " + why,
            remedy="Correct it; dockerd --validate (23 and newer) says whether docker accepts it.",
        )

    def unknown(
        self, key: str, value: Json, origin: str, known: t.Iterable[str], text: str = ""
    ) -> None:
        """known: the names that it may be a misspelling of."""
        name = key.rpartition(".")[2].lstrip("-").lower()
        near = difflib.get_close_matches(name[:80], sorted(known), 1, 0.8)
        if not text:
            text = "dockerd of 18 to 29 does not know it"
            text += "; did you mean %s?" % near[0] if near else ""
        self.add(
            key,
            value,
            origin,
            UNKNOWN,
            text,
            remedy="Correct or remove it; it is not carried over.",
        )

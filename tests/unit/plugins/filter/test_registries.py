# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import tomllib
import typing as t

import pytest
from ansible_collections.homelab.containerd.plugins.filter.registries import (
    registry_directories,
)

CERTS_D = "/etc/containerd/certs.d"
DOCKER = "/etc/docker/certs.d"


def tree(files: dict[str, str]) -> list[dict[str, t.Any]]:
    """What ansible.builtin.find says of these files and of the directories that they are in."""
    directories = {path.rpartition("/")[0] for path in files}
    return [{"path": path, "isdir": True} for path in sorted(directories)] + [
        {"path": path, "isdir": False, "checksum": hashlib.sha1(text.encode()).hexdigest()}
        for path, text in files.items()
    ]


def links(found: dict[str, t.Any]) -> dict[str, str]:
    return {link["path"]: link["target"] for link in found["links"]}


def test_a_registry_is_written_once_and_again_after_an_edit():
    nas = {"host": "nas:5000", "insecure": True}
    (file,) = registry_directories([], [nas], "", CERTS_D + "/")["files"]
    assert file["path"] == CERTS_D + "/nas:5000/hosts.toml"
    assert file["text"].startswith("# Ansible managed\n")
    assert tomllib.loads(file["text"])["server"] == "http://nas:5000"

    there = {file["path"]: file["text"]}
    assert registry_directories(tree(there), [nas], "", CERTS_D) == {"files": [], "links": []}
    there[file["path"]] += "# edited\n"
    assert registry_directories(tree(there), [nas], "", CERTS_D)["files"] == [file]


def test_registries_of_the_configuration_are_moved_unless_the_role_names_them():
    config = "".join(
        '[plugins.cri.registry.mirrors."%s"]\nendpoint = ["http://%s"]\n' % (host, host)
        for host in ("a:1", "b:2")
    )
    files = registry_directories([], [{"host": "a:1"}], config, CERTS_D)["files"]
    servers = {file["path"]: list(tomllib.loads(file["text"])["host"]) for file in files}
    assert servers == {
        CERTS_D + "/a:1/hosts.toml": ["https://a:1"],
        CERTS_D + "/b:2/hosts.toml": ["http://b:2"],
    }


@pytest.mark.parametrize("said", ["false", "no", False, None])
def test_insecure_is_a_boolean_also_from_the_command_line(said):
    (file,) = registry_directories([], [{"host": "a:1", "insecure": said}], "", CERTS_D)["files"]
    assert tomllib.loads(file["text"])["server"] == "https://a:1"


def test_a_mirrors_certificates_are_dockers():
    nas = DOCKER + "/nas:5000/"
    there = tree({nas + name: "" for name in ("c.cert", "c.key", "x.crt", "y.cert", "README")})
    hub = {"host": "docker.io", "mirrors": ["https://nas:5000/hub"]}

    def mirror(*others: dict[str, t.Any]) -> dict[str, t.Any]:
        text = registry_directories(there, [hub, *others], "", CERTS_D)["files"][0]["text"]
        return t.cast("dict[str, t.Any]", tomllib.loads(text)["host"]["https://nas:5000/hub"])

    assert mirror()["ca"] == [nas + "x.crt"]
    assert mirror()["client"] == [[nas + "c.cert", nas + "c.key"]]
    # docker reads no certificates of what it does not verify.
    insecure = mirror({"host": "nas:5000", "insecure": True})
    assert insecure == {"capabilities": ["pull", "resolve"], "skip_verify": True}


def test_directories_are_linked_where_no_other_has_the_name():
    config = '[plugins.cri.registry]\nconfig_path = "/opt/two:/opt/one:%s"\n' % DOCKER
    there = tree(
        {
            CERTS_D + "/mine/hosts.toml": "",
            "/opt/one/a/hosts.toml": "",
            "/opt/one/c/hosts.toml": "",
            "/opt/two/a/hosts.toml": "",
            DOCKER + "/a/ca.crt": "",
            DOCKER + "/b/ca.crt": "",
            DOCKER + "/named/ca.crt": "",
            DOCKER + "/mine/ca.crt": "",
            # docker reads nothing else there.
            DOCKER + "/notes/README": "",
        }
    )
    there.append({"path": CERTS_D + "/mine", "isdir": True})
    found = registry_directories(there, [{"host": "named"}], config, CERTS_D)
    assert links(found) == {
        CERTS_D + "/a": "/opt/two/a",
        CERTS_D + "/c": "/opt/one/c",
        CERTS_D + "/b": DOCKER + "/b",
    }
    # The second run finds the links, and its configuration names certs_dir alone.
    there += [{"path": path, "islnk": True, "isdir": False} for path in links(found)]
    again = registry_directories(there, [], "version = 2\n", CERTS_D)
    assert links(again) == {CERTS_D + "/named": DOCKER + "/named"}

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import socket

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._docker import clients
from ansible_collections.homelab.containerd.plugins.module_utils._docker.clients import docker_calls
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("line", "command", "purpose"),
    [
        ("docker build -t x .", "docker build", "builds"),
        ("DOCKER_BUILDKIT=1 docker build .", "docker build", "builds"),
        ("/usr/bin/docker run --rm x", "docker run", "runs"),
        ("sudo docker -H unix:///run/docker.sock ps", "docker ps", "monitors"),
        ("sudo docker --host=tcp://a:1 --debug stats", "docker stats", "monitors"),
        ("docker buildx build --push .", "docker buildx build", "builds"),
        ("docker compose up -d", "docker compose up", "runs"),
        ("docker-compose up -d", "docker-compose up", "runs"),
        ("docker-compose -f /srv/x.yml pull", "docker-compose pull", "images"),
        ("docker image ls", "docker image ls", "monitors"),
        ("docker system prune -af", "docker system prune", "cleans"),
        ("x=$(docker inspect y)", "docker inspect", "monitors"),
        ("test -x a && docker push x", "docker push", "images"),
        ("docker container exec a b", "docker container exec", "runs"),
    ],
)
def test_a_call(line, command, purpose):
    assert docker_calls("#!/bin/sh\n" + line) == [
        {"line": 2, "command": command, "purpose": purpose}
    ]


@pytest.mark.parametrize(
    "line",
    [
        "# docker build .",
        "  ; docker run",
        "After=docker.service",
        "cp -r /var/lib/docker/volumes /backup",
        "apt-get install docker.io docker-ce",
        "echo docker is gone",
        "systemctl restart docker",
        "docker:",
        "image: docker:20",
        "export DOCKER_HOST=unix:///run/docker.sock",
        "dockerd --debug",
        "docker-registry serve",
    ],
)
def test_no_call(line):
    assert docker_calls(line) == []


@given(st.text())
def test_any_text_can_be_read(text):
    for call in docker_calls(text):
        assert call["line"] >= 1 and call["purpose"] in {*clients.PURPOSES, "unknown"}


@given(st.text(alphabet="docker buildcompose-=/:\n \"'#", max_size=200))
def test_texts_like_it_can_be_read(text):
    docker_calls(text)


def write(path, text, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def test_files_that_call_docker(tmp_path):
    write(
        tmp_path / "etc/systemd/system/day.service",
        "[Service]\nExecStart=-/usr/bin/docker build x\n",
    )
    write(
        tmp_path / "usr/lib/systemd/system/day.service",
        "[Service]\nExecStart=/usr/bin/docker rmi x\n",
    )
    write(
        tmp_path / "etc/systemd/system/two.service.d/a.conf",
        "[Service]\nExecStartPre=/bin/sh -c \\\n  'docker pull x'\nExecStart=/bin/true\n",
    )
    write(tmp_path / "etc/systemd/system/docker.service", "[Service]\nExecStart=docker run x\n")
    write(tmp_path / "etc/systemd/system/prose.service", "[Unit]\nDescription=docker run is nice\n")
    write(tmp_path / "etc/cron.daily/prune", "#!/bin/sh\ndocker system prune -f\n")
    write(tmp_path / "etc/crontab", "0 1 * * * root docker run x\n")
    write(tmp_path / "usr/local/bin/ps", "#!/bin/sh\ndocker ps\ndocker ps\n")
    write(tmp_path / "usr/local/sbin/homelab-keep-images", "#!/bin/sh\ndocker save x\n")
    write(tmp_path / "root/notes.txt", "docker run everything\n")
    write(tmp_path / "home/ann/deploy.sh", "docker push x\n")
    (tmp_path / "home/ann/big.sh").write_bytes(b"#!/bin/sh\ndocker run x\n" + b"x" * 300000)
    (tmp_path / "home/ann/program").write_bytes(b"\x7fELF\0docker run x\n")
    found = clients.calling_files(str(tmp_path))
    shown = [
        (entry["path"][len(str(tmp_path)) :], entry["kind"], entry["command"]) for entry in found
    ]
    assert shown == [
        ("/etc/systemd/system/day.service", "unit", "docker build"),
        ("/etc/systemd/system/two.service.d/a.conf", "unit", "docker pull"),
        ("/etc/crontab", "cron", "docker run"),
        ("/etc/cron.daily/prune", "cron", "docker system prune"),
        ("/usr/local/bin/ps", "script", "docker ps"),
        ("/usr/local/bin/ps", "script", "docker ps"),
        ("/home/ann/deploy.sh", "script", "docker push"),
    ]
    assert not any("x" in entry["command"].split() for entry in found)


def test_what_cannot_be_read_is_left_out(tmp_path):
    assert clients.small_text(str(tmp_path)) is None
    assert clients.small_text(str(tmp_path / "no")) is None
    (tmp_path / "pipe").symlink_to("/dev/zero")
    assert clients.small_text(str(tmp_path / "pipe")) is None


def test_log_agents(tmp_path):
    write(
        tmp_path / "etc/filebeat/inputs.d/a.yml", "paths:\n- /var/lib/docker/containers/*/*.log\n"
    )
    write(tmp_path / "etc/promtail/config.yml", "# /var/lib/docker/containers\n")
    (entry,) = clients.log_agents(str(tmp_path))
    assert entry == {"path": str(tmp_path / "etc/filebeat/inputs.d/a.yml"), "line": 2}


@pytest.mark.parametrize(
    ("name", "text", "hosts", "helpers", "broken"),
    [
        ("config.json", '{"auths": {"b": {"auth": "hush"}, "a": {}}}', ["a", "b"], [], False),
        ("config.json", '{"credHelpers": {"gcr.io": "gcloud"}}', [], ["gcr.io"], False),
        ("config.json", '{"auths": {}, "credsStore": "pass"}', [], ["*"], False),
        (".dockercfg", '{"https://index.docker.io/v1/": {"auth": "hush"}}', None, [], False),
        ("config.json", '{"auths": {"a"', [], [], True),
        ("config.json", "[]", [], [], True),
        ("config.json", '{"auths": 1}', [], [], True),
        ("config.json", "[" * 100000, [], [], True),
    ],
)
def test_logins(tmp_path, name, text, hosts, helpers, broken):
    path = str(tmp_path / name)
    write(tmp_path / name, text)
    (entry,) = clients.logins([path, str(tmp_path / "none")], {path})
    assert entry["kubelet_reads"] is True
    assert entry["hosts"] == (["https://index.docker.io/v1/"] if hosts is None else hosts)
    assert entry["helpers"] == helpers and bool(entry["error"]) is broken
    assert "hush" not in json.dumps(entry)


@pytest.mark.parametrize("text", ["{}", "", '{"auths": {}}', '{"HttpHeaders": {"a": "b"}}'])
def test_a_file_without_logins(tmp_path, text):
    write(tmp_path / "config.json", text)
    assert clients.logins([str(tmp_path / "config.json")], ()) == []


def test_where_the_kubelet_looks_for_logins():
    with_home = clients.kubelet_login_paths("/var/lib/kubelet", "/", "/root")
    assert "/root/.docker/config.json" in with_home and "/var/lib/kubelet/config.json" in with_home
    without = clients.kubelet_login_paths("/var/lib/kubelet", "/", "")
    assert "/root/.docker/config.json" not in without and "/.docker/config.json" in without


def test_peers_of_a_socket(recorded):
    printed = recorded("iproute2-6.1.0/ss-xnH.txt")
    found = clients.peers(printed, {"/run/docker.sock"})
    assert found == {"441696", "441859", "444382", "445791"}
    assert clients.peers("", {"/run/docker.sock"}) == set()


def test_who_holds_a_socket(tmp_path):
    for pid, inode in (("12", "190023"), ("7", "5")):
        directory = tmp_path / pid / "fd"
        directory.mkdir(parents=True)
        (directory / "3").symlink_to("socket:[%s]" % inode)
        (directory / "0").symlink_to("/dev/null")
    (tmp_path / "uptime").write_text("1")
    assert clients.owners({"190023"}, str(tmp_path)) == {"190023": 12}


def test_who_looks_is_not_found(tmp_path, program, engine):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(engine.path)
        assert clients.connected_processes([engine.path]) == []


@pytest.mark.parametrize(
    ("cgroup", "container", "unit"),
    [
        ("1:name=systemd:/system.slice/watching.service\n", None, "watching.service"),
        ("0::/system.slice/docker-%s.scope\n" % ("a" * 64), "a" * 64, None),
        ("4:memory:/kubepods/besteffort/pod1-2/%s\n" % ("b" * 64), "b" * 64, None),
        ("0::/user.slice/user-0.slice/session-1.scope\n", None, None),
        ("", None, None),
    ],
)
def test_where_a_process_belongs(cgroup, container, unit):
    assert clients.container_of(cgroup) == container
    assert clients.unit_of(cgroup) == unit

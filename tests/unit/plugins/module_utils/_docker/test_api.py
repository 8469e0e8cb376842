# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._docker.api import (
    DockerAPI,
    DockerError,
)
from support import Stream


def test_get(engine):
    assert DockerAPI(engine.path).get("/info")["ServerVersion"] == "20.10.24+dfsg1"


def test_the_query_is_encoded(engine):
    api = DockerAPI(engine.path)
    filters = json.dumps({"label": ["io.kubernetes.docker.type=podsandbox"]})
    found = api.get("/containers/json", {"filters": filters, "all": 1})
    assert len(found) == 11
    assert all(entry["Image"] == "registry.k8s.io/pause:3.6" for entry in found)
    assert engine.requests == [
        "GET /containers/json?filters=%7B%22label%22%3A+%5B%22io.kubernetes.docker.type%3D"
        "podsandbox%22%5D%7D&all=1"
    ]


def test_a_list_becomes_repeated_parameters(engine):
    with pytest.raises(DockerError):
        DockerAPI(engine.path).get("/images/get", {"names": ["a:1", "b:1"]})
    assert engine.requests == ["GET /images/get?names=a%3A1&names=b%3A1"]


def test_an_error_names_request_status_and_message(engine):
    with pytest.raises(DockerError) as failure:
        DockerAPI(engine.path).get("/nothing")
    assert str(failure.value) == 'GET /nothing: 500 {"message": "not recorded: /nothing"}'


def test_no_engine(tmp_path):
    with pytest.raises(DockerError, match=r"GET /info on .*docker.sock: .*No such file"):
        DockerAPI(str(tmp_path / "docker.sock")).get("/info")


def test_an_answer_that_is_not_json(engine):
    with pytest.raises(ValueError, match="Expecting value"):
        DockerAPI(engine.path).get("/broken")


def test_stop_asks_for_the_grace(engine):
    identity = engine.containers[0]["Id"]
    DockerAPI(engine.path).stop(identity, 7)
    assert engine.requests == ["POST /containers/%s/stop?t=7" % identity]


def test_stopping_what_is_gone_is_fine(engine):
    DockerAPI(engine.path).stop("0" * 64, 7)


def test_stopping_that_fails_is_not(engine):
    engine.answer = lambda method, path, query: (500, {"message": "tried and failed"})
    with pytest.raises(DockerError, match="tried and failed"):
        DockerAPI(engine.path).stop(engine.containers[0]["Id"], 7)


IMAGE = {"id": "sha256:1", "tags": ["home/app:1"]}


def test_an_image_is_gone_where_docker_says_404_and_only_there(engine):
    engine.answer = lambda *args: (404, {"message": "No such image: sha256:1"})
    assert DockerAPI(engine.path).layers(IMAGE) is None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {"message": "stat /var/lib/docker/overlay2: input/output error"}),
        (503, {"message": "shutting down"}),
        (200, {}),
        (200, None),
        (200, "<html>"),
    ],
)
def test_any_other_answer_names_the_image_and_the_cause(engine, status, body):
    engine.answer = lambda *args: (status, body)
    cause = body["message"] if status != 200 else "its answer"
    with pytest.raises(DockerError, match=r"home/app:1.*%s.*run this again" % cause):
        DockerAPI(engine.path).layers(IMAGE)


def test_an_engine_that_went_away_is_no_missing_image(tmp_path):
    with pytest.raises(DockerError, match=r"home/app:1.*No such file") as failure:
        DockerAPI(str(tmp_path / "docker.sock")).layers(IMAGE)
    assert failure.value.status is None


def test_an_answer_that_breaks_off_is_docker_s_error(engine):
    engine.answer = lambda *args: (200, Stream([b"{" * 9], breaks_off=True))
    with pytest.raises(DockerError, match="/info"):
        DockerAPI(engine.path).get("/info")

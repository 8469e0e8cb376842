# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Jobs of the engines, against the options that the engines' own sources define."""

from __future__ import annotations

import json
import shlex

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.homelab.containerd.plugins.filter import build_job

#: Options with a value that each program defines. Read at: kaniko v1.24.0's last commit and
#: osscontainertools/kaniko 6bcc934 (cmd/executor/cmd/root.go, in both); genuinetools/img 16d3b6c
#: (build.go, push.go); buildah 1.28.2 and buildctl 0.34.2 (their own --help).
KNOWN = {
    "/kaniko/executor": {
        *("context", "dockerfile", "destination", "target", "custom-platform", "build-arg"),
        *("insecure-registry", "digest-file"),
    },
    "img build": {"no-console", "file", "tag", "target", "platform", "build-arg"},
    "img push": {"insecure-registry"},
    "buildah build": {
        *("isolation", "layers", "tls-verify", "file", "tag", "target", "platform", "build-arg"),
    },
    "buildah push": {"tls-verify", "digestfile"},
    "buildctl build": {
        *("progress", "frontend", "local", "opt", "output", "metadata-file"),
    },
}


@pytest.fixture
def options():
    return {
        "engine": "kaniko",
        "image": "registry.lab:5000/own:1",
        "name": "build-app",
        "namespace": "builds",
        "node": "node1",
        "context": "/srv/app",
        "git": False,
        "dockerfile": "deploy/Dockerfile",
        "tags": ["registry.lab:5000/app:1", "registry.lab:5000/app:2"],
        "args": {"A": "1 2"},
        "target": "release",
        "platforms": ["linux/amd64"],
        "insecure_registries": ["registry.lab:5000"],
        "registry_login": "",
        "host_aliases": [],
        "timeout": 600,
    }


def commands(job):
    """The programs a Job runs, as lists of words."""
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    if command[:2] != ["sh", "-c"]:
        return [command]
    programs = ("img ", "buildah ", "buildctl ")
    return [shlex.split(line) for line in command[2].splitlines() if line.startswith(programs)]


@pytest.mark.parametrize("engine", ["buildkit", "buildah", "kaniko", "img"])
@pytest.mark.parametrize("git", [False, True])
def test_only_options_that_the_programs_know(options, engine, git):
    options.update(engine=engine, git=git)
    seen = set()
    for words in commands(build_job.build_job(options)):
        program = words[0] if words[0].startswith("/") else " ".join(words[:2])
        if program == "buildctl debug":
            continue
        seen.add(program)
        for word in words:
            if word.startswith("--"):
                assert word[2:].partition("=")[0] in KNOWN[program], word
    assert seen == {name for name in KNOWN if engine.replace("kit", "ctl") in name}


@pytest.mark.parametrize("engine", ["buildkit", "buildah", "kaniko", "img"])
def test_each_engine_gets_all_options(options, engine):
    options["engine"] = engine
    text = "\n".join(" ".join(words) for words in commands(build_job.build_job(options)))
    for part in ("deploy/Dockerfile", "A=1 2", "release", "linux/amd64", *options["tags"]):
        assert part in text, part


@pytest.mark.parametrize(
    ("engine", "privileged"),
    [("buildkit", True), ("buildah", True), ("kaniko", False), ("img", True)],
)
def test_image_and_rights(options, engine, privileged):
    options["engine"] = engine
    job = build_job.build_job(options)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.lab:5000/own:1"
    assert container["securityContext"] == {"privileged": privileged}
    options["image"] = ""
    with pytest.raises(AnsibleFilterError, match="build_job_image is empty"):
        build_job.build_job(options)


def test_the_context_is_the_nodes_directory_and_read_only(options):
    spec = build_job.build_job(options)["spec"]["template"]["spec"]
    assert {"name": "context", "hostPath": {"path": "/srv/app", "type": "Directory"}} in spec[
        "volumes"
    ]
    (mount,) = (m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "context")
    assert mount["readOnly"] is True
    assert spec["nodeSelector"] == {"kubernetes.io/hostname": "node1"}
    options["git"] = True
    spec = build_job.build_job(options)["spec"]["template"]["spec"]
    assert not any(volume["name"] == "context" for volume in spec["volumes"])


def test_a_login_comes_from_its_secret(options):
    options["registry_login"] = "registry-login"
    spec = build_job.build_job(options)["spec"]["template"]["spec"]
    (volume,) = (v for v in spec["volumes"] if v["name"] == "login")
    assert volume["secret"]["secretName"] == "registry-login"
    env = {entry["name"]: entry["value"] for entry in spec["containers"][0]["env"]}
    assert env["DOCKER_CONFIG"] == "/kaniko/.docker"


def test_job_and_pods_are_found_by_one_selector(options):
    job = build_job.build_job(options)
    assert job["metadata"]["labels"]["job-name"] == job["metadata"]["name"]
    assert job["spec"]["backoffLimit"] == 0


def test_an_unknown_engine_is_refused(options):
    options["engine"] = "docker"
    with pytest.raises(AnsibleFilterError, match="node, or a Job of buildkit, buildah"):
        build_job.build_job(options)


def listed(*items):
    return json.dumps({"items": list(items)})


def job(condition="", message=""):
    conditions = [{"type": condition, "status": "True", "message": message}] if condition else []
    return {"kind": "Job", "status": {"conditions": conditions}}


def pod(state):
    return {"kind": "Pod", "status": {"containerStatuses": [{"state": state}]}}


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (listed(job(), pod({"running": {}})), ("running", "", "")),
        (
            listed(job("Complete"), pod({"terminated": {"message": "sha256:1\n"}})),
            ("done", "sha256:1", ""),
        ),
        (listed(job("Failed", "BackoffLimit")), ("failed", "", "BackoffLimit")),
        (
            listed(job(), pod({"waiting": {"reason": "ErrImagePull", "message": "no such host"}})),
            ("failed", "", "no such host"),
        ),
        (listed(), ("running", "", "")),
    ],
)
def test_how_a_job_ends(text, outcome):
    found = build_job.job_outcome(text)
    assert (found["state"], found["digest"], found["reason"]) == outcome

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._build import buildctl, progress
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import image_names


@pytest.fixture
def options():
    return {
        "context": "/srv/app",
        "dockerfile": "Dockerfile",
        "tags": ["app:1"],
        "destinations": ["node"],
        "archive": None,
        "build_args": {},
        "target": "",
        "platforms": [],
        "secrets": {},
        "cache_from": [],
        "cache_to": [],
        "no_cache": False,
        "pull": False,
        "compression": "gzip",
    }


def replay(recorded, name):
    """Feed a recorded run: the steps, all sentences, and what buildctl said to people."""
    steps, sentences, said = progress.Steps(), [], ""
    for line in recorded("buildkit-0.34.2/" + name).splitlines(keepends=True):
        event = progress.parse(line)
        if event is None:
            said += line
        else:
            sentences += steps.feed(event)
    return steps, sentences, said


def test_a_build_is_told_step_by_step(recorded):
    steps, sentences, said = replay(recorded, "first-build.txt")
    assert said.strip() == ""
    ran = [s for s in sentences if "RUN echo unit one" in s]
    assert ran[0].endswith("[one 2/2] RUN echo unit one; sleep 1")
    assert ran[-1].startswith("[one 2/2] RUN echo unit one; sleep 1 done, 1.")
    assert sentences.index("  unit one") > sentences.index(ran[0])
    assert not any("[internal]" in s for s in sentences)
    states = {step["name"]: step["state"] for step in steps.report()}
    assert states["[one 2/2] RUN echo unit one; sleep 1"] == "done"
    assert steps.failed() is None


def test_a_second_build_is_cached(recorded):
    steps, sentences, _said = replay(recorded, "second-build.txt")
    states = {step["name"]: step["state"] for step in steps.report()}
    assert states["[one 2/2] RUN echo unit one; sleep 1"] == "cached"
    assert "[one 2/2] RUN echo unit one; sleep 1 CACHED" in sentences
    assert "  unit one" not in sentences


def test_a_failure_has_the_line_and_the_last_words(recorded):
    steps, _sentences, said = replay(recorded, "failed-step.txt")
    text = progress.failure(said, steps.failed())
    assert "2 | >>> RUN echo unit some; echo unit words; exit 3" in text
    assert "exit code: 3" in text
    assert "unit some\nunit words" in text


def test_what_a_terminal_would_overwrite_is_not_told():
    steps = progress.Steps()
    steps.feed({"vertexes": [{"digest": "a", "name": "RUN x", "started": "2026-01-01T00:00:00Z"}]})

    def log(text):
        data = base64.b64encode(text).decode()
        return steps.feed({"logs": [{"vertex": "a", "data": data}]})

    assert log(b"10%\r20%\r") == []
    assert log(b"30%\nwhole\nhal") == ["  30%", "  whole"]
    assert log(b"f\n") == ["  half"]


@pytest.mark.parametrize(
    ("tag", "good"),
    [
        ("app", True),
        ("home/app:1", True),
        ("registry.lab:5000/a/b_c:v1.2-x", True),
        ("localhost/app:1", True),
        ("App:1", False),
        ("app:1:2", False),
        ("app@sha256:" + "0" * 64, False),
        ("https://registry.lab/app", False),
        ("a b", False),
        ("app:1,type=x", False),
        ("", False),
    ],
)
def test_names_of_images(options, tag, good):
    options["tags"] = [tag]
    assert bool(buildctl.problems(options)) is not good


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tags": []}, "tags is empty"),
        ({"platforms": ["arm64"]}, "linux/arm64"),
        ({"platforms": ["linux/amd64", "linux/arm64"]}, "a node runs one"),
        ({"destinations": ["archive"]}, "say in archive"),
        ({"cache_from": ["registry.lab/x"]}, "type=registry,ref="),
        ({"build_args": {"a b": "1"}}, "build_args"),
        ({"secrets": {"a,src=/etc/shadow": "1"}}, "secrets"),
        ({"dockerfile": "../x"}, "below the context"),
    ],
)
def test_bad_options_are_named(options, change, said):
    options.update(change)
    (problem,) = buildctl.problems(options)
    assert said in problem


def test_good_options_have_no_problem(options):
    assert buildctl.problems(options) == []


def test_a_name_is_what_the_kubelet_looks_for(options):
    """buildctl stores "app:1" under just that, where no pod finds it."""
    assert image_names.full_name("app") == "docker.io/library/app:latest"
    assert image_names.full_name("registry.lab:5000/app") == "registry.lab:5000/app:latest"
    options["tags"] = ["app:1", "home/app"]
    assert '"name=docker.io/library/app:1,docker.io/home/app:latest"' in buildctl.output(
        options, "node", True
    )


def test_only_what_leaves_the_node_is_compressed(options):
    node = buildctl.output(options, "node", True)
    assert "compression=uncompressed" in node and "unpack=true" in node
    away = buildctl.output(options, "registry", True)
    assert "compression=gzip,force-compression=true" in away and away.endswith("push=true")
    archive = buildctl.output(options, "archive", True, "/srv/x,y.tar")
    assert archive.startswith('type=oci,"dest=/srv/x,y.tar",') and "gzip" in archive


@pytest.mark.parametrize("destination", ["node", "registry", "archive"])
def test_nothing_is_published_before_it_is_known_to_be_new(options, destination):
    text = buildctl.output(options, destination, False)
    assert "store=false" in text and "push" not in text and "dest" not in text


def test_secrets_are_in_the_environment_alone(options):
    options["secrets"] = {"b": "value-b", "a": "value-a"}
    words = buildctl.buildctl(options, "node", True, "/m")
    assert "--secret=id=a,env=HOMELAB_SECRET_0" in words
    assert "--secret=id=b,env=HOMELAB_SECRET_1" in words
    assert not any("value-" in word for word in words)


def test_secrets_are_masked_also_line_by_line():
    key = "-----BEGIN KEY-----\nabcdefghijkl\n-----END KEY-----\n"
    assert buildctl.mask("  abcdefghijkl", [key]) == "  ********"
    assert buildctl.mask("token=t0k", ["t0k", "", " "]) == "token=********"


def test_the_command_line(options):
    options.update(
        context="https://git.lab/app.git#main",
        target="release",
        platforms=["linux/amd64", "linux/arm64"],
        build_args={"B": "2", "A": "1 x"},
        cache_from=["type=registry,ref=r/c"],
        cache_to=["type=registry,ref=r/c,mode=max"],
        no_cache=True,
        pull=True,
    )
    first = buildctl.buildctl(options, "registry", False, "/m")
    assert "--opt=context=https://git.lab/app.git#main" in first
    assert not any(word.startswith("--local") for word in first)
    assert first.index("--opt=build-arg:A=1 x") < first.index("--opt=build-arg:B=2")
    assert "--opt=platform=linux/amd64,linux/arm64" in first and "--opt=target=release" in first
    assert "--no-cache" in first and "--opt=image-resolve-mode=pull" in first
    assert not any(word.startswith("--export-cache") for word in first)
    second = buildctl.buildctl(options, "registry", True, "/m")
    assert "--no-cache" not in second
    assert "--export-cache=type=registry,ref=r/c,mode=max" in second


@pytest.mark.parametrize(
    ("context", "git"),
    [
        ("https://git.lab/app.git", True),
        ("https://git.lab/app.git#v1:sub", True),
        ("git@git.lab:app.git", True),
        ("/srv/app.git", False),
        ("https://git.lab/app.tar", False),
    ],
)
def test_what_is_a_git_repository(context, git):
    assert buildctl.is_git(context) is git


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        # All of BuildKit 0.34.2.
        (
            "error: failed to solve: failed to push registry.lab:5999/t:1: failed to do request: "
            'Head "https://registry.lab:5999/v2/t/blobs/sha256:5f": dial tcp 10.200.3.2:5999: '
            "connect: connection refused",
            "only the registry does not answer",
        ),
        (
            "error: failed to solve: registry.lab:5000/tt:1: failed to resolve source metadata for "
            "registry.lab:5000/tt:1: registry.lab:5000/tt:1: not found",
            "No registry has the base image registry.lab:5000/tt:1,",
        ),
        (
            "failed to resolve source metadata for nosuch.lab/base:1: failed to do request: Head "
            '"https://nosuch.lab/v2/base/manifests/1": dial tcp: lookup nosuch.lab on '
            "127.0.0.11:53: no such host",
            "The registry of the base image nosuch.lab/base:1 does not answer",
        ),
        ("error: failed to solve: secret zz: not found", "name it in secrets"),
        (
            "error: failed to receive status: rpc error: code = Unavailable desc = error reading "
            "from server: EOF",
            "buildkitd went away",
        ),
        ("content digest sha256:abc: not found", "adopted from docker"),
    ],
)
def test_known_errors_have_a_remedy(said, advice):
    assert advice in progress.remedy(said)


def test_an_unknown_error_has_none():
    assert progress.remedy("exit code: 1") == ""


def test_what_the_registry_has():
    steps = progress.Steps()
    digest = "sha256:" + "4" * 64
    steps.feed({"vertexes": [{"digest": "a", "name": "[1/1] FROM r/x:1@" + digest}]})
    assert progress.resolved(steps) == digest
    assert progress.absent("x: failed to resolve source metadata for r/x:1: r/x:1: not found\n")
    assert not progress.absent("dial tcp: connection refused")


def test_a_base_without_blobs_is_found_by_what_buildkit_names():
    blob, manifest = "sha256:" + "b" * 64, "sha256:" + "c" * 64
    steps = progress.Steps()
    steps.feed({"vertexes": [{"digest": "x", "name": "[1/2] FROM web:1@%s" % manifest}]})
    said = "error: could not fetch content descriptor %s (x) from remote: not found" % blob
    assert progress.without_blobs(said, steps) == {blob, manifest}
    assert progress.without_blobs("error: exit code: 2 %s" % blob, steps) == set()

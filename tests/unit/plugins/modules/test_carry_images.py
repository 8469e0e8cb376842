# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import types

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import (
    adopter,
    image_names,
)
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import (
    carrier as carrying,
)
from ansible_collections.homelab.containerd.plugins.module_utils._docker.api import (
    DockerAPI,
    DockerError,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands
from ansible_collections.homelab.containerd.plugins.modules import carry_images
from support import RECORDED, Stream

GB = 10**9


@pytest.fixture
def carrier(tmp_path, engine):
    engine.info["DockerRootDir"] = str(tmp_path / "docker")
    (tmp_path / "docker").mkdir()
    params = {
        "docker_socket": engine.path,
        "containerd_root": str(tmp_path / "containerd/not/there/yet"),
        "method": "auto",
        "restore": "local_only",
        "pin": "local_only",
        "overwrite": False,
        "reserve_bytes": GB,
        "progress_file": None,
    }
    return carrying.Carrier(types.SimpleNamespace(params=params))


@pytest.fixture(autouse=True)
def no_kubelet(monkeypatch):
    """Whatever else runs on this machine, a node in a container perhaps."""
    monkeypatch.setattr(commands, "command_line", lambda name: (None, []))


def free(monkeypatch, amount):
    status = types.SimpleNamespace(
        f_bavail=amount, f_frsize=1, f_blocks=amount, f_favail=1, f_files=1
    )
    monkeypatch.setattr(os, "statvfs", lambda path: status)


def test_one_file_system_has_to_hold_the_stream_the_blobs_and_the_snapshots(carrier, monkeypatch):
    free(monkeypatch, 4 * GB)
    carrier.check_space("stream", 1 * GB, 0)  # 3 of them, and one in reserve
    with pytest.raises(commands.NodeError) as failure:
        carrier.check_space("stream", 1 * GB + 1, 0)
    text = str(failure.value)
    assert (
        "%s with %s"
        % (
            carrier.api.get("/info")["DockerRootDir"],
            carrier.params["containerd_root"],
        )
        in text
    )
    assert "needs 3000.0 MB" in text and "has 4000.0 MB free" in text
    assert "carry_images_reserve_bytes" in text
    assert "docker image prune" in text and "nothing was changed" in text


def test_two_file_systems_are_counted_one_by_one(carrier, monkeypatch, tmp_path):
    (tmp_path / "containerd").mkdir()
    stat = os.stat

    def two(path, **kwargs):
        found = stat(path, **kwargs)
        if str(path).endswith("/containerd"):
            return types.SimpleNamespace(st_dev=-1, st_mode=found.st_mode)
        return found

    monkeypatch.setattr(os, "stat", two)
    free(monkeypatch, 3 * GB)
    carrier.check_space("stream", 1 * GB, 0)
    with pytest.raises(commands.NodeError) as failure:
        carrier.check_space("stream", 1 * GB + 1, 0)
    assert " with " not in str(failure.value) and "needs 2000.0 MB" in str(failure.value)


def test_what_is_adopted_needs_its_directories_and_the_blobs_to_fill(carrier, monkeypatch):
    free(monkeypatch, 3 * GB)
    carrier.check_space("adopt", 10 * GB, int(1.5 * GB))  # 0.5 and 1.5, and one in reserve
    with pytest.raises(commands.NodeError, match="needs 2000.0 MB"):
        carrier.check_space("adopt", 10 * GB, int(1.5 * GB) + 1)


def test_docker_images_are_as_recorded(carrier):
    found = carrier.docker_images()
    assert len(found) == 10
    local = next(image for image in found if image["tags"] == ["home/local-only:1"])
    assert local["digests"] == [] and local["size"] > 0


def test_nameless_tags_and_digests_are_left_out(carrier, engine):
    engine.images[0].update(RepoTags=["<none>:<none>"], RepoDigests=["<none>@<none>"])
    assert carrier.docker_images()[0]["tags"] == []
    assert carrier.docker_images()[0]["digests"] == []


def listed(name):
    return 'case "$*" in *"images list") cat "%s";; *) exit 1;; esac' % (
        RECORDED / "containerd-1.6.20" / name
    )


def test_image_ids_come_from_cris_own_references(carrier, program):
    program("ctr", listed("images-list.txt"))
    found = carrier.containerd_ids()
    docker = {tag: image["id"] for image in carrier.docker_images() for tag in image["tags"]}
    # What a registry or kubeadm's archive gave both; home/local-only was built on each node anew.
    for tag, identity in docker.items():
        name = image_names.normalize(tag)
        assert (found[name] == identity) is (tag not in REBUILT), tag


REBUILT = {"home/local-only:1"}


def layers(engine, tmp_path, sizes):
    """docker's layer store with these layers, all of them in each image."""
    diff_ids = ["sha256:%064d" % index for index in range(len(sizes))]
    for chain, size in zip(image_names.chain_ids(diff_ids), sizes, strict=True):
        directory = tmp_path / "docker/image/overlay2/layerdb/sha256" / chain.split(":")[1]
        directory.mkdir(parents=True)
        (directory / "size").write_text("%d" % size)
    answer = engine.answer

    def with_images(method, path, query):
        if path.startswith("/images/sha256:"):
            return 200, {"RootFS": {"Layers": diff_ids}}
        return answer(method, path, query)

    engine.answer = with_images
    return diff_ids


def test_a_shared_layer_counts_once(carrier, engine, tmp_path):
    layers(engine, tmp_path, [5, 7])
    wanted = carrier.docker_images()[:2]
    assert sum(carrier.layer_sizes(wanted).values()) == 12


def test_an_unknown_layer_store_counts_too_much_and_never_less(carrier, engine, tmp_path):
    layers(engine, tmp_path, [])
    engine.answer = lambda *args: (
        (200, {"RootFS": {"Layers": ["sha256:" + "0" * 64]}})
        if args[1].startswith("/images/")
        else (200, engine.info)
    )
    wanted = [{"id": "sha256:1", "size": 5}, {"id": "sha256:2", "size": 7}]
    assert carrier.layer_sizes(wanted) == {"sha256:1": 5, "sha256:2": 7}


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("never", []),
        ("local_only", ["docker.io/library/a:1"]),
        ("all", ["docker.io/library/a:1", "docker.io/library/b:1"]),
    ],
)
def test_which_images_are_pinned(carrier, mode, names):
    carrier.params["pin"] = mode
    docker_images = [
        {"id": "sha256:a", "tags": ["a:1"], "digests": []},
        {"id": "sha256:b", "tags": ["b:1"], "digests": ["b@sha256:d"]},
        {"id": "sha256:c", "tags": [], "digests": []},
    ]
    assert [entry["name"] for entry in carrier.to_pin(docker_images)] == names


def test_the_stream_goes_to_ctr_as_it_comes(carrier, engine, program, tmp_path):
    program("ctr", 'echo "$*" > %s/words; cat > %s/stream' % (tmp_path, tmp_path))
    engine.answer = lambda *args: (200, Stream([b"x" * 1_000_000] * 3))
    carrier.stream(["a:1", "b:1"], 3_000_000, "--digests")
    assert engine.requests == ["GET /info", "GET /images/get?names=a%3A1&names=b%3A1"]
    assert (tmp_path / "words").read_text() == "-n k8s.io images import --digests -\n"
    assert (tmp_path / "stream").read_text() == "x" * 3_000_000
    assert carrier.streamed == 3_000_000


def test_a_ctr_that_fails_says_why(carrier, engine, program):
    program("ctr", 'echo "ctr: no space left on device"; exit 1')
    engine.answer = lambda *args: (200, Stream([b"x" * 1_000_000] * 3))
    with pytest.raises(commands.NodeError, match=r"images import -: ctr: no space left on device"):
        carrier.stream(["a:1"], 1)


def test_a_docker_that_breaks_off_says_so(carrier, engine, program):
    program("ctr", "cat > /dev/null")
    engine.answer = lambda *args: (200, Stream([b"x" * 100], breaks_off=True))
    with pytest.raises(DockerError, match="docker was interrupted"):
        carrier.stream(["a:1"], 1)


def run_module(carrier, monkeypatch, check_mode=True):
    monkeypatch.setattr(carry_images, "Carrier", lambda module: carrier)
    return carry_images.run_module(
        types.SimpleNamespace(check_mode=check_mode, params=carrier.params)
    )


def test_check_mode_counts_what_it_would_do(carrier, engine, program, monkeypatch, tmp_path):
    program("ctr", listed("images-list.txt").replace("exit 1", "exit 0"))
    layers(engine, tmp_path, [5 * GB])
    free(monkeypatch, 100 * GB)
    # Built anew, so it is another image under a name that is there: not without being asked.
    result = run_module(carrier, monkeypatch)
    assert result["changed"] is False and result["bytes"] == 0
    assert result["kept"] == ["docker.io/home/local-only:1"]
    carrier.params["overwrite"] = True
    result = run_module(carrier, monkeypatch)
    assert result["changed"] is True and result["bytes"] == 5 * GB
    assert [image["tags"] for image in result["carried"]] == [["home/local-only:1"]]
    assert result["tagged"] == ["docker.io/home/local-only:1"] and result["kept"] == []


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_node_that_is_on_containerd_keeps_its_own_images(
    carrier, engine, program, monkeypatch, recorded, check_mode
):
    found = recorded("runtime_info-containerd.json")["kubelet"]
    monkeypatch.setattr(commands, "command_line", lambda name: (1, found["command_line"]))
    program("kubelet", "echo Kubernetes %s" % found["version"])
    program("ctr", listed("images-list.txt").replace("exit 1", "exit 0"))
    carrier.params["overwrite"] = True
    with pytest.raises(commands.NodeError, match=r"containerd already.*Nothing was changed"):
        run_module(carrier, monkeypatch, check_mode)
    assert engine.requests in ([], ["GET /info"])
    carrier.params["overwrite"] = False
    assert run_module(carrier, monkeypatch)["kept"] == ["docker.io/home/local-only:1"]


def test_no_space_stops_it(carrier, engine, program, monkeypatch, tmp_path):
    program("ctr", "exit 1")
    layers(engine, tmp_path, [5 * GB])
    free(monkeypatch, 15 * GB)
    carrier.params["method"] = "stream"
    with pytest.raises(commands.NodeError, match="Not enough space"):
        run_module(carrier, monkeypatch)


def test_who_requires_adoption_is_told_why_it_cannot_be(carrier, program, monkeypatch):
    program("ctr", "exit 1")
    carrier.info["Driver"] = "devicemapper"
    assert carrier.choose()["method"] == "stream"
    carrier.params["method"] = "adopt"
    with pytest.raises(
        commands.NodeError, match=r"devicemapper, not overlay2.*carry_images_method"
    ):
        run_module(carrier, monkeypatch)


@pytest.mark.parametrize("cache_id", [None, ""])
def test_a_layer_that_docker_cannot_show_any_more_is_not_compared(tmp_path, cache_id):
    """After a power cut docker's own record of a layer may be gone, or empty."""
    chain = "sha256:" + "a" * 64
    record = tmp_path / "image/overlay2/layerdb/sha256" / ("a" * 64)
    record.mkdir(parents=True)
    if cache_id is not None:
        (record / "cache-id").write_text(cache_id)
    adopting = adopter.Adopter(
        DockerAPI(), str(tmp_path), str(tmp_path), lambda sentence: contextlib.nullcontext()
    )
    assert adopting._differs(chain, str(tmp_path)) is False

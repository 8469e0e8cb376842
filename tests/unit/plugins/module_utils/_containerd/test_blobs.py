# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which adopted images get their blobs, and how full the disk may be afterwards."""

from __future__ import annotations

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import blobs
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands

A, B, C = ({"diff": name, "size": size} for name, size in (("a", 1), ("b", 2), ("c", 4)))


def image(name, local, *layers):
    size = sum(layer["size"] for layer in layers)
    return {"names": [name], "local": local, "layers": layers, "bytes": size}


LARGE = image("large", False, B, C)
SMALL = image("small", False, A)
LOCAL = image("local", True, C)


def fitting(room, *waiting):
    chosen, remaining = blobs.fitting(waiting, room)
    return [e["names"][0] for e in chosen], [e["names"][0] for e in remaining]


def test_what_no_registry_has_comes_first_then_the_smallest():
    assert fitting(100, LARGE, SMALL, LOCAL) == (["local", "small", "large"], [])


def test_the_others_as_far_as_there_is_space_and_a_shared_layer_counts_once():
    assert fitting(7, LARGE, SMALL, LOCAL) == (["local", "small", "large"], [])
    assert fitting(6, LARGE, SMALL, LOCAL) == (["local", "small"], ["large"])
    assert fitting(-5, LARGE, SMALL, LOCAL) == (["local"], ["small", "large"])


@pytest.mark.parametrize(
    ("words", "config", "percent"),
    [
        ([], "", 85),
        (["kubelet"], "imageGCLowThresholdPercent: 99\n", 85),
        (["kubelet"], "kind: x\nimageGCHighThresholdPercent: 70\n", 70),
        (["kubelet", "--image-gc-high-threshold=60"], "imageGCHighThresholdPercent: 70\n", 60),
    ],
)
def test_the_kubelets_threshold(monkeypatch, tmp_path, words, config, percent):
    (tmp_path / "config.yaml").write_text(config)
    if words:
        words = [*words, "--config=%s" % (tmp_path / "config.yaml")]
    monkeypatch.setattr(blobs, "KUBELET_CONFIG", str(tmp_path / "none"))
    monkeypatch.setattr(commands, "command_line", lambda name: (1, words))
    assert blobs.image_gc_percent() == percent


@pytest.mark.parametrize(
    ("words", "config", "kept"),
    [
        ([], "", 150),
        ([], "evictionHard:\n  imagefs.available: 20%\nkind: x\n", 200),
        ([], 'evictionHard:\n  "imagefs.available": "1Ki"\n', 1024),
        ([], "evictionHard:\n  memory.available: 100Mi\n", 0),
        ([], "evictionHard:\n    nodefs.available: 30%\n    imagefs.available: 0%\n", 0),
        (["--eviction-hard=memory.available<1Gi,imagefs.available<2.5%"], "", 25),
    ],
)
def test_the_kubelets_eviction(monkeypatch, tmp_path, words, config, kept):
    (tmp_path / "config.yaml").write_text(config)
    monkeypatch.setattr(blobs, "KUBELET_CONFIG", str(tmp_path / "config.yaml"))
    monkeypatch.setattr(commands, "command_line", lambda name: (1, ["kubelet", *words]))
    assert blobs.eviction_bytes(1000) == kept
    bytes_, why = blobs.free_to_keep(1000)
    assert bytes_ == max(kept, 150) and ("eviction" in why) == (kept > 150)

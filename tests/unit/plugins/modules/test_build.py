# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a build does about a base image without blobs; molecule/workers has the real thing."""

from __future__ import annotations

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._build import builder as building
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import blobs
from ansible_collections.homelab.containerd.plugins.module_utils._host import commands

BLOB = "sha256:" + "b" * 64
OPTIONS = {
    "context": "/root/app",
    "dockerfile": "Dockerfile",
    "tags": ["app:1"],
    "platforms": [],
    "build_args": {},
    "secrets": {},
    "cache_from": [],
    "cache_to": [],
    "target": "",
    "no_cache": False,
    "pull": False,
    "docker_config": "/root/.docker",
    "address": "unix:///nowhere",
    "timeout": 60,
    "progress_file": None,
}
#: buildctl, which fails until the file `complete` is there, or the base is pulled.
BUILDCTL = """
echo run >>%(dir)s/runs
case "$*" in *image-resolve-mode=pull*) touch %(dir)s/complete;; esac
if [ ! -e %(dir)s/complete ]; then
  echo "error: could not fetch content descriptor %(blob)s (x) from remote: not found" >&2
  exit 1
fi
for word; do
  case "$word" in --metadata-file=*) echo '{}' >"${word#*=}";; esac
done
"""


@pytest.fixture
def builder(program, tmp_path):
    program("buildctl", BUILDCTL % {"dir": tmp_path, "blob": BLOB})
    return building.Builder(dict(OPTIONS))


def runs(tmp_path):
    return len((tmp_path / "runs").read_text().split())


def test_its_blobs_are_restored(builder, monkeypatch, tmp_path):
    asked = []

    def restore(digests, progress):
        asked.append(digests)
        (tmp_path / "complete").touch()
        return ["base:1"]

    monkeypatch.setattr(blobs, "restore_bases", restore)
    builder.solve("node", False)
    assert asked == [{BLOB}] and runs(tmp_path) == 2
    assert builder.restored == ["base:1"] and not builder.pulled


@pytest.mark.parametrize("restored", [[], ["another:1"], None])
def test_it_is_pulled_where_that_is_not_enough(builder, monkeypatch, tmp_path, restored):
    def restore(digests, progress):
        if restored is None:
            raise commands.NodeError("Not enough space")
        return restored

    monkeypatch.setattr(blobs, "restore_bases", restore)
    builder.solve("node", False)
    assert builder.pulled and runs(tmp_path) == 2 + bool(restored)


def test_it_fails_where_no_registry_has_it(builder, program, monkeypatch, tmp_path):
    program("buildctl", BUILDCTL.replace("touch", ":") % {"dir": tmp_path, "blob": BLOB})
    monkeypatch.setattr(blobs, "restore_bases", lambda digests, progress: [])
    with pytest.raises(commands.NodeError, match="its blobs could not be restored"):
        builder.solve("node", False)
    assert runs(tmp_path) == 2

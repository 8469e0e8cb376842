# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reader of config.toml on the node, held against a real TOML parser."""

from __future__ import annotations

import tomllib

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import config
from ansible_collections.homelab.containerd.plugins.module_utils._host import paths

TEXT = """\
version = 2
root = '/data/one'   # not root = "/data/no"
#root = "/data/no"
imports = [
  "conf.d/*.toml",  # those of ["ours"]
  'C:\\"odd]#.toml',
]
oom_score = 0
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
    snapshotter = ""
    root = "/data/no"
"""


def test_strings():
    parsed = tomllib.loads(TEXT)
    assert config.root(TEXT) == parsed["root"] == "/data/one"
    assert config.imports(TEXT) == parsed["imports"]
    assert config.snapshotter(TEXT) == "native"


@pytest.mark.parametrize("text", ["", "# root = '/x'\n", '[a]\nroot = "/x"\nimports = ["y"]\n'])
def test_where_nothing_is_said_the_defaults_hold(text):
    assert config.root(text) == "/var/lib/containerd"
    assert config.imports(text) == []
    assert config.snapshotter(text) == "overlayfs"


@pytest.mark.parametrize("version", ["1.4.13", "1.6.20", "1.7.24", "2.4.2"])
def test_the_default_configuration_of_each_containerd(recorded, version):
    text = recorded("containerd-%s/config-default.toml" % version)
    assert config.root(text) == tomllib.loads(text)["root"] == "/var/lib/containerd"
    assert config.snapshotter(text) == "overlayfs"


def test_containerd_is_asked_and_the_file_is_read_where_it_cannot_answer(
    tmp_path, monkeypatch, program
):
    (tmp_path / "config.toml").write_text('root = "/of/the/file"\n')
    monkeypatch.setattr(paths, "CONTAINERD_CONFIG", str(tmp_path / "config.toml"))
    program("containerd", 'test "$*" = "config dump" && echo "root = \\"/of/an/import\\""')
    assert config.root(config.effective("containerd")) == "/of/an/import"
    program("containerd", "echo 'failed to load TOML' >&2; exit 1")
    assert config.root(config.effective("containerd")) == "/of/the/file"
    assert config.root(config.effective(None)) == "/of/the/file"

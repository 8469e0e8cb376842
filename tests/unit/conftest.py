# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the unit tests."""

from __future__ import annotations

import copy
import os
import pathlib
import sys
import threading
import typing as t
from collections.abc import Callable, Iterator

import hypothesis
import pytest
from support import ROOT, Engine, read_recorded

# make setup puts this checkout there under its collection's name. `ansible_collections` is a
# namespace package, so that the collections of the environment are still found behind it.
if not (ROOT / ".collections/ansible_collections/homelab/containerd").exists():
    pytest.exit("There is no .collections in this checkout: run `make setup` first.", returncode=2)
sys.path.insert(0, str(ROOT / ".collections"))

# The same examples each time, however busy the machine is.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("tests")

Recorded = Callable[[str], t.Any]


@pytest.fixture
def recorded() -> Recorded:
    return read_recorded


@pytest.fixture
def facts() -> dict[str, t.Any]:
    """node_runtime_info's result on a dockershim node, to be changed as a test likes."""
    return copy.deepcopy(read_recorded("runtime_info-dockershim.json"))


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> Iterator[Engine]:
    # A socket's path may have 107 bytes at most; pytest's directories can be longer.
    link = pathlib.Path("/tmp") / ("hc-unit-%d" % os.getpid())
    link.symlink_to(tmp_path)
    with Engine(link / "docker.sock") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    link.unlink()


@pytest.fixture
def program(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a shell script of a name first in PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", "%s:%s" % (directory, os.environ["PATH"]))

    def write(name: str, script: str) -> None:
        path = directory / name
        path.write_text("#!/bin/sh\n" + script + "\n")
        path.chmod(0o755)

    return write

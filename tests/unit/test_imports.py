# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The floors of the house: what may import what, read from the imports themselves."""

from __future__ import annotations

import ast
import graphlib
import pathlib

from support import ROOT

PLUGINS = ROOT / "plugins"
PREFIX = "ansible_collections.homelab.containerd.plugins."
#: Each floor may import from itself and from those below it.
FLOORS = [
    {"module_utils/_host"},
    {"module_utils/_docker", "module_utils/_containerd", "module_utils/_kubernetes"},
    {"module_utils/_facts", "module_utils/_switch", "module_utils/_build"},
    {"modules", "plugin_utils"},
    {"filter", "action"},
]


def modules() -> dict[str, pathlib.Path]:
    """Dotted name below plugins to its file."""
    return {
        ".".join(path.relative_to(PLUGINS).with_suffix("").parts): path
        for path in PLUGINS.rglob("*.py")
    }


def imported(path: pathlib.Path, known: set[str]) -> set[str]:
    """The collection's modules that a file imports when it runs, not for its types alone."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or id(node) in for_types:
            continue
        if (node.module or "").startswith(PREFIX):
            base = (node.module or "")[len(PREFIX) :]
            for alias in node.names:
                name = base + "." + alias.name
                found.add(name if name in known else base)
    return found


def graph() -> dict[str, set[str]]:
    found = modules()
    return {name: imported(path, set(found)) for name, path in found.items()}


def floor(name: str) -> int:
    folder = name.replace(".", "/")
    for number, rooms in enumerate(FLOORS):
        if any(folder.startswith(room + "/") for room in rooms):
            return number
    raise AssertionError("%s is on no floor" % name)


def test_no_circle():
    list(graphlib.TopologicalSorter(graph()).static_order())


def test_no_arrow_up():
    up = [
        (name, target)
        for name, targets in graph().items()
        for target in targets
        if floor(target) > floor(name)
    ]
    assert up == []


def test_what_travels_to_nodes_imports_nothing_of_the_controllers():
    for name, targets in graph().items():
        if name.startswith(("module_utils.", "modules.")):
            assert not [x for x in targets if not x.startswith("module_utils.")], name

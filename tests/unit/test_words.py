# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts for people use the words of the Ansible and Kubernetes documentation.

A reader whose first language is not English stumbles over words such as "anew" or "for want of".
These tests read what a person reads (pages, specs, task names, messages) and keep such words out.
"""

from __future__ import annotations

import ast
import pathlib
import re
import typing as t

import pytest
from support import ROOT

#: What must not be in a text, and what to write instead.
WORDS = {
    r"wish(?:es|ed)?": "option",
    r"(?:go|goes|gone) on with": "resume",
    r"anew": "again",
    r"ma[dk]e?(?:s|ing)? (?:\w+ ){0,3}whole": "restore missing blobs",
    r"fill_images": "restore_blobs",
    r"where (?:it|they) (?:lie|lies|lay)": "in place",
    r"heed(?:s|ed)?": "support, respect",
    r"fate": "outcome",
    r"lack(?:s|ed|ing)?": "is missing, does not have",
    r"st(?:and|ands|ood) against": "block",
    r"owner'?s'? own": "user-managed",
    r"br(?:eak|eaks|oke|oken) off": "was interrupted",
    r"not to be had": "not available",
    r"(?:came|come|comes) of (?:it|them|that|this)": "the result",
    r"for want of": "because ... is missing",
    r"lest|thereof|whereupon|shall|nought|ought": "a plain word",
}
#: A task name says the object and the effect: "Check that ...", "Ensure ... is installed".
TASK_NAME = re.compile(r"^(See|Say|Tell|Ask|Note|Keep|Let|Weigh|Have|Put)\b")

#: What git does not keep, and what other programs printed.
OTHERS = re.compile(r"^\.|/\.|/recorded/|^tests/output/")
TEXTS = [
    path
    for pattern in ("*.md", "*.yml", "*.j2")
    for path in sorted(ROOT.rglob(pattern))
    if not OTHERS.search(str(path.relative_to(ROOT)))
]
TASKS = [p for p in TEXTS if p.relative_to(ROOT).parts[0] in ("roles", "playbooks", "molecule")]


def complaints(place: object, text: str) -> list[str]:
    """Return a line for each word of the table in TEXT."""
    plain = " ".join(text.split())
    return [
        f"{place}: {plain[max(0, match.start() - 30) : match.end() + 30]!r}: write {instead!r}"
        for word, instead in WORDS.items()
        for match in re.finditer(rf"\b(?:{word})\b", plain, re.IGNORECASE)
    ]


def literals(path: pathlib.Path) -> t.Iterator[tuple[int, str]]:
    """Return the line and the text of each string, docstrings and documentation included.

    A single word is not a text: it may be a key of a dictionary.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def test_pages_specs_and_tasks() -> None:
    assert len(TEXTS) > 100
    found = [line for p in TEXTS for line in complaints(p.relative_to(ROOT), p.read_text())]
    assert not found, "\n".join(found)


def test_strings_of_the_programs() -> None:
    found = [
        line
        for folder in ("plugins", "verify", "bench")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, text in literals(path)
        for line in complaints(f"{path.relative_to(ROOT)}:{number}", text)
    ]
    assert not found, "\n".join(found)


def test_task_names() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in TASKS
        for name in re.findall(r"^\s*- name: (.+)$", path.read_text(), re.MULTILINE)
        if TASK_NAME.search(name)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    ["read anew", "it is gone\non with", "the owner's own", "for want of a file", "made it whole"],
)
def test_the_words_are_found(text: str) -> None:
    assert complaints("here", text)


@pytest.mark.parametrize(
    "text", ["the whole file", "a shallow copy", "a black box", "a resumed run"]
)
def test_other_words_are_not(text: str) -> None:
    assert not complaints("here", text)

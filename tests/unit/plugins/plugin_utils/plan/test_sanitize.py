# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.findings import describe
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.sanitize import clean
from hypothesis import given
from hypothesis import strategies as st

ANY = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("plain, ünïcode 漢字 <b>&amp;", "plain, ünïcode 漢字 <b>&amp;"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("two\r\nlines\tand a tab", "two\\r\\nlines and a tab"),
        ("\u202egpj.exe\u2066\u200b", "\\u202egpj.exe\\u2066\\u200b"),
        ("half \ud800", "half \\ud800"),
        ("no-break\u00a0space", "no-break space"),
        ("line\u2028paragraph\u2029next\x85", "line\\u2028paragraph\\u2029next\\x85"),
    ],
)
def test_what_a_terminal_would_act_on_is_shown_instead(given_text, shown):
    assert clean(given_text) == shown


@given(ANY)
def test_the_result_is_printable_and_stays_so(text):
    once = clean(text)
    assert once.isprintable()
    assert clean(once) == once
    once.encode("utf-8")


def test_it_goes_into_lists_and_dictionaries_and_changes_no_other_value():
    value = {"\x1b": ["\x07", {"n": 1, "f": 1.5, "b": True, "none": None}], "t": ("\n",)}
    assert clean(value) == {
        "\\x1b": ["\\x07", {"n": 1, "f": 1.5, "b": True, "none": None}],
        "t": ["\\n"],
    }


def test_what_json_does_not_know_becomes_text():
    found = clean({"nan": float("nan"), "inf": float("-inf"), 1: {2}})
    assert found == {"nan": "nan", "inf": "-inf", "1": "{2}"}
    json.dumps(found, allow_nan=False)


def test_a_described_finding_cannot_act_on_a_terminal():
    evidence = {"node": "n1", "file": "/x\x1b[2J", "key": "k\u202e", "value": ["\x07"]}
    finding: t.Any = {"code": "HC299", "text": "\x1bc", "evidence": evidence, "remedy": "none"}
    assert describe(finding).isprintable()

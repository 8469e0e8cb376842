# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan import codes
from support import ROOT


def test_the_page_is_as_the_data_say():
    page = (ROOT / "docs/codes.md").read_text(encoding="utf-8")
    assert page == codes.written(page), "run: make codes"


@pytest.mark.parametrize("code", codes.CODES)
def test_an_entry_is_whole(code):
    entry = codes.CODES[code]
    assert set(entry) <= set(codes.Code.__annotations__)
    assert not entry["title"].endswith(".") and codes.remedy(code).endswith(".")
    assert "`" not in codes.remedy(code) and "`" in "".join(map(str, codes.CODES.values()))
    # Only blockers can be overridden, and each says what happens then.
    assert ("override" in entry) == code.startswith("HC1")
    for page in entry.get("see", []):
        assert (ROOT / "docs" / page).is_file()
    # The page shows `code` by splitting at the marks.
    for key in ("meaning", "remedy", "evidence", "override", "source"):
        assert str(entry.get(key)).count("`") % 2 == 0, key


def test_a_table_has_rows_of_one_width():
    tables = [entry["table"] for entry in codes.CODES.values() if "table" in entry]
    assert len(tables) == 2
    for rows in tables:
        assert len({len(row) for row in rows}) == 1 and all(
            isinstance(c, str) for c in sum(rows, [])
        )


def test_an_unknown_code_leads_to_the_page():
    assert codes.link("HC999") == "docs/codes.md"

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read and write TOML on the controller, with tomlkit."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

try:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError
except ImportError as exc:  # pragma: no cover
    TOMLKIT_ERROR: ImportError | None = exc
else:
    TOMLKIT_ERROR = None


def parse(text: str) -> tomlkit.TOMLDocument:
    """The document, with its comments and layout; ValueError where it is not TOML."""
    _require()
    try:
        return tomlkit.parse(text)
    except TOMLKitError as exc:
        raise ValueError("it is not TOML: %s" % exc) from exc


def dump(document: t.Mapping[str, t.Any]) -> str:
    """The text of a document: one that parse() read keeps its layout but for what was changed."""
    _require()
    return tomlkit.dumps(document)


def _require() -> None:
    if TOMLKIT_ERROR:
        raise AnsibleFilterError(
            "The controller does not have tomlkit: pip install -r requirements.txt"
        ) from TOMLKIT_ERROR

# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read and write TOML on the controller, with tomlkit."""

from __future__ import annotations

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
    if TOMLKIT_ERROR:
        raise AnsibleFilterError(
            "The controller lacks tomlkit: pip install -r requirements.txt"
        ) from TOMLKIT_ERROR
    try:
        return tomlkit.parse(text)
    except TOMLKitError as exc:
        raise ValueError("it is not TOML: %s" % exc) from exc


def dump(document: tomlkit.TOMLDocument) -> str:
    """The text of a document, as it was read but for what was changed."""
    return tomlkit.dumps(document)

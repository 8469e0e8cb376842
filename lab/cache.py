#!/usr/bin/env python3
# Copyright (c) 2026, the homelab.containerd authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps what it builds, outside the checkout. Run it to print the path."""

from __future__ import annotations

import os
from pathlib import Path

CACHE = Path(
    os.environ.get("HOMELAB_CONTAINERD_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "homelab-containerd"
)

if __name__ == "__main__":
    print(CACHE)

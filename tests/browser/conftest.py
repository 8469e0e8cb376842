# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One headless Chromium for all tests, and the pages it is to show."""

from __future__ import annotations

import json
import pathlib
import shutil
import sys
import typing as t
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/unit"), str(ROOT / ".collections")]

FLAGS = (
    "--headless",
    "--no-sandbox",  # everything here runs as root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """Chromium with one page open, through chromedriver."""

    def __init__(self, directory: pathlib.Path) -> None:
        from selenium import webdriver

        programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
        if not all(programs.values()):
            pytest.exit("apt-get install chromium chromium-driver", returncode=2)
        options = webdriver.ChromeOptions()
        options.binary_location = str(programs["chromium"])
        for flag in (*FLAGS, "--user-data-dir=%s" % (directory / "profile")):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(executable_path=str(programs["chromedriver"]))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.directory = directory

    def show(self, page: pathlib.Path, width: int, scheme: str = "light", media: str = "") -> None:
        """Open a page as a screen of that width shows it; the logs start again."""
        self.driver.get("about:blank")  # so that nothing of the page before is to come
        for name in ("browser", "performance"):
            self.driver.get_log(name)
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        wanted = {"media": media, "features": features}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
        self.driver.get(page.as_uri())

    def ask(self, script: str, *arguments: t.Any) -> t.Any:
        """What a piece of JavaScript returns; the page itself has none."""
        return self.driver.execute_script(script, *arguments)

    def requests(self) -> list[str]:
        """What was asked of the network (or of files) since show()."""
        entries = [json.loads(entry["message"]) for entry in self.driver.get_log("performance")]
        return [
            entry["message"]["params"]["request"]["url"]
            for entry in entries
            if entry["message"]["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def picture(self, name: str) -> pathlib.Path:
        """A screenshot of the whole page, for a person to look at."""
        height = self.ask("return document.documentElement.scrollHeight")
        width = self.ask("return innerWidth")
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        path = self.directory / (name + ".png")
        self.driver.save_screenshot(str(path))
        return path


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    directory = tmp_path_factory.mktemp("chromium")
    started = Browser(directory)
    yield started
    started.driver.quit()
    shutil.rmtree(directory / "profile", ignore_errors=True)


@pytest.fixture(scope="session")
def reports() -> dict[str, t.Any]:
    """By name: a blocked cluster, one that was migrated (in part), and the lab's one node."""
    import report_samples as samples
    from ansible_collections.homelab.containerd.plugins.plugin_utils.report import model

    plans, cluster = samples.three_nodes()
    blocked = model.build(plans, cluster, now=samples.NOW)
    plans, cluster = samples.without_blockers()
    outcomes, api = samples.migrated()
    partly = model.build(
        plans, cluster, now=samples.NOW + 700, mode="migrate", outcomes=outcomes, api=api
    )
    plans, cluster = samples.one_node()
    return {
        "blocked": blocked,
        "partly": partly,
        "lab": model.build(plans, cluster, now=samples.NOW),
    }


@pytest.fixture(scope="session")
def pages(
    reports: dict[str, t.Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, pathlib.Path]:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.report import (
        page as report_page,
    )

    directory = tmp_path_factory.mktemp("pages")
    written = {}
    for name, content in reports.items():
        written[name] = directory / (name + ".html")
        written[name].write_text(report_page.page(content), encoding="utf-8")
    return written

"""A browser for tests: Chromium of the machine, driven by Playwright.

Every page that is opened reports what must not happen: an error in its console, an exception, or a
request to anything but the server.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import lanes
import numpy as np

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESK = {"width": 1440, "height": 900}
PHONE = {"width": 360, "height": 740}
WAIT_MS = 150_000
POLL_MS = 60


@contextlib.contextmanager
def running_browser() -> Iterator[Any]:
    """A Playwright browser. Skips the test, or fails it, where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lanes.skip_or_fail("playwright is not installed", lanes.REQUIRE_BROWSER)
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        lanes.skip_or_fail("no Chromium on the PATH", lanes.REQUIRE_BROWSER)
    with sync_playwright() as playwright:
        # A user data folder of its own, which Playwright removes.
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page of the service, and what it did that it must not do."""

    page: Any
    faults: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Listen to the page."""
        self.page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        self.page.on("console", self._heard)
        self.page.on("request", self._requested)

    def _heard(self, message: Any) -> None:
        # A frame that waits too long behind others is asked for again.
        if message.type == "error" and "status of 503" not in message.text:
            self.faults.append(f"console: {message.text} {message.location.get('url', '')}")

    def _requested(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and parts.hostname != "127.0.0.1":
            self.faults.append(f"request: {request.url}")

    def wait_for(self, expression: str, **options: Any) -> None:
        """Wait until an expression is true. Looked at now and then: by default it is looked at with
        every frame that the browser draws, and a browser without a GPU then draws all the time."""
        self.page.wait_for_function(expression, **{"polling": POLL_MS, **options})

    def settled(self) -> None:
        """Wait until the picture shows what the page is set to."""
        self.page.evaluate("() => undefined")  # what was pressed is in the state from here on
        self.wait_for(_SETTLED, timeout=WAIT_MS)
        self.page.evaluate(_DRAWN)

    def picture(self) -> np.ndarray:
        """The picture as the screen shows it, (h, w, 3) uint8 RGB, once it has settled."""
        self.settled()
        place = self.page.evaluate(_PLACE)
        shot = self.page.screenshot(clip=place)
        return cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the clip lies on the screen."""
        return tuple(self.page.evaluate(_AT, [x, y]))

    def state(self, name: str) -> Any:
        """A value of the page's state."""
        return self.page.evaluate(_STATE, name)

    def upload(self, *files: Path) -> None:
        """Choose files, and wait until all of them are clips."""
        there = self.page.locator(".clip").count()
        self.page.set_input_files("[data-picker]", [str(file) for file in files])
        self.wait_for(
            "n => [...document.querySelectorAll('.clip')].length >= n"
            " && [...document.querySelectorAll('.clip input')].every(box => !box.disabled)",
            arg=there + len(files),
            timeout=WAIT_MS,
        )


_SETTLED = """() => {
  const stage = document.querySelector('vm-stage');
  if (stage.hasAttribute('aria-busy') || !stage.dataset.shown || stage.frameAsked) return false;
  return stage.layers().map(layer => layer.url).join(' ') === stage.dataset.shown;
}"""
_DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
_STATE = "name => import('/static/store.js').then(store => store.state[name])"
_PLACE = """() => {
  const stage = document.querySelector('vm-stage'), box = stage.getBoundingClientRect();
  const { x, y, width, height } = stage.geometry.place;
  const round = Math.round;
  return { x: round(box.x + x), y: round(box.y + y), width: round(width), height: round(height) };
}"""
_AT = """([x, y]) => {
  const stage = document.querySelector('vm-stage'), box = stage.getBoundingClientRect();
  const at = stage.geometry.toStage(x, y);
  return [box.x + at.x, box.y + at.y];
}"""


@contextlib.contextmanager
def visiting(
    browser: Any, url: str, size: dict[str, int] = DESK, language: str = "en-US",
    scheme: str = "dark", **options: Any,
) -> Iterator[Visit]:  # fmt: skip
    """A page of the service in a profile of its own; at the end it must have no faults."""
    context = browser.new_context(
        viewport=size, locale=language, color_scheme=scheme, accept_downloads=True, **options
    )
    context.set_default_timeout(WAIT_MS)
    try:
        visit = Visit(context.new_page())
        visit.watch()
        visit.page.goto(url)
        visit.wait_for("() => document.querySelectorAll('#model option').length > 3")
        yield visit
        assert not visit.faults, "\n".join(visit.faults)
    finally:
        context.close()


def keys_of_strings(page_folder: Path) -> tuple[set[str], set[str]]:
    """The keys of the page's table of strings, and those that its modules ask for by name."""
    table = (page_folder / "strings.js").read_text()
    keys = set(re.findall(r'^  "([^"]+)": \["', table, re.MULTILINE))
    asked = set()
    for module in page_folder.glob("*.js"):
        asked |= set(re.findall(r'\bt\("([^"]+)"', module.read_text()))
    frame = (page_folder / "index.html").read_text()
    asked |= set(re.findall(r'data-(?:text|label)="([^"]+)"', frame))
    return keys, asked

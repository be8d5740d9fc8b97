"""A headless Chromium for tests of pages; where there is none, they say so and are skipped."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
PATIENCE_MS = 120_000  # a busy machine is no failure


@contextmanager
def open_page(width: int = 1400, height: int = 1000) -> Iterator["Page"]:
    """An empty page whose script errors fail the test."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        program = next(filter(None, map(shutil.which, (*NAMES, own))), None)
        if program is None:
            pytest.skip("no Chromium; playwright install chromium, or put one on the PATH")
        browser = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE_MS)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
        assert not errors


def eventually(look: Callable[[], Any], enough: Callable[[Any], Any] = bool) -> Any:
    """Return what `look` finds once it is enough; a page reads and draws in its own time."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not enough(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found

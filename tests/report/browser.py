"""Chromium without a window for tests of pages; a test that finds none is skipped and says so."""

import contextlib
import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def executable():
    """Chromium's path: $CHROMIUM, or the first of NAMES that is installed; skips the test without one."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium found: apt-get install chromium, or name one in the variable CHROMIUM")
    return found


@contextlib.contextmanager
def opened(path, width=1400, height=1000):
    """A page of the file system, and the list of what its console has said so far."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="pages are tested with playwright: pip install it"
    )
    found = executable()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(180_000)  # a machine may be busy; no test asserts on time
        said = []
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("request", lambda request: _note(said, request.url))
        page.goto(path.absolute().as_uri())
        yield page, said
        browser.close()


def _note(said, url):
    """What a page fetches from elsewhere is said too: it must work without a network."""
    if not url.startswith(("file:", "data:", "blob:")):
        said.append(f"fetched: {url}")

"""A real browser for the tests that look: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_MS = 20_000  # until what a page must come to show counts as missing


def _executable():
    return os.environ.get("LIVEBOT_BROWSER") or next(filter(None, map(shutil.which, _NAMES)), None)


@pytest.fixture(scope="module")
def browser():
    """A browser without a window. While it is open, an event loop runs in this thread."""
    executable = _executable()
    if executable is None:
        pytest.skip("needs chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser):
    """Opens pages; the test fails if one of them has an error that nobody caught."""
    pages, errors = [], []

    def open_page(**options):
        page = browser.new_page(**options)
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert errors == []


@pytest.fixture
def page(new_page):
    return new_page()

"""An hour of a busy room in two minutes, with the dashboard open: page and server stay small."""

import shutil
import time

import psutil
import pytest

from bot_rig import Rig
from livebot.config import WebSettings
from livebot.sources import read_recording, shipped_room
from livebot.web.serving import serve

SPEED = 30
ROUNDS = 8
MIB = 2**20


@pytest.fixture(scope="module")
def browser():
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


# The longest time the page did not draw, since it was asked last.
WATCH_FRAMES = """
window.longest = 0;
let last = performance.now();
(function frame() {
  const now = performance.now();
  window.longest = Math.max(window.longest, now - last);
  last = now;
  requestAnimationFrame(frame);
})();
"""


def measured(page, devtools):
    """Bytes of the page's heap after a collection, its DOM nodes, bytes of this process."""
    devtools.send("HeapProfiler.collectGarbage")
    metrics = {m["name"]: m["value"] for m in devtools.send("Performance.getMetrics")["metrics"]}
    longest = page.evaluate("(() => { const l = longest; longest = 0; return l; })()")
    return (
        metrics["JSHeapUsedSize"],
        metrics["Nodes"],
        psutil.Process().memory_info().rss,
        longest / 1000,
    )


def answered(page):
    """Seconds from a press to its effect on the page."""
    button = page.locator('[data-do="Mute"]')
    before = button.inner_text()
    began_at = time.perf_counter()
    button.click()
    page.wait_for_function(
        "before => document.querySelector('[data-do=\"Mute\"]')?.innerText !== before", arg=before
    )
    return time.perf_counter() - began_at


@pytest.mark.stress
@pytest.mark.timeout(400)
def test_an_hour_of_a_busy_room_leaves_the_page_small_and_quick(tmp_path, browser):
    rig = Rig(tmp_path, events=read_recording(shipped_room()), speed=SPEED, loop=True)
    url = serve(rig.bot, WebSettings(port=0))
    with rig.running():
        page = browser.new_page()
        page.add_init_script(WATCH_FRAMES)
        devtools = page.context.new_cdp_session(page)
        devtools.send("Performance.enable")
        loaded = []
        page.on("framenavigated", lambda frame: loaded.append(frame.url))
        page.goto(url)
        page.wait_for_selector(".lb-row")
        seen = []
        for number in range(1, ROUNDS + 1):
            page.wait_for_timeout(1000 * 3600 / SPEED / ROUNDS)
            heap, nodes, resident, frozen = measured(page, devtools)
            delay = answered(page)
            seen.append((heap, nodes, resident, frozen, delay))
            print(  # noqa: T201 - the figures are what the test is for
                f"{60 * number / ROUNDS:4.1f} min: {rig.view().ledger.received:6} events, "
                f"page {heap / MIB:.1f} MiB, {nodes:.0f} nodes, frozen {frozen:.2f} s at most, "
                f"press to effect {delay:.2f} s; process {resident / MIB:.0f} MiB"
            )
        assert page.locator("[data-card=events] .lb-row").count() == 200
        page.close()
    assert len(loaded) == 1, "the page lost its connection and was loaded anew"
    quarter, end = seen[1], seen[-1]
    assert end[0] < quarter[0] + 8 * MIB
    assert end[1] < 1.3 * quarter[1]
    assert end[2] < quarter[2] + 24 * MIB

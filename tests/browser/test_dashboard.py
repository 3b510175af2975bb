"""The dashboard in a real browser, over the whole pipeline in this process."""

import re
import sys
from types import SimpleNamespace

import pytest
from playwright.sync_api import expect

from bot_rig import Rig, chat
from livebot.config import WebSettings
from livebot.messages import Chat, Gift, Member, User
from livebot.sources import read_recording, shipped_room
from livebot.web.serving import serve
from threadkit import ResourceLevel, SizeChange

CONTENT = "[data-card={}]"

# Notes for each row when it was drawn first, and how long after its event that was.
WATCH_ROWS = """
window.rows_seen = [];
new MutationObserver((changes) => {
  for (const change of changes) for (const node of change.addedNodes)
    if (node.dataset && node.dataset.at)
      window.rows_seen.push([Number(node.dataset.n), Date.now() / 1000 - Number(node.dataset.at)]);
}).observe(document, {childList: true, subtree: true});
"""


@pytest.fixture
def rig(tmp_path):
    """A bot whose dashboard is at `rig.url`. Its file lies deep, for the page shows the path."""
    folder = tmp_path / ("W" * 60)
    folder.mkdir()
    rig = Rig(folder)
    rig.url = serve(rig.bot, WebSettings(port=0))
    with rig.running():
        yield rig


@pytest.fixture
def dashboard(rig, page):
    """The dashboard, drawn and connected."""
    return opened(rig, page)


def opened(rig, page, query=""):
    page.goto(rig.url + query)
    expect(figure(page, "received")).not_to_have_text("–")
    return page


def card(page, name):
    return page.locator(CONTENT.format(name))


def rows(page, name):
    return card(page, name).locator(".lb-row")


def figure(page, name):
    return page.locator(f'[data-figure="{name}"]')


def press(page, name):
    page.locator(f'[data-do="{name}"]').click()


# -- what is shown ----------------------------------------------------------------------------


def test_an_event_appears_with_what_becomes_of_it(rig, dashboard):
    with rig.holding():
        rig.receive(chat(1, "几点下播", "小鱼"))
        row = rows(dashboard, "events").first
        expect(row).to_contain_text("小鱼")
        expect(row).to_contain_text("几点下播")
        expect(card(dashboard, "speaking")).to_contain_text("小鱼说，几点下播")
    expect(row).to_contain_text("spoken")
    expect(figure(dashboard, "spoken")).to_have_text("1")


def test_the_demos_events_appear_within_half_a_second(tmp_path, page, capsys):
    """The figure is the machine's; what must hold is that some stretch of the demo meets it."""
    rig = Rig(tmp_path, events=read_recording(shipped_room()), speed=10, loop=True)
    url = serve(rig.bot, WebSettings(port=0))
    page.add_init_script(WATCH_ROWS)
    rig.bot.speaking.player.pause()
    medians = []
    with rig.running():
        page.goto(url)
        page.wait_for_function("rows_seen.length > 0")  # these were there before the page
        while len(medians) < 5 and min(medians, default=1.0) >= 0.5:
            seen = page.evaluate("rows_seen.length")
            page.wait_for_function(f"rows_seen.length > {seen + 80}")
            drawn = page.evaluate(f"rows_seen.slice({seen})")
            delays = sorted(delay for _, delay in drawn)
            medians.append(delays[len(delays) // 2])
            with capsys.disabled():
                print(  # noqa: T201 - the figure is what the test is for
                    f"\n{len(delays)} events drawn, median {medians[-1]:.3f} s, "
                    f"worst {delays[-1]:.3f} s"
                )
    assert min(medians) < 0.5


def test_hostile_names_and_texts_are_shown_as_text(rig, dashboard):
    script = "<script>window.hacked=1</script>"
    image = "<img src=x onerror=window.hacked=1>"
    _hold_the_voice(rig)
    for n in range(3):
        rig.receive(Chat(id=str(n), user=User(id=f"{n}", name=script), text=f"{n}{image}"))
    rig.receive(Gift(id="9", user=User(id="9", name=image), gift_id="1", name=script))
    rig.bot.errors.record(ValueError(image), component=script, task=image)
    rig.control("block_user", user=script)
    for where in ("events", "queue"):
        expect(card(dashboard, where)).to_contain_text(script)
    expect(card(dashboard, "blocked")).to_contain_text(script)
    expect(card(dashboard, "errors")).to_contain_text(image)
    rows(dashboard, "errors").locator("summary").click()
    expect(rows(dashboard, "errors").locator("pre")).to_contain_text(f"ValueError: {image}")
    assert dashboard.evaluate("window.hacked") is None
    assert dashboard.locator(".lb-row script, .lb-row img").count() == 0


def _hold_the_voice(rig):
    """Whatever comes from now on waits."""
    with rig.holding():  # or it is over before the pause comes
        rig.control("say", text="占住")
        assert rig.next() == ("speaking", "占住")
        rig.control("pause")


def test_what_waits_is_shown_in_its_order_with_priority_and_age(rig, dashboard):
    _hold_the_voice(rig)
    rig.receive(chat(1, "一"))
    rig.receive(chat(2, "二", "乙"))
    rig.receive(Member(id="5", user=User(id="5", name="丙")))
    rig.receive(chat(3, "三吗？", "丁"))
    expect(card(dashboard, "queue")).to_contain_text("丙")
    waiting = rows(dashboard, "queue")
    expect(waiting.first).to_contain_text("丁")  # a question comes before chats
    expect(waiting.first).to_contain_text(re.compile(r"priority \d"))
    expect(waiting.last).to_contain_text("丙")
    expect(waiting.first.locator(".lb-age")).to_have_text(re.compile(r"\d.* s"))


def test_drops_are_counted_by_reason(rig, dashboard):
    rig.control("block_user", user="甲")
    rig.receive(chat(1, "你好"))
    expect(card(dashboard, "drops")).to_contain_text("a blocked user")
    expect(figure(dashboard, "dropped")).to_have_text("1")


def test_curves_changes_components_and_resources_are_drawn(rig, dashboard):
    rig.bot.history.follow("tts")(SizeChange(0.0, 1, 2, "the backlog grows"))
    rig.bot.history.sample()
    for name in ("delays", "queues", "pools"):
        expect(card(dashboard, name).locator("canvas")).to_be_visible()
    expect(card(dashboard, "changes")).to_contain_text("the backlog grows")
    names = {part.name for part in rig.bot.manager.report().components}
    for name in ("player", "source", "web"):
        assert name in names
        expect(card(dashboard, "components")).to_contain_text(name)
    expect(rows(dashboard, "components").filter(has_text="server")).to_contain_text("running")


def test_what_needs_eyes_is_told_at_the_top(rig, dashboard):
    alarm = dashboard.locator(".lb-alarm")
    expect(alarm).to_be_hidden()
    near = SimpleNamespace(level=ResourceLevel.CRITICAL, seconds_left=90.0)
    rig.bot._viewer._watches["threads"] = near
    expect(alarm).to_have_text("threads: critical")
    expect(rows(dashboard, "resources").filter(has_text="threads")).to_contain_text("full in 1:30")
    near.level = ResourceLevel.OK
    expect(alarm).to_be_hidden()


def test_a_second_tab_and_a_reload_show_the_same(rig, dashboard, new_page):
    for n in range(5):
        rig.receive(chat(n, f"第{n}句", f"观众{n}"))
    second = opened(rig, new_page())
    for tab in (dashboard, second):
        expect(rows(tab, "events")).to_have_count(5)
    dashboard.reload()
    expect(rows(dashboard, "events")).to_have_count(5)
    press(second, "Pause")
    expect(dashboard.locator('[data-do="Pause"]')).to_contain_text("Resume")


def test_chinese_is_spoken_where_the_browser_or_the_address_asks(rig, new_page):
    chinese = opened(rig, new_page(locale="zh-CN"))
    expect(card(chinese, "events")).to_contain_text("实时事件")
    rig.control("block_user", user="甲")
    rig.receive(chat(1, "你好"))
    expect(rows(chinese, "events").first).to_contain_text("用户已屏蔽")
    chinese.get_by_text("English").click()
    expect(card(chinese, "events")).to_contain_text("Live events")
    asked = opened(rig, new_page(locale="en-US"), "?lang=zh")
    expect(card(asked, "events")).to_contain_text("实时事件")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_day_and_night_follow_the_system_and_the_switch(rig, new_page, scheme):
    page = opened(rig, new_page(color_scheme=scheme))
    dark = re.compile("body--dark")
    body = page.locator("body")
    (expect(body).to_have_class if scheme == "dark" else expect(body).not_to_have_class)(dark)
    page.get_by_label("Light or dark").click()
    (expect(body).not_to_have_class if scheme == "dark" else expect(body).to_have_class)(dark)


def test_nothing_is_wider_than_a_phone(rig, new_page):
    phone = opened(rig, new_page(viewport={"width": 360, "height": 740}))
    rig.receive(chat(1, "长" * 150, "很长很长很长很长的名字" * 3))
    rig.receive(chat(2, "W" * 190, "W" * 60))
    expect(rows(phone, "events")).to_have_count(2)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360


def test_nothing_is_loaded_from_elsewhere_and_the_console_is_quiet(rig, new_page):
    page = new_page()
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append((message.type, message.text)))
    opened(rig, page)
    rig.receive(chat(1, "你好"))
    expect(rows(page, "events")).to_have_count(1)
    page.reload()
    expect(rows(page, "events")).to_have_count(1)
    local = (rig.url, rig.url.replace("http", "ws", 1), "data:", "blob:")
    assert [url for url in asked if not url.startswith(local)] == []
    assert [entry for entry in said if entry[0] in ("error", "warning")] == []


# -- what is done -----------------------------------------------------------------------------


def test_pause_and_resume(rig, dashboard):
    rig.control("say", text="一二三四五")
    assert rig.next()[0] == "speaking"
    press(dashboard, "Pause")
    expect(dashboard.locator('[data-do="Pause"]')).to_contain_text("Resume")
    assert rig.view().player.paused
    press(dashboard, "Pause")
    assert rig.next() == ("spoken", "一二三四五")
    expect(dashboard.locator('[data-do="Pause"]')).to_contain_text("Pause")


def test_skip_and_clear(rig, dashboard):
    rig.control("say", text="一" * 150)
    assert rig.next()[0] == "speaking"
    for n in range(4):
        rig.control("say", text=f"等{n}" * 20)
    press(dashboard, "Clear the queue")
    expect(dashboard.get_by_text("thrown away")).to_be_visible()
    assert rig.view().ledger.dropped["cleared by hand"] >= 3
    press(dashboard, "Skip")
    assert rig.next() == ("skipped", "一" * 150)
    expect(rows(dashboard, "events").filter(has_text="cleared by hand").first).to_be_visible()


def test_say_this(rig, dashboard):
    field = dashboard.get_by_placeholder("Say this")
    with rig.holding():
        field.fill("大家晚上好")
        press(dashboard, "Say")
        assert rig.next() == ("speaking", "大家晚上好")
        expect(field).to_have_value("")
        expect(card(dashboard, "speaking")).to_contain_text("大家晚上好")
    field.fill("再来一句")
    field.press("Enter")
    rig.until("speaking", "再来一句")


def test_what_is_refused_is_told_and_nothing_is_lost(rig, dashboard):
    dashboard.get_by_placeholder("Say this").fill("🎉")
    press(dashboard, "Say")
    expect(dashboard.get_by_text("something that can be spoken")).to_be_visible()
    expect(dashboard.get_by_placeholder("Say this")).to_have_value("🎉")
    assert rig.view().ledger.received == 0


def test_mute_volume_and_rate(rig, dashboard):
    press(dashboard, "Mute")
    expect(dashboard.locator('[data-do="Mute"]')).to_contain_text("Sound on")
    assert rig.view().player.muted
    knobs = dashboard.locator(".lb-knobs")
    volume, rate = knobs.locator(".q-slider__track-container").all()  # these take the focus
    volume.press("ArrowLeft")
    expect(knobs).to_contain_text("99%")
    assert rig.view().player.volume == 0.99
    rate.press("ArrowRight")
    expect(knobs).to_contain_text("221")
    assert rig.view().calm_rate == 221


def test_the_test_tone_reaches_the_output(rig, dashboard, monkeypatch):
    chimes = []
    programme = rig.bot.speaking.player._programme
    chime = programme.chime
    monkeypatch.setattr(
        programme, "chime", lambda samples: (chimes.append(samples), chime(samples))
    )
    press(dashboard, "Test tone")
    _until(dashboard, lambda: chimes)
    assert abs(chimes[0]).max() > 7000


def _until(page, predicate):
    """Let the page go on until the bot has done what was asked; a press answers with nothing."""
    for _ in range(400):
        if predicate():
            return
        page.wait_for_timeout(50)
    raise AssertionError("nothing happened")


def test_block_and_unblock_a_viewer(rig, dashboard):
    rig.receive(chat(1, "你好"))
    row = rows(dashboard, "events").first
    expect(row).to_contain_text("你好")
    row.hover()
    row.get_by_label("Block 甲").click()
    expect(card(dashboard, "blocked")).to_contain_text("u1")
    assert rig.bot.controls.blocked() == ("u1",)
    rig.receive(Chat(id="2", user=User(id="u1", name="甲"), text="再见"))
    expect(rows(dashboard, "events").first).to_contain_text("a blocked user")
    card(dashboard, "blocked").get_by_label("Unblock u1").click()
    expect(card(dashboard, "blocked")).to_contain_text("Nobody is blocked")
    card(dashboard, "blocked").get_by_placeholder("Id or exact name").fill("乙")
    card(dashboard, "blocked").get_by_role("button", name="Block").click()
    expect(rows(dashboard, "blocked")).to_contain_text("乙")


def test_switch_a_template_off_and_on(rig, dashboard):
    switch = card(dashboard, "templates").get_by_role("switch", name="member")
    expect(switch).to_be_checked()
    switch.click()
    _until(dashboard, lambda: not rig.bot.controls.templates()["member"])
    expect(switch).not_to_be_checked()
    rig.receive(Member(id="1", user=User(id="1", name="甲")))
    expect(rows(dashboard, "events").first).to_contain_text("no template")
    switch.click()
    _until(dashboard, lambda: rig.bot.controls.templates()["member"])
    expect(switch).to_be_checked()


def test_a_template_that_does_not_exist_stays_off_and_says_why(rig, dashboard):
    switch = card(dashboard, "templates").get_by_role("switch", name="like")
    expect(switch).not_to_be_checked()
    switch.click()
    expect(dashboard.get_by_text("has no template in the settings")).to_be_visible()
    expect(switch).not_to_be_checked()


def test_reconnect(rig, dashboard):
    card(dashboard, "connection").get_by_role("button", name="Reconnect").click()
    rig.wait_connected()
    assert rig.view().source.connections >= 2
    expect(rows(dashboard, "connection").filter(has_text="disconnected").first).to_be_visible()
    expect(figure(dashboard, "reconnects")).to_have_text("1")


def test_restart_a_component(rig, dashboard):
    row = rows(dashboard, "components").filter(has_text="combos").first
    row.hover()
    row.get_by_label("Restart combos").click()
    expect(dashboard.get_by_text("done")).to_be_visible()
    assert _part(rig, "combos").generation == 2


def _part(rig, name):
    return next(part for part in rig.bot.manager.report().components if part.name == name)


def test_the_page_can_restart_what_serves_it(rig, dashboard):
    row = rows(dashboard, "components").filter(has_text="web")
    row.hover()
    row.get_by_label("Restart web").click()
    _until(dashboard, lambda: _part(rig, "web").generation == 2)
    rig.receive(chat(1, "还在吗"))
    expect(rows(dashboard, "events").filter(has_text="还在吗")).to_be_visible(timeout=30_000)
    assert "abandoned" not in {event.after.value for event in rig.bot.manager.history()}


# -- when things go wrong ---------------------------------------------------------------------


def test_the_page_dies_and_comes_back_and_the_voice_goes_on(rig, dashboard):
    from nicegui import core

    rig.control("say", text="一" * 20)
    assert rig.next() == ("speaking", "一" * 20)
    core.loop.call_soon_threadsafe(sys.exit, "the thread of the page dies")
    assert rig.next() == ("spoken", "一" * 20)
    rig.receive(chat(1, "我还在"))
    rig.until("spoken", "甲说，我还在")
    expect(rows(dashboard, "events").filter(has_text="我还在")).to_be_visible(timeout=30_000)
    group = rig.view().components.components[-1].group
    assert group.components[0].restarts == 1
    assert "the thread of the page dies" in rig.bot.errors.groups()[0].message


def test_a_flood_leaves_the_page_bounded_and_responsive(rig, dashboard):
    for n in range(6000):
        rig.receive(Chat(id=f"f{n}", user=User(id=f"u{n % 50}", name=f"观众{n % 50}"), text=f"{n}"))
    expect(figure(dashboard, "received")).to_have_text("6,000")
    expect(rows(dashboard, "events")).to_have_count(200)
    press(dashboard, "Pause")
    expect(dashboard.locator('[data-do="Pause"]')).to_contain_text("Resume")
    assert len(rig.bot._ledger.recent()) == 200


def test_a_page_that_draws_slowly_is_told_less_instead_of_ever_later(rig, dashboard, monkeypatch):
    from livebot.web.dashboard.rows import Rows

    told = []
    merge = Rows.merge
    monkeypatch.setattr(Rows, "merge", lambda self, rows: (told.append(rows), merge(self, rows)))
    for n in range(20):  # twenty times a fifth of a second in which it cannot draw
        rig.receive(chat(n, f"第{n}句", f"观众{n}"))
        dashboard.evaluate("(() => { const t = Date.now(); while (Date.now() - t < 200); })()")
    expect(rows(dashboard, "events")).to_have_count(20)
    told_while_slow = len(told)
    dashboard.evaluate("window.requestAnimationFrame = () => 0")  # now it never draws
    for n in range(20, 30):
        rig.receive(chat(n, f"第{n}句", f"观众{n}"))
        dashboard.wait_for_timeout(200)
    assert len(told) - told_while_slow <= 3

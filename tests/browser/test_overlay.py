"""The overlay in a real browser, beside a bot that speaks."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from playwright.sync_api import expect

from livebot.app import LiveBot
from livebot.config import Settings, WebSettings
from livebot.messages import Chat, Like, User
from livebot.sources import Endpoint, Simulator
from livebot.web.serving import serve

FAR_AWAY = [(3600.0, Like(id="1", count=1))]  # so that the room stays open
HOSTILE = "<img src=x onerror=\"document.title='broken'\"><b>甲</b>"


class Rig:
    """A bot that runs and is served; each of its sentences is heard until the test says "next"."""

    def __init__(self, folder):
        self.simulator = Simulator(FAR_AWAY)
        settings = Settings.model_validate(
            {"voice": {"rest": 0.0, "lookahead": 1}, "moderation": {"cool_down": 0}}
        )
        self.bot = LiveBot(
            lambda: Endpoint(self.simulator.url),
            settings=settings,
            wav=folder / "out.wav",
            feed_needs=["simulator"],
        )
        self.bot.manager.add("simulator", self.simulator)
        self.bot.speaking.speech.synthesize = self._speak
        self.url = serve(self.bot, WebSettings(port=0))
        self._number = 0

    def _speak(self, text, rate=None):
        pcm = np.full(22050 * 60, 3000, np.int16).tobytes()  # a minute: longer than any test
        return SimpleNamespace(pcm=pcm, sample_rate=22050, text=text, cached=False)

    def receive(self, text, name="乙"):
        self._number += 1
        user = User(id=f"u{self._number}", name=name)
        self.bot._receive(Chat(id=str(self._number), user=user, text=text))

    def next(self):
        assert self.bot.speaking.player.skip()


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    rig.bot.manager.start()
    yield rig
    rig.bot.controls.clear()
    rig.bot.speaking.player.interrupt()  # or the end would wait for the sentence to end
    rig.bot.manager.stop(10)


def overlay(page, rig, query=""):
    page.goto(f"{rig.url}overlay?{query}")
    return page.locator("#subtitle"), page.locator("#events li")


def test_the_sentence_that_is_heard_is_the_subtitle(page, rig):
    subtitle, _ = overlay(page, rig)
    expect(subtitle).to_have_text("")
    rig.receive("第一句")
    expect(subtitle).to_have_text("乙说，第一句")
    rig.receive("第二句")
    rig.next()
    expect(subtitle).to_have_text("乙说，第二句")
    rig.next()
    expect(subtitle).to_have_text("")


def test_who_comes_later_sees_what_is_heard_now(new_page, rig):
    rig.receive("第一句")
    for page in (new_page(), new_page()):
        subtitle, events = overlay(page, rig)
        expect(subtitle).to_have_text("乙说，第一句")
        expect(events).to_have_text("乙 第一句")
        page.reload()
        expect(subtitle).to_have_text("乙说，第一句")


def test_hostile_names_and_words_are_text(page, rig):
    _, events = overlay(page, rig)
    rig.receive("<script>document.title='broken'</script>", name=HOSTILE)
    expect(events).to_contain_text("<img src=x onerror=")
    expect(events).to_contain_text("<script>")
    assert page.locator("#events img, #events b, #events script, #subtitle b").count() == 0
    assert page.title() == "livebot overlay"


def test_what_moderation_refused_is_not_shown_to_the_public(page, rig):
    _, events = overlay(page, rig)
    rules = {"moderation": {"blocked_words": ["脏话"], "cool_down": 0}}
    rig.bot.update(Settings.model_validate(rules))
    rig.receive("这是脏话")
    rig.receive("干净的话")
    expect(events).to_have_text("乙 干净的话")


def test_only_the_last_events_are_shown(page, rig):
    _, events = overlay(page, rig, "events=2&hold=0")
    for text in ("甲一", "乙二", "丙三", "丁四"):
        rig.receive(text)
    expect(events).to_have_count(2)
    expect(events.last).to_contain_text("丁四")
    rig.next()  # what became of the first comes too late to be shown again
    expect(events).to_have_count(2)
    expect(events.first).to_contain_text("丙三")


def test_it_connects_again_after_the_server_was_restarted(page, rig):
    subtitle, _ = overlay(page, rig)
    rig.receive("第一句")
    expect(subtitle).to_have_text("乙说，第一句")
    assert rig.bot.manager.restart("web", timeout=20)
    rig.receive("第二句")
    rig.next()
    expect(subtitle).to_have_text("乙说，第二句")


def test_the_server_may_be_restarted_by_a_control_that_it_serves(page, rig):
    """The one who asks loses the connection, and nobody is left waiting."""
    subtitle, _ = overlay(page, rig)
    rig.receive("第一句")
    expect(subtitle).to_have_text("乙说，第一句")
    page.evaluate(
        """async () => {
            const told = await (await fetch("/api/token")).json();
            const headers = {[told.header]: told.token};
            const body = JSON.stringify({component: "web"});
            await fetch("/api/controls/restart", {method: "POST", headers, body}).catch(() => 0);
        }"""
    )
    assert rig.bot.manager.wait_ready("web", timeout=20)
    rig.receive("第二句")
    rig.next()
    expect(subtitle).to_have_text("乙说，第二句")


def test_it_connects_again_to_another_run_of_the_bot(page, rig):
    """Even when it is refused meanwhile, which ends a browser's own attempts for good."""
    subtitle, events = overlay(page, rig)
    rig.receive("第一句")
    expect(events).to_have_count(1)
    page.route("**/overlay/stream", lambda route: route.fulfill(status=503, body="not now"))
    assert rig.bot.manager.restart("web", timeout=20)
    expect(page.locator("body")).to_have_attribute("data-state", "waiting")
    expect(subtitle).to_have_text("")
    news = 'data: {"run": "another", "subtitle": {"text": "新的"}, "events": []}\n\n'
    page.unroute("**/overlay/stream")
    page.route(
        "**/overlay/stream",
        lambda route: route.fulfill(content_type="text/event-stream", body=news),
    )
    expect(events).to_have_count(0)
    page.unroute("**/overlay/stream")
    expect(subtitle).to_have_text("乙说，第一句")
    expect(events).to_have_count(1)


def test_a_line_of_one_run_does_not_take_away_that_of_the_next_with_its_number(page, rig):
    page.clock.install()
    _, events = overlay(page, rig, "hold=10")
    rig.receive("第一句")
    expect(events).to_have_count(1)
    event = '{number: 9000, kind: "chat", user: "甲", text: "", count: 1, stage: "text", fate: ""}'
    page.evaluate(f"draw({event})")
    page.clock.run_for(6_000)
    page.evaluate(f"forget(); draw({event})")
    page.clock.run_for(6_000)  # the line of the first run would go now
    expect(events.filter(has_text="甲")).to_have_count(1)
    page.clock.run_for(6_000)
    expect(events.filter(has_text="甲")).to_have_count(0)


def test_it_is_transparent_and_looks_as_the_address_says(page, rig):
    rig.receive("第一句")
    query = "font=serif&size=72&color=%23ff0000&outline=blue&background=%2300ff0080&position=top"
    subtitle, _ = overlay(page, rig, f"{query}&align=left&show=subtitle")
    expect(subtitle).to_have_text("乙说，第一句")
    look = page.evaluate(
        """() => {
            const words = getComputedStyle(document.querySelector("#subtitle .words"));
            const body = getComputedStyle(document.body);
            return {
                page: getComputedStyle(document.documentElement).backgroundColor,
                body: body.backgroundColor, align: body.textAlign, font: body.fontFamily,
                colour: words.color, size: words.fontSize, behind: words.backgroundColor,
                outline: words.webkitTextStrokeColor,
                top: document.querySelector("#subtitle").getBoundingClientRect().top,
                events: getComputedStyle(document.querySelector("#events")).display,
            };
        }"""
    )
    top = look.pop("top")
    assert look.pop("font").startswith(("serif", '"serif"'))
    assert look == {
        "page": "rgba(0, 0, 0, 0)", "body": "rgba(0, 0, 0, 0)", "align": "left",
        "colour": "rgb(255, 0, 0)", "size": "72px", "behind": "rgba(0, 255, 0, 0.5)",
        "outline": "rgb(0, 0, 255)", "events": "none",
    }  # fmt: skip
    assert top < 100


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("size=9999", "size: Input should be less than or equal to 200, not '9999'"),
        ("colour=red;}body{display:none", "colour: String should match pattern"),
        ("font=a%22%3B%3Cscript%3E", "font: String should match pattern"),
        ("position=left", "position: Input should be 'top', 'middle' or 'bottom', not 'left'"),
        ("show=subtitle,ads", "may hold subtitle, events, not 'ads'"),
        ("kinds=chat,spam", "may hold chat, emoji, gift"),
        ("events=-1", "events: Input should be greater than or equal to 0"),
        ("sise=12", "there is no 'sise'; there are font, size, colour"),
    ],
)
def test_a_style_that_cannot_be_meant_is_told_where_it_is_looked_at(page, rig, query, complaint):
    answer = page.goto(f"{rig.url}overlay?{query}")
    assert answer.status == 422
    expect(page.locator("body")).to_contain_text(complaint)


def test_a_preview_shows_words_without_a_bot_that_speaks(page, rig):
    subtitle, events = overlay(page, rig, "preview=1&events=3")
    expect(subtitle).to_contain_text("字幕")
    expect(events).to_have_count(3)


def test_the_voice_goes_on_while_the_server_dies_and_comes_back(page, rig):
    subtitle, _ = overlay(page, rig)
    rig.receive("第一句")
    expect(subtitle).to_have_text("乙说，第一句")
    before = rig.bot.speaking.player.statistics().seconds
    again = threading.Event()
    group = rig.bot.manager.report().components
    assert "web" in [part.name for part in group]
    web = rig.bot.manager._supervisor.handles["web"].component.group
    web.subscribe(lambda event: event.generation == 2 and event.after.is_ready and again.set())
    server = web._supervisor.handles["server"].component
    server._run._server.should_exit = True  # it ends without having been asked to
    assert again.wait(20)
    player = rig.bot.speaking.player.statistics()
    assert player.speaking == "乙说，第一句"
    assert player.seconds > before
    expect(subtitle).to_have_text("乙说，第一句")

"""The JSON API, /metrics and /health of a bot, asked as a script would ask."""

import json
import threading
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from livebot.app import LiveBot
from livebot.config import Settings
from livebot.messages import Chat, Like, Stats, User
from livebot.web import figures
from livebot.web.security import Access
from livebot.web.site import BotSite
from threadkit import ComponentManager, ComponentState, ErrorLog
from web_server import ask, serving

HOSTILE = '<script>alert("1")</script>\n\u202e'


@pytest.fixture
def bot(tmp_path):
    """A bot that was made and not started: what it receives stays where it is."""
    return LiveBot("ws://127.0.0.1:1/", settings=Settings(), wav=tmp_path / "out.wav")


@pytest.fixture
def site(bot):
    return BotSite(bot, Access.of("127.0.0.1"), with_dashboard=False)


@pytest.fixture
def server(site):
    with serving(site) as (server, _):
        yield server


def get(server, path, status=200):
    answered, headers, body = ask(server, path)
    assert (answered, headers["content-type"]) == (status, "application/json"), body
    return json.loads(body)


@pytest.fixture
def control(server, site):
    """Call a control as a script does: ask for the token, send it along."""
    told = get(server, "/api/token")

    def call(name, body=b"{}"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, _, answer = ask(
            server,
            f"/api/controls/{name}",
            method="POST",
            body=body,
            headers={told["header"]: told["token"]},
        )
        return status, json.loads(answer)

    call.site = site
    return call


def receive(bot, *texts):
    for number, text in enumerate(texts):
        user = User(id=f"u{number}", name=HOSTILE)
        bot._receive(Chat(id=str(number), user=user, text=text, received_at=1.0))


def test_the_state_tells_counts_and_controls_but_no_lists(bot, server):
    receive(bot, "a", "b")
    bot._receive(Stats(id="9", viewers=3))
    state = get(server, "/api/state")
    assert state["ledger"]["received"] == 2
    assert state["ledger"]["other"] == {"stats": 1}
    assert [queue["name"] for queue in state["queues"]] == ["messages", "texts"]
    assert state["player"]["volume"] == 1.0
    assert state["web"] == {"refused": {}}
    assert "events" not in state


def test_events_are_told_once_to_who_says_what_it_has_seen(bot, server):
    receive(bot, "one", "two", "three")
    first = get(server, "/api/events?limit=2")
    assert [event["text"] for event in first["events"]] == ["one", "two"]
    rest = get(server, f"/api/events?since={first['version']}")
    assert [event["text"] for event in rest["events"]] == ["three"]
    assert rest["run"] == first["run"] == get(server, "/api/state")["run"]
    again = get(server, f"/api/events?since={rest['version']}")
    assert again["events"] == []
    assert again["version"] == rest["version"]


def test_an_event_that_changed_is_told_again(bot, server):
    receive(bot, "one", "two")
    seen = get(server, "/api/events")["version"]
    entry = bot._messages.get_nowait()
    bot._ledger.drop(entry, "cool_down")
    # A view is a tenth of a second old at most: ask until it is new.
    told = next(
        events
        for _ in range(1000)
        if (events := get(server, f"/api/events?since={seen}")["events"])
    )
    assert [(event["text"], event["fate"]) for event in told] == [("one", "cool_down")]


def test_a_hostile_name_is_told_as_it_is_and_as_json(bot, server):
    receive(bot, "x")
    event = get(server, "/api/events")["events"][0]
    assert event["user"].startswith("<script>alert(")
    assert "\n" not in event["user"]
    assert "\u202e" not in event["user"]


def test_half_a_character_of_the_room_spoils_no_answer(bot, server):
    receive(bot, "cut in an emoji\ud83d")
    assert get(server, "/api/events")["events"][0]["text"] == "cut in an emoji"


@pytest.mark.parametrize("query", ["since=-1", "since=x", "limit=0", "limit=201"])
def test_a_query_that_cannot_be_meant_is_refused_by_name(site, server, query):
    told = get(server, f"/api/events?{query}", 422)
    assert told["reason"] == "bad argument"
    assert told["error"].startswith(query.partition("=")[0] + ": ")
    assert site.refusals.statistics() == {"bad argument": 1}


def test_components_are_a_tree_with_states(server):
    tree = get(server, "/api/components")
    assert tree["name"] == "livebot"
    assert {part["name"]: part["state"] for part in tree["components"]}["player"] == "new"


def test_errors_are_told_in_groups(bot, server):
    for _ in range(2):
        bot.errors.record(ValueError("no such voice"), component="speech")
    (group,) = get(server, "/api/errors")
    assert (group["message"], group["count"], group["component"]) == ("no such voice", 2, "speech")


def test_figures_over_time_are_told(bot, server):
    bot.history.sample()
    (sample,) = get(server, "/api/history")["samples"]
    assert sample["figures"]["queue.texts"] == 0


def test_controls_are_listed_with_their_arguments(server):
    controls = get(server, "/api/controls")
    assert controls["say"]["arguments"].keys() == {"text"}
    assert controls["skip"]["help"]


def test_a_control_does_what_it_says(bot, control):
    assert control("set_volume", {"volume": 0.25}) == (200, {"result": None})
    assert bot.speaking.player.statistics().volume == 0.25
    assert control("pause", b"") == (200, {"result": None})
    assert bot.speaking.player.statistics().paused
    assert control("say", {"text": "你好"}) == (200, {"result": 1})
    assert len(bot.speaking.texts) == 1


@pytest.mark.parametrize(
    ("name", "body", "refusal", "sentence"),
    [
        ("explode", {}, (404, "unknown control"), "there is no control 'explode'; there are pause"),
        ("__init__", {}, (404, "unknown control"), "there is no control '__init__'"),
        ("call", {"name": "pause"}, (404, "unknown control"), "there is no control 'call'"),
        ("mute", {}, (422, "bad argument"), "mute takes muted, not none"),
        ("mute", {"muted": True, "x": 1}, (422, "bad argument"), "mute takes muted, not muted, x"),
        ("mute", {"muted": "yes"}, (422, "bad argument"), "muted must be true or false, not 'yes'"),
        ("set_volume", {"volume": 2}, (422, "bad argument"), "volume must be a number from 0 to 1"),
        ("set_volume", b'{"volume": NaN}', (422, "bad argument"), "volume must be a number from"),
        ("say", {"text": ""}, (422, "bad argument"), "text must be words"),
        ("say", b"text", (422, "bad argument"), "the body must be JSON: "),
        ("say", b"[]", (422, "bad argument"), "the body must be a JSON object, not list"),
        ("say", b"[" * 60_000, (422, "bad argument"), "the body must be JSON"),
        ("say", b"\xff", (422, "bad argument"), "the body must be JSON"),
        ("pause", b'{"\\ud800": 1}', (422, "bad argument"), "the body must be JSON"),
        ("restart", {"component": "player"}, (409, "not running"), "livebot is not running"),
        (
            "restart",
            {"component": "x"},
            (422, "bad argument"),
            "livebot has no component named 'x'",
        ),
    ],
)
def test_a_control_that_cannot_be_done_is_refused_and_counted(
    control, name, body, refusal, sentence
):
    status, told = control(name, body)
    assert (status, told["reason"]) == refusal
    assert sentence in told["error"]
    assert control.site.refusals.statistics() == {told["reason"]: 1}


def test_a_path_that_is_not_there_is_refused_and_counted(site, server):
    assert "/api/nothing" in get(server, "/api/nothing", 404)["error"]
    assert site.refusals.statistics() == {"unknown path": 1}


def test_the_api_describes_itself(server):
    paths = get(server, "/api/openapi")["paths"]
    assert {"/api/state", "/api/events", "/api/controls/{name}"} <= paths.keys()


# -- /metrics -----------------------------------------------------------------------------------


def scraped(server):
    status, headers, body = ask(server, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(body.decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "each family once"
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_tell_the_books_and_the_parts(bot, server):
    receive(bot, "a", "b", "c")
    bot._ledger.drop(bot._messages.get_nowait(), HOSTILE)
    bot._receive(Like(id="9", count=1))
    bot._receive(Stats(id="10", viewers=1))
    told = scraped(server)
    assert told["livebot_events_received_total",] == 4
    assert told["livebot_events_dropped_total", HOSTILE] == 1
    assert told["livebot_events_waiting", "waiting to be looked at"] == 3
    assert told["livebot_events_other_total", "stats"] == 1
    assert told["livebot_feed_state", "new"] == 1
    assert told["livebot_player_volume",] == 1
    assert told["livebot_player_latency_seconds",] == bot.speaking.player.statistics().latency
    assert told["livebot_speech_workers_lost_total", "killed"] == 0
    assert told["livebot_speech_fallbacks_total",] == 0
    assert told["threadkit_queue_puts_total", "messages"] == 4
    assert told["threadkit_component_state", "player", "new"] == 1
    assert told["threadkit_pool_max_workers", "tts"] == 2
    bot.resources.monitor.sample()
    assert scraped(server)["threadkit_resource_used", "memory"] > 0


def test_metrics_tell_delays_once_there_are_any(bot, server):
    assert not [key for key in scraped(server) if key[0] == "livebot_delay_seconds"]
    bot.speaking.player._delays.append(0.5)
    # A view is a tenth of a second old at most: ask until it is new.
    asked = (scraped(server) for _ in range(1000))
    told = next(told for told in asked if ("livebot_delay_seconds", "0.5") in told)
    assert told["livebot_delay_seconds", "0.5"] == pytest.approx(0.5, rel=0.2)
    assert told["livebot_delay_seconds", "0.95"] == pytest.approx(0.5, rel=0.2)


def test_metrics_count_refusals_by_reason(server):
    ask(server, "/", host="evil.example")
    ask(server, "/", host="evil.example")
    ask(server, "/api/controls/skip", method="POST")
    told = scraped(server)
    assert told["livebot_web_refused_total", "host"] == 2
    assert told["livebot_web_refused_total", "control token"] == 1


# -- /health ------------------------------------------------------------------------------------


class Part:
    """Starts, and fails when told."""

    def start(self, ctx):
        self.ctx = ctx

    def stop(self, ctx):
        pass


class HealthSite:
    """/health of a manager, without a gate."""

    def __init__(self, manager):
        self._app = FastAPI()
        bot = SimpleNamespace(
            manager=manager,
            errors=ErrorLog("x"),
            queues=(),
            resources=SimpleNamespace(monitor=None),
            view=None,
        )
        figures.mount(self._app, bot, dict)

    async def __call__(self, scope, receive, send):
        await self._app(scope, receive, send)

    def hang_up(self):
        pass


def test_health_is_what_the_components_say_with_reasons():
    manager = ComponentManager("bot")
    manager.add("steady", Part())
    manager.service("once", lambda ctx: None, restart="temporary")
    inner = manager.group("inner")
    inner.add("mortal", mortal := Part(), restart="temporary")
    with serving(HealthSite(manager)) as (server, _):
        told = get(server, "/health", 503)
        assert told["reasons"] == {"steady": "new", "once": "new", "inner": "new"}
        with manager:
            assert get(server, "/health") == {"healthy": True, "reasons": {}}
            failed = threading.Event()
            inner.subscribe(lambda event: event.after is ComponentState.FAILED and failed.set())
            mortal.ctx.fail(OSError("unplugged"))
            assert failed.wait(20)
            told = get(server, "/health", 503)
            assert told["healthy"] is False
            assert told["reasons"].keys() == {"inner/mortal"}
            assert "unplugged" in told["reasons"]["inner/mortal"]

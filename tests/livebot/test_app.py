"""The whole bot in this process, against the real simulator, into a WAV file."""

import logging
import socket

import pytest

from livebot.app import LiveBot
from livebot.config import Settings
from livebot.messages import Chat, Member, User
from livebot.sources import Endpoint, Faults, Simulator
from livebot.sources.connection import Connection
from model_server import ModelServer


def chat(number, text):
    return Chat(id=str(number), user=User(id=str(number), name="甲"), text=text)


def room(*texts):
    return [(0.1 * number, chat(number, text)) for number, text in enumerate(texts, 1)]


@pytest.fixture
def live(tmp_path):
    """Makes a bot for a simulated room; `bot.run()` ends when the room has."""

    def make(events, faults=None, **settings):
        simulator = Simulator(events, speed=10, faults=faults)
        quick = {"voice": {"rest": 0.0, "rate": 450, **settings.pop("voice", {})}, **settings}
        bot = LiveBot(
            lambda: Endpoint(simulator.url),
            settings=Settings.model_validate(quick),
            wav=tmp_path / "out.wav",
            feed_needs=["simulator"],
        )
        bot.manager.add("simulator", simulator)
        return bot, simulator

    return make


NOTHING_FORESEEN = {kind: [] for kind in ("member", "follow", "share", "fansclub")}


def books(bot):
    seen = bot.snapshot().ledger
    assert seen.received == seen.spoken + seen.pending + sum(seen.dropped.values())
    return seen


def test_everything_that_can_be_spoken_is_spoken_in_the_end(live):
    bot, simulator = live(room("你好", "早上好", "再见"))
    assert bot.run() == 0
    assert books(bot).spoken == 3
    assert books(bot).pending == 0
    assert bot.snapshot().player.played == 3
    assert simulator.statistics().sent["chat"] == 3


def test_a_sentence_that_cannot_be_spoken_holds_up_nobody(live, monkeypatch):
    bot, _ = live(room("你好", "坏", "再见"))
    speak = bot.speaking.speech.synthesize

    def sometimes(text, **options):
        if "坏" in text:
            raise RuntimeError("the engine fell over")
        return speak(text, **options)

    monkeypatch.setattr(bot.speaking.speech, "synthesize", sometimes)
    assert bot.run() == 0
    assert (books(bot).spoken, books(bot).dropped) == (2, {"speech: error": 1})
    [group] = bot.errors.groups()
    assert (group.count, group.message) == (1, "the engine fell over")


def test_an_event_that_breaks_moderation_is_dropped_and_recorded(live, monkeypatch):
    bot, _ = live([(0.0, chat(1, "你好")), (0.1, Member(id="2", user=User(id="9", name="乙")))])
    consider = bot.answering.moderator.consider

    def picky(event, tag):
        if isinstance(event, Member):
            raise ValueError("never seen such a thing")
        return consider(event, tag)

    monkeypatch.setattr(bot.answering.moderator, "consider", picky)
    assert bot.run() == 0
    assert (books(bot).spoken, books(bot).dropped) == (1, {"error while answering": 1})
    assert [group.message for group in bot.errors.groups()] == ["never seen such a thing"]


def test_more_than_can_be_spoken_is_shed_with_its_reason(live):
    bot, _ = live(room(*(f"第{n}句" for n in range(40))), pipeline={"text_queue_size": 5})
    assert bot.run() == 0
    seen = books(bot)
    assert seen.pending == 0
    assert seen.dropped["text queue: drop_lowest"] > 20
    assert seen.spoken >= 5


def test_a_repeated_sentence_comes_from_the_cache(live):
    namesakes = [User(id="1", name="甲"), User(id="2", name="甲")]
    same = [(0.0, Member(id=user.id, user=user)) for user in namesakes]
    bot, _ = live(same, voice={"workers": 1}, replies=NOTHING_FORESEEN | {"member": ["欢迎{name}"]})
    assert bot.run() == 0
    speech = bot.snapshot().speech
    one_foreseen = 1
    assert (books(bot).spoken, speech.synthesized - one_foreseen, speech.cached) == (2, 1, 1)


def test_a_cache_on_disk_serves_the_next_run(live, tmp_path):
    for expected in ((1, 0), (0, 1)):
        voice = {"cache_directory": str(tmp_path / "cache")}
        bot, _ = live(room("你好"), voice=voice, replies=NOTHING_FORESEEN)
        assert bot.run() == 0
        speech = bot.snapshot().speech
        assert (speech.synthesized, speech.cached) == expected


def test_a_model_answers_in_sentences_and_is_heard(live):
    with ModelServer(pieces=("好的！", "马上唱。")) as server:
        model = {"base_url": server.url, "model": "m"}
        bot, _ = live(room("唱首歌吧"), model=model)
        assert bot.run() == 0
    assert (books(bot).spoken, bot.snapshot().player.played) == (1, 2)
    assert bot.snapshot().model.answers == 1


@pytest.mark.parametrize("manner", ["break", "refuse", "rave"])
def test_a_template_speaks_when_the_model_fails(live, manner, caplog):
    with ModelServer(manner) as server, caplog.at_level(logging.INFO):
        model = {"base_url": server.url, "model": "m"}
        bot, _ = live(room("唱首歌吧"), model=model)
        assert bot.run() == 0
    assert books(bot).spoken == 1
    assert "said: 甲说，唱首歌吧" in [record.getMessage() for record in caplog.records]


def test_what_a_model_began_is_spoken_when_it_stalls(live):
    with ModelServer("stall", pieces=("好的！",)) as server:
        model = {"base_url": server.url, "model": "m", "stall": 0.5}
        bot, _ = live(room("唱首歌吧"), model=model)
        assert bot.run() == 0
    assert (books(bot).spoken, bot.snapshot().player.played) == (1, 1)


def test_a_model_is_not_listened_to_any_more_once_its_answer_is_interrupted(live):
    with ModelServer("stall", pieces=("好的。" * 20,)) as server:
        model = {"base_url": server.url, "model": "m", "stall": 0.5}
        bot, _ = live(room("唱首歌吧"), model=model)
        bot.speaking.player._on_started = lambda utterance: bot.speaking.player.interrupt()
        assert bot.run() == 0
    assert books(bot).dropped == {"voice: interrupted": 1}


@pytest.mark.parametrize("handler", ["threads", "asyncio"])
def test_both_handlers_keep_the_books_in_a_flood(live, handler):
    flood = [(0.001 * n, chat(n, f"第{n}条")) for n in range(2000)]
    sizes = {"handler": handler, "message_queue_size": 50, "text_queue_size": 3}
    bot, _ = live(flood, pipeline=sizes)
    assert bot.run() == 0
    seen = books(bot)
    assert (seen.received, seen.pending) == (2000, 0)
    assert seen.spoken >= 3


def test_rules_and_replies_change_while_the_bot_runs(live, caplog):
    bot, _ = live([(0.0, chat(1, "你好")), (20.0, chat(2, "再见")), (20.0, chat(3, "加微信"))])
    changed = Settings.model_validate(
        {
            "replies": {"chat": ["{name}"]},
            "voice": {"volume": 0.5},
            "moderation": {"blocked_words": ["微信"]},
        }
    )
    bot.speaking.player._on_started = lambda utterance: bot.update(changed)
    with caplog.at_level(logging.INFO):
        assert bot.run() == 0
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if line.startswith("said")] == ["said: 甲说，你好", "said: 甲"]
    assert books(bot).dropped == {"blocked_word": 1}
    assert bot.snapshot().player.volume == 0.5


def test_a_rule_that_makes_no_sense_changes_nothing(live):
    bot, _ = live(room("你好"))
    with pytest.raises(ValueError, match="does not compile"):
        bot.update(Settings.model_validate({"moderation": {"blocked_patterns": ["("]}}))


def test_a_model_is_kept_unless_its_own_settings_change(live):
    with ModelServer() as server:
        model = {"base_url": server.url, "model": "m"}
        bot, _ = live(room("你好"), model=model)
        first = bot.answering.model
        bot.update(Settings.model_validate({"model": model, "voice": {"volume": 0.5}}))
        assert bot.answering.model is first
        bot.update(Settings.model_validate({"model": {**model, "persona": "海盗"}}))
        assert bot.answering.model is not first
        assert first._client.is_closed()
        bot.answering.stop()


def test_a_stop_in_the_middle_of_a_models_answer_waits_for_nobody(live):
    with ModelServer("stall", pieces=("好的。",)) as server:
        model = {"base_url": server.url, "model": "m", "stall": 300, "timeout": 300}
        bot, _ = live(room("唱首歌吧"), model=model)
        bot.speaking.player._on_started = lambda utterance: bot.manager.request_stop()
        assert bot.run() == 0, bot.manager.report()
        assert server.waiting.is_set(), "the server was still holding its answer back"
        assert not server.let_go.is_set()


def test_a_sentence_that_comes_too_late_is_dropped_and_gives_its_room_back(live, monkeypatch):
    bot, _ = live(room("你好", "早上好", "再见"), voice={"lookahead": 1})
    play = bot.speaking.player.play

    def late_once(number, speech, **options):
        return play(number, speech, **options) if number else not play(number, None)

    monkeypatch.setattr(bot.speaking.player, "play", late_once)
    assert bot.run() == 0
    assert (books(bot).spoken, books(bot).dropped) == (2, {"voice: late": 1})


def test_a_room_that_refuses_us_ends_the_bot_with_an_error(live):
    bot, _ = live([*room("你好"), (60.0, chat(9, "再见"))], Faults(cut_every=1.0, cut_code=1008))
    assert bot.run() == 1
    assert books(bot).pending == 0


def test_a_malformed_frame_costs_one_line_and_nothing_else(live, caplog):
    bot, _ = live([(0.0, chat(1, "你好")), (5.0, chat(2, "再见"))], Faults(malformed=1.0))
    with caplog.at_level(logging.WARNING):
        assert bot.run() == 0
    assert books(bot).spoken == 2
    assert bot.snapshot().source.malformed >= 1
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1, "the first is told; more within seconds are only counted"
    assert "malformed" in lines[0]


def test_a_room_that_cannot_be_reached_costs_one_line_an_attempt(tmp_path, caplog):
    with socket.socket() as taken:  # bound, not listening: connections to it are refused
        taken.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}/"
        attempts = []

        def where():
            attempts.append(url)
            if len(attempts) == 2:  # fails once the connection is to end, which is no news
                bot.manager.request_stop()
                assert bot._source._connection._stopping.wait(30)
            return Endpoint(url)

        bot = LiveBot(where, settings=Settings(), wav=tmp_path / "out.wav")
        with caplog.at_level(logging.WARNING):
            assert bot.run(seconds=60) == 0
    assert len(attempts) == 2
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1, lines
    assert "127.0.0.1" in lines[0]
    assert "next attempt in" in lines[0]


def test_it_speaks_faster_while_much_waits_and_keeps_subtitles(live, tmp_path):
    subtitles = tmp_path / "subtitles.txt"
    bot, _ = live(
        room(*(f"第{n}句" for n in range(8))),
        voice={"rate": 300, "hurry": 2, "workers": 1, "subtitles": str(subtitles)},
        pipeline={"text_queue_size": 5},
    )
    pace, rates = bot.speaking.pace, []

    class Watched:
        rate = pace.rate

        def __call__(self, waiting):
            rates.append(pace(waiting))
            return rates[-1]

    bot.speaking.pace = Watched()
    assert bot.run() == 0
    assert max(rates) > 300
    assert pace(0) == 300
    assert pace(8) == 450
    assert subtitles.read_text() == ""


def deadly(monkeypatch, owner, name):
    """The next call of a method raises, and the one after does what it always did."""
    method = getattr(owner, name)

    def die(*args, **kwargs):
        monkeypatch.setattr(owner, name, method)
        raise RuntimeError(f"{name} fell over")

    monkeypatch.setattr(owner, name, die)


@pytest.mark.parametrize(
    ("part", "owner_of", "method"),
    [
        ("player", lambda bot: bot.speaking.player, "_look_at_the_clock"),
        ("voice", lambda bot: bot.speaking.voice, "_complete"),
        ("messages", lambda bot: bot.manager.pools["processing"], "submit"),
        ("source", lambda _: Connection, "_attempt"),
    ],
)
def test_a_part_that_dies_is_brought_back_and_the_room_goes_on(
    live, monkeypatch, caplog, *, part, owner_of, method
):
    bot, _ = live(room(*(f"第{n}句" for n in range(20))))
    deadly(monkeypatch, owner_of(bot), method)
    with caplog.at_level(logging.INFO, "threadkit.components"):  # a SIGTERM to pytest ends it, too
        assert bot.run() == 0, bot.manager.report()
    seen = books(bot)
    assert seen.pending == 0, caplog.text
    assert seen.spoken >= 15
    assert {row.name: row.restarts for row in bot.manager.report().components}[part] == 1
    assert "fell over" in "".join(group.message for group in bot.errors.groups())


PARTS = (
    *("errors", "player", "speech", "tts", "voice", "combos", "model", "answers"),
    *("processing", "messages", "source"),
)


def test_every_part_can_be_restarted_while_the_room_is_spoken(live):
    """As the dashboard's buttons do: one after another, between two sentences of the room."""
    events = room(*(f"第{n}句" for n in range(2 * len(PARTS) + 4)))
    bot, _ = live([(at * 20, event) for at, event in events])
    left, heard = iter(PARTS), []

    def restart_one(utterance):
        heard.append(utterance.text)
        if len(heard) % 2 and (part := next(left, None)):
            assert bot.manager.restart(part, timeout=0) in (True, False)

    bot.speaking.player._on_started = restart_one
    assert bot.run() == 0, bot.manager.report()
    assert next(left, None) is None, "each had its turn"
    seen = books(bot)
    assert seen.pending == 0
    assert seen.spoken >= len(events) - 6, seen
    generations = {row.name: row.generation for row in bot.manager.report().components}
    assert all(generations[part] == 2 for part in PARTS), generations


def test_sentences_of_fixed_words_are_ready_before_anybody_comes(live, monkeypatch):
    replies = NOTHING_FORESEEN | {"follow": ["欢迎来到直播间"], "member": ["你好{name}"]}
    bot, _ = live([(600.0, chat(1, "你好"))], replies=replies)
    changed = Settings.model_validate({"replies": {**replies, "share": ["谢谢你的分享"]}})
    prefetch, prepared = bot.speaking.speech.prefetch, []

    def note(sentences, rate):
        prepared.append((*sentences, prefetch(sentences, rate=rate)))
        if len(prepared) == 2:
            bot.update(changed)
        if len(prepared) == 5:
            bot.manager.request_stop()

    monkeypatch.setattr(bot.speaking.speech, "prefetch", note)
    assert bot.run() == 0
    first = [("你好有人", 1), ("欢迎来到直播间", 1)]
    assert sorted(prepared[:2]) == first
    assert sorted(prepared[2:]) == [*first, ("谢谢你的分享", 1)]


def test_sentences_of_fixed_words_are_ready_at_the_rate_of_a_calm_room(live, monkeypatch):
    replies = NOTHING_FORESEEN | {"share": ["谢谢"]}
    bot, _ = live([(600.0, chat(1, "你好"))], voice={"workers": 1}, replies=replies)
    monkeypatch.setattr(type(bot.speaking), "rate", property(lambda _: 400))  # as while many wait
    speech, prepared = bot.speaking.speech, []
    prefetch = speech.prefetch

    def note(sentences, rate):
        kept = prefetch(sentences, rate=rate)
        prepared.append(rate)
        assert kept == 1
        assert speech.synthesize(*sentences, rate=rate).cached
        if len(prepared) == 1:
            bot.controls.set_rate(200)  # on the only thread that prepares: both are asked for now
            bot.controls.set_rate(250)
        else:
            bot.manager.request_stop()

    monkeypatch.setattr(speech, "prefetch", note)
    assert bot.run() == 0
    assert prepared == [450, 250], "neither the hurried rate nor one that was changed meanwhile"


@pytest.mark.parametrize("engine", ["pyttsx3", "espeak"])
def test_the_engine_of_the_settings_speaks(live, engine):
    bot, _ = live(room("你好"), voice={"engine": engine})
    assert bot.run() == 0
    assert books(bot).spoken == 1
    assert bot.snapshot().speech.engine.startswith(engine)


def test_another_engine_speaks_when_that_of_the_settings_cannot(live, tmp_path, caplog):
    bot, _ = live(
        room(*(f"第{n}句" for n in range(5))),
        voice={"engine": "piper", "piper_folder": str(tmp_path / "no such folder")},
    )
    assert bot.run() == 0
    assert books(bot).spoken == 5
    seen = bot.snapshot().speech
    assert (seen.engine, seen.given_up) == (
        "espeak-ng",
        {"piper": "engine error: it has no voices at all"},
    )
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.endswith("espeak-ng speaks from now on")


def test_parts_hold_what_the_manager_knows_of(live):
    bot, _ = live(room("你好"))
    assert bot.manager.caches["audio"] is bot.speaking.cache
    assert set(bot.manager.pools) == {"tts", "model", "processing"}
    assert bot.run() == 0
    report = {row.name: row for row in bot.manager.report().components}
    assert report["audio"].figures["entries"] >= 1
    assert bot.resources.monitor.latest is not None


def test_changes_that_cannot_take_effect_now_are_named(live, caplog):
    bot, _ = live(room("你好"))
    voice = {"rest": 0.0, "rate": 450, "workers": 3, "volume": 0.5}
    with caplog.at_level(logging.WARNING):
        bot.update(Settings.model_validate({"voice": voice, "feed": {"kind": "douyin_live"}}))
    [line] = [record.getMessage() for record in caplog.records]
    assert line == "feed.kind, voice.workers: takes effect with the next start"
    bot.manager.stop()


def test_what_was_changed_by_hand_lasts_until_the_settings_change_it_themselves(live):
    bot, _ = live(room("你好"), voice={"volume": 0.8})
    voice = {"rest": 0.0, "rate": 450, "volume": 0.8}
    bot.controls.set_volume(0.3)
    bot.update(Settings.model_validate({"voice": voice, "replies": {"nobody": "某人"}}))
    assert bot.snapshot().player.volume == 0.3
    bot.update(Settings.model_validate({"voice": {**voice, "volume": 0.9, "rate": 200}}))
    assert bot.snapshot().player.volume == 0.9
    assert bot.speaking.rate == 200
    bot.manager.stop()


def other(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 + 0.3
    if isinstance(value, str):
        return value + "x"
    return value


ODD = {
    "feed": {"kind": "douyin_live", "headers": {"a": "b"}, "command": ["x"]},
    "pipeline": {"handler": "asyncio"},
    "voice": {"hurry": 1.5, "engine": "espeak", "piper_folder": "x", "device": 0, "subtitles": "x",
              "cache_directory": "x"},
    "web": {"enabled": False, "names": ["x"], "token": "a secret of sixteen"},
}  # fmt: skip


def every_key():
    for section, field in Settings.model_fields.items():
        for key in field.annotation.model_fields:
            yield section, key


@pytest.mark.parametrize(("section", "key"), [*every_key()])
def test_every_key_can_be_changed_in_a_bot_that_runs(tmp_path, caplog, section, key):
    """It takes effect, or is said to wait for the next start; never neither, never an error."""
    before = Settings()
    value = getattr(getattr(before, section), key)
    if section == "moderation" and isinstance(value, tuple):
        value = ["你"]
    elif section == "replies" and isinstance(value, tuple):
        value = ["另一个{name}"]
    else:
        value = ODD.get(section, {}).get(key, other(value))
    after = Settings.model_validate({section: {key: value}})
    assert getattr(getattr(after, section), key) != getattr(getattr(before, section), key)
    bot = LiveBot("ws://127.0.0.1:1/", settings=before, wav=tmp_path / "out.wav")
    with caplog.at_level(logging.WARNING):
        bot.update(after)
    said = [record.getMessage() for record in caplog.records]
    told = [f"{section}.{key}: takes effect with the next start"]
    took = {
        "moderation": lambda: getattr(bot.answering.moderator._rules, key),
        "replies": lambda: getattr(bot.answering.templates._settings, key),
        "model": lambda: getattr(bot.answering._model_settings, key),
        "voice": lambda: {
            "volume": bot.snapshot().player.volume,
            "rate": bot.speaking.pace.rate,
            "hurry": bot.speaking._hurry,
            "device": 0,  # a file is spoken into, so there is none
        }.get(key),
    }.get(section)
    wanted = getattr(getattr(after, section), key)
    assert said == told or (said == [] and took and took() == wanted), said
    bot.manager.stop()

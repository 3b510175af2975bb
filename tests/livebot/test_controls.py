"""Each control, against the whole pipeline in this process, without a browser."""

from types import SimpleNamespace

import pytest

from bot_rig import Rig, chat
from livebot.config import Settings
from livebot.controls import Controls, ControlSpec, UnknownControl
from livebot.messages import Member, User


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path).running() as rig:
        yield rig


def test_words_said_by_hand_are_heard_and_counted(rig):
    with rig.holding():
        number = rig.control("say", text="  大家\n好  ")
        assert rig.next() == ("speaking", "大家 好")
        speaking = rig.view().speaking
    assert (speaking.number, speaking.text, speaking.kind) == (number, "大家 好", "said")
    assert rig.next() == ("spoken", "大家 好")
    view = rig.view()
    assert (view.ledger.spoken, view.events[-1].fate, view.speaking) == (1, "spoken", None)


def test_words_said_by_hand_come_before_what_waits(rig):
    rig.receive(chat(1, "一二三四五六七八"))
    rig.until("speaking", "甲说，一二三四五六七八")
    rig.receive(chat(2, "后面", "乙"))
    rig.control("say", text="先说")
    rig.control("skip")
    rig.until("speaking", "先说")
    rig.until("speaking", "乙说，后面")


def test_a_pause_stops_in_the_middle_and_goes_on_there(rig):
    rig.control("say", text="一二三")
    assert rig.next() == ("speaking", "一二三")
    rig.control("pause")
    assert rig.bot.view().player.paused
    samples = rig.bot.speaking.player._programme.samples_spoken
    rig.control("test_tone")  # heard in a pause as well, and takes nothing of the sentence
    assert rig.bot.speaking.player._programme.samples_spoken == samples
    rig.control("resume")
    assert rig.next() == ("spoken", "一二三")


def test_skip_ends_the_sentence_that_is_heard(rig):
    assert rig.control("skip") is False
    rig.control("say", text="一" * 100)
    assert rig.next() == ("speaking", "一" * 100)
    assert rig.control("skip") is True
    assert rig.next() == ("skipped", "一" * 100)
    assert rig.bot._ledger.statistics().dropped == {"voice: skipped": 1}


def test_clear_throws_away_what_waits_and_says_so(rig):
    rig.control("say", text="一" * 100)
    assert rig.next() == ("speaking", "一" * 100)
    numbers = [rig.control("say", text=f"等{n}") for n in range(3)]
    waiting = [passage.number for passage in rig.bot._ledger.queued()]
    assert rig.control("clear") == len(waiting)
    assert set(waiting) <= set(numbers)
    assert len(waiting) >= 2  # one may be in the voice's hands already
    assert rig.bot._ledger.statistics().dropped == {"cleared by hand": len(waiting)}
    assert len(rig.bot.speaking.texts) == 0
    assert rig.control("clear") == 0


def test_mute_volume_and_rate_are_in_force_and_shown(rig):
    rig.control("mute", muted=True)
    rig.control("set_volume", volume=0.25)
    rig.control("set_rate", rate=300)
    player = rig.bot.speaking.player.statistics()
    assert (player.muted, player.volume, rig.bot.speaking.rate) == (True, 0.25, 300)
    rig.control("mute", muted=False)
    assert not rig.bot.speaking.player.statistics().muted


def dropped(rig, reason, *events):
    """The count of `reason` after these events have been judged, one after the other."""
    for event in events:
        entry = rig.bot._ledger.admit(event)
        rig.bot.answering.answer(entry)
    return rig.bot._ledger.statistics().dropped.get(reason, 0)


def test_a_blocked_user_is_ignored_until_unblocked(rig):
    rig.control("block_user", user=" 甲 ")
    assert rig.bot.controls.blocked() == ("甲",)
    assert dropped(rig, "blocked_user", chat(1, "早")) == 1
    rig.control("unblock_user", user="甲")
    assert dropped(rig, "blocked_user", chat(2, "晚上好")) == 1
    assert rig.bot.controls.blocked() == ()


def test_a_template_that_is_switched_off_leaves_its_kind_unspoken(rig):
    rig.control("switch_template", kind="member", on=False)
    assert rig.bot.controls.templates()["member"] is False
    member = Member(id="1", user=User(id="1", name="甲"))
    assert dropped(rig, "no template for member", member) == 1
    rig.control("switch_template", kind="member", on=True)
    again = Member(id="2", user=User(id="2", name="乙"))
    assert dropped(rig, "no template for member", again) == 1
    assert rig.bot.controls.templates()["member"] is True


def test_what_was_changed_by_hand_stays_when_the_settings_are_read_again(rig):
    rig.control("block_user", user="甲")
    rig.control("switch_template", kind="member", on=False)
    rig.bot.update(Settings.model_validate({"moderation": {"blocked_words": ["坏"]}}))
    assert dropped(rig, "blocked_user", chat(1, "早")) == 1
    assert dropped(rig, "blocked_word", chat(2, "坏", "乙")) == 1
    assert rig.bot.controls.templates()["member"] is False


def test_settings_that_make_no_sense_change_nothing(rig):
    rig.control("block_user", user="甲")
    with pytest.raises(ValueError, match="does not compile"):
        rig.bot.update(Settings.model_validate({"moderation": {"blocked_patterns": ["("]}}))
    rig.control("block_user", user="乙")
    assert dropped(rig, "blocked_user", chat(1, "早"), chat(2, "早", "乙")) == 2


def test_reconnecting_opens_another_connection(rig):
    assert rig.control("reconnect") is True
    rig.wait_connected()
    assert rig.bot.view().source.connections >= 2
    assert "connected" in [change.state.value for change in rig.bot.history.feed_changes()]


def test_a_component_is_restarted_by_name(rig):
    before = {part.name: part.generation for part in rig.bot.manager.report().components}
    assert rig.control("restart", component="history") is True
    after = {part.name: part.generation for part in rig.bot.manager.report().components}
    assert {name for name in after if after[name] != before[name]} == {"history"}


def test_every_control_is_described():
    assert set(Controls.specs()) >= {"pause", "say", "restart"}
    for spec in Controls.specs().values():
        assert isinstance(spec, ControlSpec)
        assert spec.help.endswith(".")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("set_volume", {"volume": 1.5}, "volume must be a number from 0 to 1, not 1.5"),
        ("set_volume", {"volume": True}, "volume must be a number"),
        ("set_volume", {"volume": float("nan")}, "volume must be a number"),
        ("set_volume", {}, "set_volume takes volume, not none"),
        ("set_rate", {"rate": 79}, "rate must be a number from 80 to 450, not 79"),
        ("set_rate", {"rate": "fast"}, "rate must be a number"),
        ("mute", {"muted": 1}, "muted must be true or false, not 1"),
        ("say", {"text": " \n "}, "text must be words"),
        ("say", {"text": 5}, "text must be words, not 5"),
        ("say", {"text": "🎉"}, "text must hold something that can be spoken"),
        ("say", {"text": "长" * 201}, "text must have at most 200 characters, not 201"),
        ("say", {"text": "a\ud800b"}, "text must be whole characters"),
        ("block_user", {"user": ""}, "user must be words"),
        ("block_user", {"user": "\ud83d"}, "user must be whole characters"),
        ("unblock_user", {"user": "甲"}, "user must be one that was blocked here, not '甲'"),
        ("switch_template", {"kind": "rank", "on": True}, "kind must be one of chat, gift"),
        ("switch_template", {"kind": "like", "on": True}, "kind like has no template"),
        ("switch_template", {"kind": "gift", "on": "no"}, "on must be true or false"),
        ("restart", {"component": "nobody"}, "livebot has no component named 'nobody'"),
        ("pause", {"for": 3}, "pause takes no arguments, not for"),
    ],
)
def test_bad_input_is_refused_by_name(rig, name, arguments, message):
    with pytest.raises(ValueError, match=message):
        rig.bot.controls.call(name, arguments)


@pytest.mark.parametrize("name", ["", "call", "__init__", "_use_locked", "update"])
def test_what_is_no_control_cannot_be_called(rig, name):
    with pytest.raises(UnknownControl, match="there is no control"):
        rig.bot.controls.call(name, {})


def test_a_view_is_built_at_most_ten_times_a_second(rig, monkeypatch):
    looks = []
    look = rig.bot._viewer._look
    now = [100.0]
    monkeypatch.setattr(rig.bot._viewer, "_look", lambda at: (looks.append(at), look(at))[1])
    monkeypatch.setattr(rig.bot._viewer, "_runtime", SimpleNamespace(
        monotonic=lambda: now[0], time=lambda: now[0]))  # fmt: skip
    for _ in range(1000):
        rig.bot.view()
        now[0] += 0.001
    assert 9 <= len(looks) <= 11

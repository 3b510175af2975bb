"""The relays' formats, served by small real servers."""

from __future__ import annotations

import dataclasses
import json
import threading

import pytest
from websockets.sync.server import serve

from livebot.messages import Chat, Control, Fansclub, Gift, Like, Member, Social, Stats, User
from livebot.moderation import Moderator, Outcome, Rules
from livebot.sources import Backoff, FeedOptions, FeedState
from livebot.sources.relays import BarrageGrabSource, DouyinLiveSource

WITHIN = 10.0  # seconds until a real wait of these tests counts as failed


@pytest.fixture
def relay():
    """Starts a server that sends these texts to each client, and collects what clients send."""
    running = []

    def relay(texts, *, then_close=None):
        received = []

        def handler(connection):
            for text in texts:
                connection.send(text)
            if then_close is not None:
                connection.close(*then_close)
            received.extend(connection)

        server = serve(handler, "127.0.0.1", 0)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        host, port = server.socket.getsockname()
        return f"ws://{host}:{port}/", received

    yield relay
    for server, thread in running:
        server.shutdown()
        thread.join(WITHIN)


def assert_every_message_has_one_fate(seen):
    assert sum(seen.received.values()) == (
        sum(seen.decoded.values())
        + seen.undelivered
        + sum(seen.shed.values())
        + sum(seen.unknown.values())
        + seen.duplicates
        + seen.unreadable
    )


def collect(source_type, url, state=FeedState.ENDED):
    """What a source makes of a relay until it reaches `state`."""
    events, reached = [], threading.Event()
    source = source_type(
        url,
        emit=events.append,
        on_state=lambda now, sentence: reached.set() if now is state else None,
        options=FeedOptions(backoff=Backoff(first=0.01, most=0.05)),
    )
    source.start()
    try:
        assert reached.wait(WITHIN), source.statistics()
    finally:
        source.stop()
    statistics = source.statistics()
    assert_every_message_has_one_fate(statistics)
    return events, statistics


def bare(event):
    return dataclasses.replace(event, received_at=0.0)


# -- DouyinBarrageGrab --------------------------------------------------------------------------

VIEWER = {
    "Id": 94412345678901234,
    "Nickname": "小鱼",
    "Level": 3,
    "PayLevel": 21,
    "Gender": 2,
    "FansClub": {"ClubName": "鱼塘", "Level": 9},
}
FISH = User(id="94412345678901234", name="小鱼", level=21, fan_level=9, fan_club="鱼塘", gender=2)


def grabbed(number, **facts):
    data = {"MsgId": 7_632_000_000_000_000_001 + number, "User": VIEWER, "RoomId": "1", **facts}
    return json.dumps({"Type": number, "ProcessName": "x", "Data": json.dumps(data)})


def test_every_type_of_barragegrab_makes_its_event(relay):
    url, sent_back = relay(
        [
            grabbed(1, Content="主播好"),
            grabbed(2, Count=5, Total=900),
            grabbed(3, CurrentCount=77),
            grabbed(4, Content="小鱼 关注了主播"),
            grabbed(5, GiftId=463, GiftName="小心心", GiftCount=2, RepeatCount=5, DiamondCount=1),
            grabbed(6, User=None, OnlineUserCount=88, TotalUserCount=999, TotalUserCountStr="999"),
            grabbed(7, Type=2, Level=1, Content="加入了粉丝团"),
            grabbed(8, ShareType=112),
            grabbed(9, User=None, Content="直播已结束"),
        ]
    )
    events, statistics = collect(BarrageGrabSource, url)
    first = 7_632_000_000_000_000_001
    assert [bare(event) for event in events] == [
        Chat(id=str(first + 1), user=FISH, text="主播好"),
        Like(id=str(first + 2), user=FISH, count=5, total=900),
        Member(id=str(first + 3), user=FISH, viewers=77),
        Social(id=str(first + 4), user=FISH, action="follow"),
        Gift(
            id=str(first + 5),
            user=FISH,
            gift_id="463",
            name="小心心",
            diamond_count=1,
            repeat_count=5,
            increment=2,
        ),
        Stats(id=str(first + 6), viewers=88, total_viewers=999, text="999"),
        Fansclub(id=str(first + 7), user=FISH, action="join", text="加入了粉丝团"),
        Social(id=str(first + 8), user=FISH, action="share", share_target="douyin"),
        Control(id=str(first + 9), action=3, ended=True, text="直播已结束"),
    ]
    assert statistics.malformed == 0
    assert sent_back == []  # any text could be a command that closes the relay


def test_increments_of_barragegrab_are_not_folded_a_second_time(relay):
    texts = [
        grabbed(5, MsgId=n, GiftId=1, GiftCount=added, RepeatCount=total)
        for n, (added, total) in enumerate([(1, 1), (4, 5), (2, 7)], 1)
    ]
    url, _ = relay([*texts, grabbed(9)])
    events, _ = collect(BarrageGrabSource, url)
    told = []
    judge = Moderator(Rules(cool_down=0), announce=told.append)
    outcomes = [judge.consider(event).outcome for event in events]
    judge.flush()
    assert outcomes == [Outcome.HOLD, Outcome.FOLD, Outcome.FOLD, Outcome.SKIP]
    assert [verdict.event.repeat_count for verdict in told] == [7]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        json.dumps({"Type": 1, "Data": {"Content": "x"}}),
        json.dumps({"Type": 1, "Data": "not json"}),
        json.dumps({"Type": 2, "Data": json.dumps({"Count": "many"})}),
        json.dumps({"Type": 2, "Data": '{"Count": 1e999}'}),
        json.dumps({"Type": 5, "Data": json.dumps({"DiamondCount": 10**400})}),
        json.dumps({"Type": 1, "Data": json.dumps({"User": {"Level": 2**63}})}),
        json.dumps({"Type": 1, "Data": json.dumps({"User": {"Level": [1]}})}),
    ],
)
def test_what_barragegrab_garbles_is_counted_and_skipped(relay, text):
    url, _ = relay([text, grabbed(9)])
    events, statistics = collect(BarrageGrabSource, url)
    assert [event.kind for event in events] == ["control"]
    assert statistics.malformed == 1
    assert statistics.last_malformed


def test_unknown_types_of_barragegrab_are_counted(relay):
    url, _ = relay([grabbed(0), json.dumps({"Type": "1"}), grabbed(42), grabbed(9)])
    _, statistics = collect(BarrageGrabSource, url)
    assert statistics.unknown == {"Type 0": 1, "Type 1": 1, "Type 42": 1}
    assert statistics.malformed == 0


def test_sparse_messages_of_barragegrab_make_sparse_events(relay):
    empty = [json.dumps({"Type": number, "Data": "{}"}) for number in range(1, 10)]
    url, _ = relay(empty)
    events, statistics = collect(BarrageGrabSource, url)
    assert len(events) == 9
    assert all(event.user is None for event in events)
    assert statistics.malformed == 0


# -- douyinLive ---------------------------------------------------------------------------------

ENDED = json.dumps(
    {"type": "system", "event": "live_status", "code": "ROOM_ENDED", "status": "ended"}
)


def passed_on(method, **fields):
    return json.dumps({"method": method, "livename": "x", "title": "y", **fields})


def test_messages_of_douyinlive_are_the_platforms_own(relay):
    user = {
        "id": "18446744073709551615",
        "nickname": "小鱼",
        "secUid": "MS4w",
        "payGrade": {"level": "21"},
        "fansClub": {"data": {"clubName": "鱼塘", "level": 9}},
        "gender": 2,
    }
    common = {"msgId": "7632000000000000001", "createTime": "1763900000123", "unheard": {"of": 1}}
    url, sent_back = relay(
        [
            passed_on("WebcastChatMessage", common=common, user=user, content="主播好"),
            passed_on(
                "WebcastGiftMessage",
                common={"msgId": "7632000000000000002"},
                user=user,
                giftId="463",
                repeatCount="3",
                comboCount="3",
                groupCount="1",
                groupId="18446744073709551614",
                repeatEnd=1,
                sendType="4",
                gift={"id": "463", "name": "小心心", "diamondCount": 1, "combo": True},
            ),
            passed_on("WebcastSocialMessage", common={"msgId": "3"}, user=user, action="1"),
            json.dumps({"common": {"method": "WebcastLikeMessage", "msgId": "4"}, "count": "2"}),
            ENDED,
        ]
    )
    events, statistics = collect(DouyinLiveSource, url)
    fish = User(
        id="18446744073709551615", name="小鱼", level=21, fan_level=9, fan_club="鱼塘", gender=2
    )
    assert [bare(event) for event in events] == [
        Chat(id="7632000000000000001", user=fish, text="主播好", sent_at=1763900000.123),
        Gift(
            id="7632000000000000002",
            user=fish,
            gift_id="463",
            name="小心心",
            diamond_count=1,
            repeat_count=3,
            combo_count=3,
            group_count=1,
            group_id="18446744073709551614",
            repeat_end=True,
            send_type=4,
            combo=True,
        ),
        Social(id="3", user=fish, action="follow"),
        Like(id="4", count=2),
        Control(id="0", action=3, ended=True, text="ROOM_ENDED"),
    ]
    assert statistics.malformed == 0
    assert sent_back == []


def test_repeats_of_douyinlive_are_delivered_once(relay):
    text = passed_on("WebcastChatMessage", common={"msgId": "5"}, content="x")
    url, _ = relay([text, text, ENDED])
    events, statistics = collect(DouyinLiveSource, url)
    assert [event.kind for event in events] == ["chat", "control"]
    assert statistics.duplicates == 1


@pytest.mark.parametrize("code", ["ROOM_ONLINE", "ROOM_OFFLINE", "ROOM_STATUS_UNKNOWN"])
def test_a_notice_that_is_not_the_end_does_not_end_the_feed(relay, code):
    notice = json.dumps({"type": "system", "event": "live_status", "code": code})
    url, _ = relay([notice, ENDED])
    events, _ = collect(DouyinLiveSource, url)
    assert [(event.text, event.ended) for event in events] == [(code, False), ("ROOM_ENDED", True)]


@pytest.mark.parametrize(
    "text",
    [
        "pong?",
        "null",
        "{}",
        passed_on("WebcastChatMessage", content=7),
        passed_on("WebcastGiftMessage", repeatCount="many"),
        passed_on("WebcastGiftMessage", groupId="-1"),
        passed_on("WebcastChatMessage", user={"id": str(2**64)}),
    ],
)
def test_what_douyinlive_garbles_is_counted_and_skipped(relay, text):
    url, _ = relay([text, ENDED])
    events, statistics = collect(DouyinLiveSource, url)
    assert [event.kind for event in events] == ["control"]
    assert statistics.malformed == 1


def test_unknown_methods_of_douyinlive_are_counted(relay):
    url, _ = relay([passed_on("WebcastDanceMessage"), ENDED])
    _, statistics = collect(DouyinLiveSource, url)
    assert statistics.unknown == {"WebcastDanceMessage": 1}


def test_a_room_that_does_not_exist_is_final(relay):
    url, _ = relay([], then_close=(1008, "room not found"))
    events, statistics = collect(DouyinLiveSource, url, FeedState.REFUSED)
    assert events == []
    assert statistics.connections == 1


def test_a_relay_that_fails_is_called_again(relay):
    url, _ = relay([], then_close=(1011, "upstream failed"))
    _, statistics = collect(DouyinLiveSource, url, FeedState.WAITING)
    assert statistics.connections == 1

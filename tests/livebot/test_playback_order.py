"""PlayOrder: strict sequence, gaps closed by failures, priorities among the ready."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from livebot.playback.order import PlayOrder


def taken(order):
    items = []
    while (item := order.pop()) is not None:
        items.append(item)
    return items


@given(st.permutations(range(8)), st.sets(st.integers(0, 7)))
def test_any_arrival_gives_the_same_order(arrival, failed):
    order, heard = PlayOrder(), []
    for seq in arrival:
        assert order.put(seq, None if seq in failed else seq, priority=0)
        heard += taken(order)
    assert heard == [seq for seq in range(8) if seq not in failed]
    assert (len(order), order.gap) == (0, None)


def test_a_missing_number_holds_up_what_comes_after_it():
    order = PlayOrder(first_seq=5)
    order.put(6, "b", priority=0)
    order.put(8, "d", priority=0)
    assert (order.pop(), order.gap, len(order)) == (None, 5, 2)
    assert order.skip_gap() == 1
    assert (taken(order), order.gap) == (["b"], 7)
    assert order.skip_gap() == 1
    assert (taken(order), order.gap) == (["d"], None)
    assert order.skip_gap() == 0


def test_a_number_comes_once_and_not_after_its_turn():
    order = PlayOrder()
    assert order.put(0, "a", priority=0)
    assert not order.put(0, "again", priority=0)
    assert order.put(2, "c", priority=0)
    assert not order.put(2, "again", priority=0)
    order.skip_gap()
    assert not order.put(1, "late", priority=0)
    assert taken(order) == ["a", "c"]


def test_the_more_urgent_goes_first_once_its_turn_has_come():
    order = PlayOrder()
    order.put(0, "low", priority=2)
    order.put(1, "high", priority=0)
    order.put(3, "highest, but 2 is missing", priority=-1)
    assert order.peek_priority() == 0
    assert taken(order) == ["high", "low"]
    order.put(2, None, priority=0)
    assert taken(order) == ["highest, but 2 is missing"]


def test_clear_gives_back_what_waits_and_keeps_the_turn_of_what_comes():
    order = PlayOrder()
    order.put(0, "a", priority=1)
    order.put(2, "c", priority=0)
    assert order.clear() == ["a", "c"]
    assert (len(order), order.pop()) == (0, None)
    order.put(1, "b", priority=0)
    order.put(3, "d", priority=0)
    assert taken(order) == ["b", "d"]

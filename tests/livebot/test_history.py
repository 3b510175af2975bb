import pytest

from livebot.history import History
from livebot.sources import FeedState
from threadkit import SizeChange


def test_samples_are_bounded_and_in_order():
    numbers = iter(range(1000))
    history = History(lambda: {"n": float(next(numbers))})
    for _ in range(1000):
        history.sample()
    seen = [sample.figures["n"] for sample in history.samples()]
    assert len(seen) == 450
    assert seen == [float(n) for n in range(550, 1000)]


def test_a_change_of_a_pool_is_kept_with_its_reason():
    history = History(dict)
    history.follow("tts")(SizeChange(at=1.0, before=1, after=2, reason="the queue grows"))
    [change] = history.pool_changes()
    assert (change.pool, change.before, change.after) == ("tts", 1, 2)
    assert change.reason == "the queue grows"


def test_states_of_the_feed_are_bounded():
    history = History(dict)
    for n in range(300):
        history.feed_changed(FeedState.WAITING, f"attempt {n}")
    assert [change.sentence for change in history.feed_changes()][-1] == "attempt 299"
    assert len(history.feed_changes()) == 100


class Ticks:
    """A context whose sleeps end at once, so many times."""

    def __init__(self, count):
        self.left = count
        self.slept = []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.left -= 1
        return self.left >= 0


def test_the_service_samples_at_its_period_until_it_is_stopped():
    history = History(dict, period=2.0)
    ticks = Ticks(3)
    history.run(ticks)
    assert len(history.samples()) == 3
    assert ticks.slept == [2.0] * 4


def test_one_failing_sample_is_not_hidden():
    def broken():
        raise RuntimeError("no figures")

    with pytest.raises(RuntimeError, match="no figures"):
        History(broken).run(Ticks(1))

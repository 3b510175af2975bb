"""Pace: faster when more waits, in few steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebot.playback import Pace


@given(st.lists(st.integers(0, 100), min_size=2))
def test_the_rate_rises_with_the_backlog_and_falls_back(backlogs):
    pace = Pace(rate=200, fastest=320, calm=2, full=12, steps=3)
    rates = [pace(waiting) for waiting in backlogs]
    by_backlog = [rate for _, rate in sorted(zip(backlogs, rates, strict=True))]
    assert by_backlog == sorted(rates)
    assert set(rates) <= {200, 240, 280, 320}
    assert pace(0) == pace(2) == 200
    assert pace(12) == 320


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 300, "fastest": 200}, "fastest must be at least rate=300, not 200"),
        ({"calm": 5, "full": 5}, "full must be above calm=5, not 5"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
    ],
)
def test_a_contradiction_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Pace(**settings)

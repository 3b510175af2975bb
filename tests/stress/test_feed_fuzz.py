"""Two hundred thousand broken frames: nothing but a counted, skipped frame may come of one."""

from __future__ import annotations

import importlib.util
import pathlib
import random

import pytest

from livebot.sources import DouyinSource
from livebot.sources.connection import FeedClosed

pytestmark = [pytest.mark.stress, pytest.mark.timeout(900)]


class Deaf:
    """A socket nobody reads from."""

    backlog_bytes = 0

    def reply(self, payload):
        pass


def load_mutations():
    path = pathlib.Path(__file__).parents[1] / "livebot" / "frame_mutations.py"
    spec = importlib.util.spec_from_file_location("frame_mutations", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", [1, 2])
def test_no_exception_leaves_the_decoder(seed):
    mutations = load_mutations()
    frames = mutations.real_frames()
    kinds = {"delivered": 0, "closed": 0}

    def emit(event):
        kinds["delivered"] += 1

    source = DouyinSource("ws://nowhere/", emit=emit)
    source._is_new = lambda _, batch: (
        True
    )  # the same frames again and again: dedupe would hide them
    for data in mutations.mutated(frames, random.Random(seed), 100_000):
        try:
            source._receive(data, Deaf())
        except FeedClosed:
            kinds["closed"] += 1
    statistics = source.statistics()
    assert statistics.malformed > 30_000
    assert kinds["delivered"] > 30_000
    assert sum(statistics.received.values()) >= kinds["delivered"]
    assert len(statistics.unknown) <= 65
    print(f"seed {seed}: {statistics.malformed} malformed, {kinds}")  # noqa: T201

"""Long hammers of the cache; run by `make stress`."""

from __future__ import annotations

import importlib.util
import random
import sys
import threading
from pathlib import Path

import pytest

from threadkit import TTLCache

pytestmark = pytest.mark.stress

WAIT = 120


def files_tests():
    path = Path(__file__).parent.parent / "threadkit" / "test_cache_files.py"
    spec = importlib.util.spec_from_file_location("test_cache_files", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(600)
def test_two_hundred_killed_writers_leave_nothing_torn(tmp_path):
    files_tests().kill_writers(tmp_path, 200)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("policy", ["lru", "s3fifo"])
@pytest.mark.parametrize("kind", ["plain", "weighed"])
def test_eight_threads_leave_a_consistent_cache(policy, kind):
    # lru-dict crashes with four
    removed = []
    weighed = kind == "weighed"
    cache = TTLCache(
        500,
        0.05,
        policy=policy,
        weigher=(lambda _key, _value: 1) if weighed else None,
        on_remove=(lambda *event: removed.append(event)) if weighed else None,
    )
    wrong, puts = [], [0] * 8

    def get(key, _number, _turn):
        value = cache.get(key)
        if value is not None and value[0] != key:
            wrong.append((key, value))

    def put(key, number, turn):
        cache.put(key, (key, number, turn))
        puts[number] += 1

    actions = {
        get: 700,
        put: 250,
        lambda key, *_: cache.pop(key, None): 30,
        lambda key, *_: cache.load(key, lambda key: (key, -1, -1)): 5,
        lambda *_: len(cache): 14,
        lambda *_: cache.clear(): 1,
    }

    def work(number):
        rnd = random.Random(number)
        chosen = rnd.choices(list(actions), list(actions.values()), k=60_000)
        for turn, action in enumerate(chosen):
            action(int(rnd.paretovariate(0.7)) % 3000, number, turn)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
            assert not thread.is_alive()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
    assert len(cache._entries) <= 500
    numbers = cache.statistics()
    if weighed:
        cache.clear()
        numbers = cache.statistics()
        gone = numbers.expired + numbers.evicted + numbers.replaced + numbers.deleted
        assert len(removed) == gone + numbers.cleared
        # Every value that went in came out; a load that a put or clear overtook never went in.
        assert sum(puts) <= len(removed) <= sum(puts) + numbers.loads
        assert numbers.weight == 0

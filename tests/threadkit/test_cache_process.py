"""The cache as part of a process: the shared sweeper, fork, collection, a peer's benchmark trap."""

from __future__ import annotations

import ast
import gc
import itertools
import math
import os
import subprocess
import sys
import textwrap
import threading
import weakref

import pytest

from threadkit import TTLCache
from threadkit._cache import _sweeper
from threadkit.testing import FakeClock, explore

WAIT = 30


def run_python(code):
    """Run `code` in a fresh interpreter; its output."""
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=WAIT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_sweeper_starts_with_the_first_entry_that_expires_and_is_shared():
    out = run_python(
        """
        import threading
        from threadkit import TTLCache
        def sweepers():
            return [t for t in threading.enumerate() if t.name == "threadkit-shared-sweeper"]
        caches = [TTLCache(10), TTLCache(10, 60), TTLCache(10, 60)]
        caches[0]["a"] = 1
        print(len(sweepers()))
        caches[1]["a"] = caches[2]["a"] = 1
        print(len(sweepers()), sweepers()[0].daemon)
        """
    )
    assert out.split() == ["0", "1", "True"]


def test_what_nobody_reads_is_dropped_and_told():
    told = threading.Event()
    heard = []

    def listen(*event):
        heard.append((*event, threading.current_thread().name))
        told.set()

    cache = TTLCache(10, 0.01, sweep_interval=0.01, on_remove=listen)
    cache["a"] = 1
    assert told.wait(WAIT)
    assert heard == [("a", 1, "expired", "threadkit-shared-sweeper")]
    assert cache.statistics().entries == 0


class Job:
    """Work for the sweeper that notes that it ran; what it raises it raises once.

    The sweeper is the process's and tries again: it would raise in the middle of other tests.
    """

    def __init__(self, outcome):
        self.outcome = outcome
        self.ran = threading.Event()

    def work(self):
        outcome, self.outcome = self.outcome, None
        self.ran.set()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


@pytest.mark.parametrize(
    "outcome", [RuntimeError("clock"), SystemExit(), KeyboardInterrupt(), 1e12, math.inf], ids=repr
)
def test_the_sweeper_outlives_whatever_one_cache_does(outcome, caplog):
    bad, good = Job(outcome), Job(None)
    _sweeper._shared.schedule(bad.work, 0)
    assert bad.ran.wait(WAIT)
    _sweeper._shared.schedule(good.work, 0)
    assert good.ran.wait(WAIT)
    assert ("sweeping a cache failed" in caplog.text) == isinstance(outcome, BaseException)


@pytest.mark.parametrize("delay", [1e12, math.inf])
def test_the_sweeper_waits_for_a_deadline_no_lock_can_wait_for(delay):
    far, good = Job(None), Job(None)
    _sweeper._shared.schedule(far.work, delay)
    _sweeper._shared.schedule(good.work, 0)
    assert good.ran.wait(WAIT)
    good.ran.clear()
    _sweeper._shared.schedule(good.work, 0)  # after it saw that `far` is far away
    assert good.ran.wait(WAIT)
    assert not far.ran.is_set()


def test_an_infinite_interval_means_no_sweeping(monkeypatch):
    monkeypatch.setattr(
        _sweeper.Sweeper, "schedule", lambda *_arguments: pytest.fail("was scheduled")
    )
    cache = TTLCache(10, 5, sweep_interval=math.inf)
    cache["a"] = 1
    assert cache["a"] == 1


def test_a_cache_without_deadlines_is_not_swept(monkeypatch):
    monkeypatch.setattr(
        _sweeper.Sweeper, "schedule", lambda *_arguments: pytest.fail("was scheduled")
    )
    cache = TTLCache(10)
    for number in range(20):
        cache[number] = number


def test_a_sweep_drops_a_slice_at_a_time():
    clock = FakeClock()
    cache = TTLCache(10_000, 5, sweep_interval=math.inf, clock=clock)
    for number in range(1000):
        cache[number] = number
    clock.advance(5)
    left = [1000]
    while cache._sweep() is not None:
        left.append(len(cache._entries))
    steps = [before - after for before, after in itertools.pairwise(left)]
    assert max(steps) <= 256
    assert not cache._entries
    assert cache.statistics().expired == 1000


def test_a_put_after_a_hundred_thousand_expiries_does_not_pay_for_them():
    # cachetools: 36 ms in one put
    clock = FakeClock()
    cache = TTLCache(200_000, 5, sweep_interval=math.inf, clock=clock)
    for number in range(100_000):
        cache[number] = number
    clock.advance(5)
    cache["new"] = 1
    assert cache.statistics().expired == 0  # it dropped none of them
    assert cache.statistics().entries == 100_001
    assert len(cache) == 1


def test_the_sweeper_keeps_no_cache_alive():
    cache = TTLCache(10, 1000)
    cache["a"] = 1
    gone = weakref.ref(cache)
    del cache
    gc.collect()
    assert gone() is None


def test_a_dropped_cache_releases_its_values_and_its_listener():
    class Thing:
        pass

    value, listener = Thing(), Thing()
    cache = TTLCache(10, 1000, on_remove=lambda *_event, it=listener: it)
    cache["a"] = value
    gone = [weakref.ref(value), weakref.ref(listener)]
    del cache, value, listener
    assert [reference() for reference in gone] == [None, None]


def test_when_no_thread_can_be_started_the_cache_works_without_a_sweeper():
    from threadkit.testing import SimRuntime

    def scenario(sim):
        sim.fail_thread_starts(1)
        cache = TTLCache(10, 5, runtime=sim)
        cache["a"] = 1
        sim.advance(5)
        assert cache.get("a") is None
        cache["b"] = 2
        assert cache["b"] == 2

    sim = SimRuntime(seed=1)
    sim.run(scenario, sim)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_at_any_moment_leaves_the_child_a_working_cache():
    out = run_python(
        """
        import os, threading, time
        from threadkit import TTLCache
        cache = TTLCache(100, 60, weigher=lambda k, v: 1)
        plain = TTLCache(100, 60, policy="s3fifo")
        for number in range(50):
            cache[number] = plain[number] = number
        stop = threading.Event()
        def work():
            number = 0
            while not stop.is_set():
                number += 1
                cache[number % 300] = plain[number % 300] = number
                cache.pop(number % 7, None)
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads: thread.start()
        def hold():
            with cache._held():
                held.set()
                stop.wait(20)
        held = threading.Event()
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait(20)   # the lock is held at the time of the fork
        def child():
            for number in range(1000, 1300):
                cache[number] = plain[number] = number
                assert cache[number] == plain[number] == number
            assert len(cache) == len(plain) == 100
            assert cache.statistics().weight == 100
            assert cache.load("x", str) == "x"
            assert any(t.name == "threadkit-shared-sweeper" for t in threading.enumerate())
        pids = []
        for _ in range(10):
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    child()
                    code = 0
                finally:
                    os._exit(code)
            pids.append(pid)
        codes = [os.waitpid(pid, 0)[1] for pid in pids]
        stop.set()
        for thread in [*threads, holder]: thread.join()
        print(codes)
        """
    )
    assert out.split("\n")[0] == str([0] * 10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_does_not_wait_for_the_loads_of_its_parent():
    out = run_python(
        """
        import os, threading
        from threadkit import TTLCache
        cache = TTLCache(10, 60)
        entered, opened = threading.Event(), threading.Event()
        def loader(key):
            entered.set()
            opened.wait(20)
            return "parent"
        thread = threading.Thread(target=lambda: cache.load("a", loader))
        thread.start()
        entered.wait(20)
        pid = os.fork()
        if not pid:
            os._exit(0 if cache.load("a", lambda key: "child", timeout=5) == "child" else 1)
        code = os.waitpid(pid, 0)[1]
        opened.set()
        thread.join()
        print(code, cache["a"])
        """
    )
    assert out.split() == ["0", "parent"]


def test_the_interpreter_ends_with_a_busy_sweeper():
    assert (
        run_python(
            """
            from threadkit import TTLCache
            caches = [TTLCache(1000, 0.001, sweep_interval=0.001) for _ in range(20)]
            for cache in caches:
                for number in range(100):
                    cache[number] = number
            print("end")
            """
        )
        == "end\n"
    )


def test_odometers_count_past_their_ring():
    from threadkit._cache._odometer import RING, Odometer

    odometer = Odometer()
    cog = odometer.start
    for count in range(3 * RING + 5):
        assert odometer.read(cog) == count
        cog = cog.next


def test_readings_of_a_clock_that_stands_still_have_an_order_and_keep_their_values():
    from threadkit._cache._clock import strict

    clock = FakeClock(5.0)
    reading = strict(clock)
    first, second = reading(), reading()
    clock.advance(1)
    third = reading()
    assert first < second < third
    assert third > second > first
    assert first <= second >= first
    assert first <= first >= first  # noqa: PLR0124 - reflexive
    assert not first < first  # noqa: PLR0124
    assert first == second == 5.0
    assert first + 10 == second + 10 == 15.0
    assert 5.0 <= second <= 5.0
    assert not second < 5.0
    assert sorted([third, second, first]) == [first, second, third]
    assert min(second, first) is first


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_can_wait_for_loads_although_the_graph_of_loads_was_locked_at_the_fork():
    out = run_python(
        """
        import os, threading
        from threadkit import TTLCache
        from threadkit._cache import _flights
        cache = TTLCache(10, 60)
        held, done = threading.Event(), threading.Event()
        def hold():
            with _flights._graph:
                held.set()
                done.wait(20)
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait(20)
        def child():
            entered, opened = threading.Event(), threading.Event()
            leader = threading.Thread(
                target=lambda: cache.load("a", lambda key: (entered.set(), opened.wait(20)))
            )
            leader.start()
            entered.wait(20)
            threading.Timer(0.1, opened.set).start()
            assert cache.load("a", str, timeout=20) == (None, True)
        pid = os.fork()
        if not pid:
            import signal
            signal.alarm(10)
            code = 1
            try:
                child()
                code = 0
            finally:
                os._exit(code)
        print(os.waitpid(pid, 0)[1])
        done.set()
        holder.join()
        """
    )
    assert out.split() == ["0"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_an_entry_that_was_half_removed_at_the_fork_is_gone_in_the_child():
    out = run_python(
        """
        import os
        from threadkit import TTLCache
        cache = TTLCache(10, 60)
        cache["a"] = cache["b"] = 1
        cache._entries["a"].kill()  # a thread of the parent was about to take the key out
        pid = os.fork()
        if not pid:
            cache["a"] = 2
            os._exit(0 if dict(cache) == {"a": 2, "b": 1} else 1)
        print(os.waitpid(pid, 0)[1])
        """
    )
    assert out.split() == ["0"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_between_a_put_and_its_eviction_leaves_the_child_no_surplus():
    out = run_python(
        """
        import os
        from threadkit import TTLCache
        from threadkit._cache._entry import Entry
        cache = TTLCache(2, 60)
        cache["a"] = cache["b"] = 1
        entry = Entry()   # a thread of the parent has just entered it
        entry.key, entry.value, entry.idle = "c", 1, None
        entry.touched_at = cache._clock()
        entry.fresh_until = entry.touched_at + 60
        cache._entries["c"] = entry
        pid = os.fork()
        if not pid:
            os._exit(0 if list(cache) == ["b", "c"] and len(cache) == 2 else 1)
        print(os.waitpid(pid, 0)[1])
        """
    )
    assert out.split() == ["0"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize(
    "arguments",
    ["", "on_remove=print", "weigher=lambda key, value: 1", "policy='s3fifo'"],
)
def test_a_fork_by_a_key_that_is_hashed_under_the_lock_leaves_both_a_working_cache(arguments):
    out = run_python(
        f"""
        import os, threading
        from threadkit import TTLCache
        class Key:
            hashes_until_fork, pid = 0, None
            def __hash__(self):
                self.hashes_until_fork -= 1
                if not self.hashes_until_fork:
                    self.pid = os.fork()
                return 1
        codes = []
        for at in range(1, 7):
            cache = TTLCache(2, 60, {arguments})
            key = Key()
            cache[key] = cache["a"] = 1
            key.hashes_until_fork = at
            cache["b"] = 2
            cache["c"] = 3
            cache[key] = 4
            cache.pop(key, None)
            cache["d"] = 5
            thread = threading.Thread(target=cache.put, args=("e", 6), daemon=True)
            thread.start()
            thread.join(10)
            works = not thread.is_alive() and cache["e"] == 6 and len(cache) == 2
            works = works and cache.statistics().weight == 2 and not cache._depth
            if key.pid == 0:
                os._exit(0 if works else 1)
            assert works
            if key.pid:
                codes.append(os.waitpid(key.pid, 0)[1])
        print(codes)
        """
    )
    codes = ast.literal_eval(out.splitlines()[-1])
    assert len(codes) >= 4
    assert not any(codes)


def test_a_short_lived_entry_is_swept_in_time_although_a_later_sweep_was_planned():
    def scenario(sim):
        heard = []
        cache = TTLCache(
            10, 3600, sweep_interval=0.5, runtime=sim, on_remove=lambda *event: heard.append(event)
        )
        cache["hour"] = 1
        cache.put("short", 2, ttl=5)
        cache.put("shorter", 3, ttl=2)
        sim.sleep(3)
        assert heard == [("shorter", 3, "expired")]
        sim.sleep(3)
        assert heard[1:] == [("short", 2, "expired")]
        sim.sleep(3600)
        assert heard[2:] == [("hour", 1, "expired")]
        assert not cache._entries

    explore(scenario, 20)


def test_sweeps_that_were_overtaken_by_earlier_ones_end():
    calls = []

    def scenario(sim):
        sweep = TTLCache._sweep

        class Counted(TTLCache):
            __slots__ = ()

            def _sweep(self):
                calls.append(sim.monotonic())
                return sweep(self)

        cache = Counted(100, 3600, sweep_interval=1, runtime=sim)
        for ttl in range(100, 10, -10):
            cache.put(ttl, ttl, ttl=ttl)
        sim.sleep(200)
        cache["again"] = 1
        before = len(calls)
        sim.sleep(10_000)
        assert len(calls) - before <= 4
        assert not cache._entries

    explore(scenario, 1)
    assert len(calls) < 40

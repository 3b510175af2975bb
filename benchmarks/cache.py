"""What does a cache cost: a hit, a miss, a put, in one thread and among four?

    python -m benchmarks.cache [--quick] [--json FILE] [--plot FILE] [--only METRIC]

Workload: 1,000 entries with a ttl of ten minutes, text keys. Every contender is asked the same
keys in the same order, by the very objects that were put (so that no time goes into comparing
text), and what it answers is checked.

| metric | what is measured |
|---|---|
| hit, miss | `get` of keys that are there, that are not |
| put-new | `put` of a new key into a full cache, so that each evicts one |
| overwrite | `put` of a key that is there |
| threads | four threads, 90 % `get`, 10 % `put`, keys by Zipf's law: operations of all together |
| p99 | the same, one operation in 100 takes longer than this |
| decorator | a call of a decorated function whose result is there |
| load | a key that is not there, through single flight |
| longest put | CPU time of the longest of 2,000 puts into 100,000 entries, all read before; |
| | with the collector off, which would stop any contender; and the first after all expired |
| memory | bytes an entry costs beyond its key and value |

The baseline is cachetools.TTLCache behind an RLock, as its documentation tells users to share it.
cachebox is written in Rust and evicts in order of insertion. theine counts in a sketch and has no
lock here beyond its own. "naive" is an OrderedDict behind an RLock. functools.lru_cache, which has
no expiry, competes in the decorators only. Each contender runs its loop in a code object of its
own, since CPython specialises code for the types it meets.
"""

from __future__ import annotations

import argparse
import bisect
import functools
import gc
import itertools
import random
import threading
import time
import tracemalloc
import types
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Protocol

import cachebox
import cachetools
from expiringdict import ExpiringDict
from theine import Cache as TheineCache

from benchmarks.harness import Benchmark, main
from threadkit import TTLCache, cached

SIZE = 1_000
LARGE = 100_000
TTL = 600.0
KEYS = [f"key {number}" for number in range(LARGE)]  # the objects that are put and asked for
BASELINE = "cachetools.TTLCache + RLock"


class Contender(Protocol):
    """What is asked of every cache."""

    def get(self, key: str) -> Any: ...
    def put(self, key: str, value: Any) -> None: ...


class Cachetools:
    """cachetools.TTLCache behind a lock."""

    def __init__(self, size: int, timer: Callable[[], float] = time.monotonic) -> None:
        self._cache: cachetools.TTLCache[str, Any] = cachetools.TTLCache(size, TTL, timer)
        self._lock = threading.RLock()

    def get(self, key: str) -> Any:
        with self._lock:
            return self._cache.get(key)

    def put(self, key: str, value: Any) -> None:
        with self._lock:
            self._cache[key] = value


class Naive:
    """An OrderedDict of value and deadline behind a lock: what people write themselves."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._data: OrderedDict[str, tuple[Any, float]] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: str) -> Any:
        with self._lock:
            found = self._data.get(key)
            if found is None:
                return None
            if found[1] <= time.monotonic():
                del self._data[key]
                return None
            self._data.move_to_end(key)
            return found[0]

    def put(self, key: str, value: Any) -> None:
        with self._lock:
            self._data[key] = (value, time.monotonic() + TTL)
            self._data.move_to_end(key)
            if len(self._data) > self._size:
                self._data.popitem(last=False)


class Theine:
    """theine's cache; a miss is a pair with False."""

    def __init__(self, size: int) -> None:
        self._cache: TheineCache[str, Any] = TheineCache(size)
        self._ttl = timedelta(seconds=TTL)

    def get(self, key: str) -> Any:
        return self._cache.get(key)[0]

    def put(self, key: str, value: Any) -> None:
        self._cache.set(key, value, self._ttl)


class Expiring:
    """expiringdict, which has a lock of its own."""

    def __init__(self, size: int) -> None:
        self._cache = ExpiringDict(max_len=size, max_age_seconds=TTL)
        self.get: Callable[[str], Any] = self._cache.get

    def put(self, key: str, value: Any) -> None:
        self._cache[key] = value


class Cachebox:
    """cachebox.TTLCache, called without anything between."""

    def __init__(self, size: int) -> None:
        cache: cachebox.TTLCache[str, Any] = cachebox.TTLCache(size, TTL)
        self.get: Callable[[str], Any] = cache.get
        self.put: Callable[[str, Any], Any] = cache.insert


def _ours(size: int, **options: Any) -> TTLCache[str, Any]:
    return TTLCache(size, TTL, **options)


CONTENDERS: dict[str, Callable[[int], Any]] = {
    BASELINE: Cachetools,
    "threadkit": _ours,
    "threadkit:listening": lambda size: _ours(size, on_remove=lambda *_event: None),
    "threadkit:s3fifo": lambda size: _ours(size, policy="s3fifo"),
    "cachebox.TTLCache": Cachebox,
    "theine": Theine,
    "expiringdict": Expiring,
    "naive": Naive,
}


# -- one thread -----------------------------------------------------------------------------


def _reads(cache: Contender, keys: Sequence[str]) -> float:
    started = time.perf_counter()
    for key in keys:
        cache.get(key)
    took = time.perf_counter() - started
    found = sum(cache.get(key) == key for key in keys)
    assert found in {0, len(keys)}
    return took / len(keys) * 1e9


def _puts(cache: Contender, keys: Sequence[str]) -> float:
    started = time.perf_counter()
    for key in keys:
        cache.put(key, key)
    return (time.perf_counter() - started) / len(keys) * 1e9


def _own(function: Callable[..., float]) -> Callable[..., float]:
    """A copy with a code object of its own, and with it inline caches of its own."""
    assert isinstance(function, types.FunctionType)
    return types.FunctionType(function.__code__.replace(), function.__globals__)


def _filled(make: Callable[[int], Any], size: int = SIZE) -> Any:
    cache = make(size)
    for key in KEYS[:size]:
        cache.put(key, key)
    assert cache.get("key 5") == "key 5"
    return cache


def _add_single_thread(bench: Benchmark, times: int) -> None:
    keys = KEYS[:SIZE] * (times // SIZE)
    random.Random(1).shuffle(keys)
    absent = [f"no {number}" for number in range(times)]
    rounds = itertools.count()

    def fresh() -> list[str]:
        start = next(rounds)
        return [f"new {start} {number}" for number in range(times)]

    for name, make in CONTENDERS.items():
        cache, reads, misses, puts, overs = (
            _filled(make),
            *map(_own, (_reads, _reads, _puts, _puts)),
        )
        bench.add(name, "hit", functools.partial(reads, cache, keys), unit="ns")
        bench.add(name, "miss", functools.partial(misses, cache, absent), unit="ns")
        bench.add(name, "overwrite", functools.partial(overs, cache, keys), unit="ns")
        full = _filled(make)

        def put_new(puts: Any = puts, full: Any = full) -> float:
            new = fresh()
            cost: float = puts(full, new)
            assert full.get(new[-1]) == new[-1]
            assert full.get(new[0]) is None
            return cost

        bench.add(name, "put-new", put_new, unit="ns")


# -- four threads ---------------------------------------------------------------------------


def _zipf(count: int, seed: int, universe: int = 2 * SIZE) -> list[str]:
    weights = list(itertools.accumulate(1 / rank for rank in range(1, universe + 1)))
    rnd = random.Random(seed)
    draws = (rnd.random() * weights[-1] for _ in range(count))
    return [KEYS[bisect.bisect_left(weights, draw)] for draw in draws]


def _work(cache: Contender, keys: Sequence[str], start: threading.Barrier) -> None:
    start.wait()
    for turn, key in enumerate(keys):
        if turn % 10:
            cache.get(key)
        else:
            cache.put(key, key)


def _timed_work(
    cache: Contender, keys: Sequence[str], start: threading.Barrier, took: list[float]
) -> None:
    clock = time.perf_counter
    start.wait()
    for turn, key in enumerate(keys):
        began = clock()
        if turn % 10:
            cache.get(key)
        else:
            cache.put(key, key)
        took.append(clock() - began)


def _together(workers: Sequence[Callable[[threading.Barrier], object]]) -> float:
    start = threading.Barrier(len(workers) + 1)
    threads = [threading.Thread(target=worker, args=(start,)) for worker in workers]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def _add_threads(bench: Benchmark, times: int) -> None:
    streams = [_zipf(times, seed) for seed in range(4)]
    for name, make in CONTENDERS.items():
        cache = _filled(make)
        work, timed = _own(_work), _own(_timed_work)

        def throughput(cache: Any = cache, work: Any = work) -> float:
            took = _together(
                [lambda start, keys=keys: work(cache, keys, start) for keys in streams]
            )
            return 4 * times / took / 1e6

        def p99(cache: Any = cache, timed: Any = timed) -> float:
            took: list[list[float]] = [[] for _ in streams]
            _together(
                [
                    lambda start, keys=keys, own=own: timed(cache, keys, start, own)
                    for keys, own in zip(streams, took, strict=True)
                ]
            )
            return sorted(itertools.chain(*took))[int(0.99 * 4 * times)] * 1e6

        bench.add(name, "threads", throughput, unit="Mops/s", workload="90/10 Zipf")
        bench.add(name, "p99", p99, unit="us", workload="90/10 Zipf, 4 threads")


# -- decorators and loads ---------------------------------------------------------------------


def _double(value: int) -> int:
    return 2 * value


def _calls(function: Callable[[int], int], times: int) -> float:
    started = time.perf_counter()
    for value in range(times):
        function(value % SIZE)
    took = time.perf_counter() - started
    assert function(7) == 14
    return took / times * 1e9


def _add_decorators(bench: Benchmark, times: int) -> None:
    store: cachetools.TTLCache[Any, int] = cachetools.TTLCache(SIZE, TTL)
    contenders: dict[str, Callable[[int], int]] = {
        BASELINE: cachetools.cached(store, lock=threading.RLock())(_double),
        "threadkit": cached(TTLCache[Any, int](SIZE, TTL))(_double),
        "cachebox.TTLCache": cachebox.cached(cachebox.TTLCache(SIZE, TTL))(_double),
        "functools.lru_cache": functools.lru_cache(SIZE)(_double),
    }
    for name, function in contenders.items():
        calls = functools.partial(_own(_calls), function, times)
        bench.add(name, "decorator", calls, unit="ns")


def _add_loads(bench: Benchmark, times: int) -> None:
    lock = threading.RLock()
    condition = threading.Condition(lock)
    rounds = itertools.count()

    def baseline() -> float:
        store: cachetools.TTLCache[Any, int] = cachetools.TTLCache(SIZE, TTL)
        load = cachetools.cached(store, lock=lock, condition=condition)(_double)
        return _each(load)

    def ours() -> float:
        cache: TTLCache[int, int] = TTLCache(SIZE, TTL)
        return _each(lambda key: cache.load(key, _double))

    def _each(load: Callable[[int], int]) -> float:
        first = next(rounds) * times
        started = time.perf_counter()
        for key in range(first, first + times):
            assert load(key) == 2 * key
        return (time.perf_counter() - started) / times * 1e9

    bench.add(BASELINE, "load", baseline, unit="ns", workload="single flight")
    bench.add("threadkit", "load", ours, unit="ns", workload="single flight")


# -- pauses and memory --------------------------------------------------------------------------


def _longest_put(make: Callable[[int], Any], size: int, puts: int) -> float:
    cache = _filled(make, size)
    for number in random.Random(2).sample(range(size), size):
        cache.get(KEYS[number])
    new = [f"new {number}" for number in range(puts)]
    gc.collect()
    gc.disable()
    try:
        longest = 0.0
        for key in new:
            began = time.thread_time()  # so that other processes do not count
            cache.put(key, key)
            longest = max(longest, time.thread_time() - began)
    finally:
        gc.enable()
    assert cache.get(new[-1]) == new[-1]
    return longest * 1e3


def _put_after_expiry(make: Callable[..., Any], size: int) -> float:
    now = [0.0]
    cache = make(2 * size, lambda: now[0])
    for number in range(size):
        cache.put(f"key {number}", number)
    now[0] += 2 * TTL
    began = time.perf_counter()
    cache.put("new", 1)
    took = time.perf_counter() - began
    assert cache.get("key 5") is None
    return took * 1e3


def _bytes_per_entry(make: Callable[[int], Any], size: int) -> float:
    keys = [f"key {number}" for number in range(size)]
    gc.collect()
    tracemalloc.start()
    try:
        cache = make(size)
        before, _ = tracemalloc.get_traced_memory()
        for key in keys:
            cache.put(key, key)
            cache.get(key)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cache.get(keys[0]) == keys[0]
    return (after - before) / size


def _add_pauses(bench: Benchmark, size: int) -> None:
    names = [BASELINE, "threadkit", "threadkit:s3fifo", "cachebox.TTLCache", "naive"]
    workload = f"{size:,} entries, all read"
    for name in names:
        run = functools.partial(_longest_put, CONTENDERS[name], size, 2_000)
        bench.add(name, "longest put", run, unit="ms", workload=workload)
    timed: dict[str, Callable[..., Any]] = {
        BASELINE: Cachetools,
        "threadkit": lambda size, clock: _ours(size, clock=clock),
    }
    for name, make in timed.items():
        run = functools.partial(_put_after_expiry, make, size)
        bench.add(name, "longest put", run, unit="ms", workload=f"{size:,} entries, all expired")


def _add_memory(bench: Benchmark) -> None:
    for name, make in CONTENDERS.items():
        if name in {"cachebox.TTLCache", "theine"}:
            continue  # what Rust and numpy allocate is not traced
        run = functools.partial(_bytes_per_entry, make, 10_000)
        bench.add(name, "memory", run, unit="bytes", workload="an entry of 10,000")


def build(options: argparse.Namespace) -> Benchmark:
    """The cases, by the command line."""
    bench = Benchmark(
        "cache",
        baseline=BASELINE,
        packages=("cachetools", "cachebox", "theine", "expiringdict"),
    )
    quick = options.quick
    _add_single_thread(bench, 5_000 if quick else 20_000)
    _add_decorators(bench, 5_000 if quick else 20_000)
    _add_loads(bench, 1_000 if quick else 5_000)
    _add_threads(bench, 5_000 if quick else 20_000)
    _add_pauses(bench, 20_000 if quick else LARGE)
    _add_memory(bench)
    return bench


if __name__ == "__main__":
    main(build)

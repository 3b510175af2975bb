"""`cached`, and the cache under cachetools' own decorators and keys."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import cachetools
import pytest
from cachetools import keys

from threadkit import LoadCycle, TTLCache, cached

WAIT = 10


def test_a_function_runs_once_for_equal_arguments():
    calls = []

    @cached(TTLCache(10, 60))
    def add(left, right=1, *rest, scale=1):
        """Adds."""
        calls.append((left, right))
        return (left + right + sum(rest)) * scale

    assert [add(1, 2), add(1, 2), add(1, 2, scale=2), add(1), add(1, 2, 3)] == [3, 3, 6, 2, 6]
    assert len(calls) == 4
    assert (add.__name__, add.__doc__, add.__wrapped__(5)) == ("add", "Adds.", 6)
    assert add.cache.statistics().hits == 1
    assert add.cache_key is keys.hashkey
    del add.cache[add.cache_key(1, 2)]
    assert add(1, 2) == 3
    assert calls.count((1, 2)) == 4


def test_any_key_function_will_do():
    @cached(TTLCache(10), key=keys.typedkey)
    def kind(value):
        return type(value).__name__

    assert (kind(1), kind(1.0)) == ("int", "float")

    @cached(TTLCache(10), key=lambda value: value.casefold())
    def shout(value):
        return value

    assert (shout("a"), shout("A")) == ("a", "a")


def test_none_is_remembered():
    calls = []

    @cached(TTLCache(10))
    def nothing():
        calls.append(1)

    assert (nothing(), nothing()) == (None, None)
    assert calls == [1]


def test_of_many_threads_one_runs_the_function():
    calls = []
    together = threading.Barrier(5, timeout=WAIT)

    @cached(TTLCache(10))
    def slow(value):
        calls.append(value)
        return value

    def call():
        together.wait()
        results.append(slow(1))

    results = []
    threads = [threading.Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert (results, calls) == ([1] * 5, [1])


def test_errors_are_raised_and_not_remembered():
    calls = []

    @cached(TTLCache(10))
    def fail():
        calls.append(1)
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            fail()
    assert len(calls) == 2


def test_recursion_with_other_arguments_works_and_with_the_same_raises():
    @cached(TTLCache(100))
    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(30) == 832040

    @cached(TTLCache(100))
    def forever(n):
        return forever(n)

    with pytest.raises(LoadCycle):
        forever(1)


def test_a_method_with_a_shared_cache_tells_instances_apart():
    class Room:
        @cached(TTLCache(10))
        def identity(self, suffix):
            return f"{id(self)} {suffix}"

    one, other = Room(), Room()
    assert one.identity("x") == f"{id(one)} x"
    assert other.identity("x") == f"{id(other)} x"


def test_a_method_with_a_cache_in_each_instance_keeps_no_instance_alive():
    calls = []

    class Room:
        def __init__(self, *, caching=True):
            self.cache = TTLCache(10) if caching else None

        __hash__ = None  # the instance is no part of the key

        @cached(lambda self: self.cache)
        def greet(self, name):
            calls.append(name)
            return f"{name}!"

    room = Room()
    assert [room.greet("Ann"), room.greet("Ann"), room.greet(name="Ann")] == ["Ann!"] * 3
    assert calls == ["Ann", "Ann"]
    off = Room(caching=False)
    assert [off.greet("Bob"), off.greet("Bob")] == ["Bob!"] * 2
    assert calls == ["Ann", "Ann", "Bob", "Bob"]
    gone = weakref.ref(room)
    del room
    gc.collect()
    assert gone() is None


def test_coroutines_share_one_run():
    calls = []

    class Room:
        def __init__(self):
            self.cache = TTLCache(10)

        @cached(lambda self: self.cache)
        async def greet(self, name):
            calls.append(name)
            await asyncio.sleep(0)
            return f"{name}!"

    @cached(TTLCache(10))
    async def double(value):
        calls.append(value)
        await asyncio.sleep(0)
        return 2 * value

    async def main():
        room = Room()
        both = await asyncio.gather(
            *(double(2) for _ in range(3)), *(room.greet("a") for _ in range(3))
        )
        room.cache = None
        return both, await room.greet("b")

    assert asyncio.run(main()) == ([4] * 3 + ["a!"] * 3, "b!")
    assert calls == [2, "a", "b"]
    assert asyncio.iscoroutinefunction(double)


@pytest.mark.parametrize("bad", [None, 5, {}])
def test_bad_arguments_are_named(bad):
    with pytest.raises(TypeError, match="cache"):
        cached(bad)
    with pytest.raises(TypeError, match="key"):
        cached(TTLCache(10), key=5)


# -- cachetools ---------------------------------------------------------------------------------


@pytest.mark.parametrize("info", [False, True])
@pytest.mark.parametrize("lock", [None, threading.RLock()])
def test_cachetools_cached_accepts_the_cache(info, lock):
    calls = []

    @cachetools.cached(TTLCache(2, 60), lock=lock, info=info)
    def double(value):
        calls.append(value)
        return 2 * value

    assert [double(1), double(1), double(2), double(3), double(1)] == [2, 2, 4, 6, 2]
    assert calls == [1, 2, 3, 1]
    assert len(double.cache) == 2
    if info:
        assert double.cache_info()[:2] == (1, 4)
        assert double.cache_info().currsize == 2
    double.cache_clear()
    assert not double.cache


def test_cachetools_cached_lives_with_a_value_that_is_too_heavy():
    @cachetools.cached(TTLCache(10, weigher=lambda _key, value: value))
    def identity(value):
        return value

    assert [identity(11), identity(11), identity(5)] == [11, 11, 5]


def test_cachetools_cachedmethod_accepts_the_cache():
    class Room:
        def __init__(self):
            self.cache = TTLCache(10, 60)
            self.calls = 0

        @cachetools.cachedmethod(lambda self: self.cache)
        def greet(self, name):
            self.calls += 1
            return f"{name}!"

    room = Room()
    assert [room.greet("a"), room.greet("a")] == ["a!", "a!"]
    assert room.calls == 1


def test_the_cache_takes_the_place_of_cachetools_ttlcache():
    for cache in (TTLCache(3, 60), cachetools.TTLCache(3, 60)):
        cache.update(a=1, b=2, c=3)
        cache["a"]
        cache["d"] = 4
        assert sorted(cache) == ["a", "c", "d"]
        assert (cache.maxsize, cache.currsize, cache.ttl) == (3, 3, 60)
        assert cache.pop("a") == 1
        assert cache.setdefault("e", 5) == 5
        assert cache.popitem()[0] == "c"

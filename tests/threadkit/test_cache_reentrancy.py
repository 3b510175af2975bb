"""User code that uses the cache from inside the cache never hangs it and never breaks it."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading

import pytest

from threadkit import FileTier, LoadCycle, TieredCache, TTLCache

WAIT = 10
POLICIES = pytest.mark.parametrize("policy", ["lru", "s3fifo"])


def within_time(call):
    """Run `call` in a thread, and fail instead of hanging."""
    errors = []

    def run():
        try:
            call()
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WAIT)
    assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]


def check(cache):
    """What holds whatever happened: the numbers agree with what is there."""
    entries = list(cache._entries.values())
    assert len(entries) <= cache.maxsize
    if cache._weigher is not None:
        assert cache.statistics().weight == pytest.approx(sum(entry.weight for entry in entries))
    assert all(cache._entries[entry.key] is entry for entry in entries)
    assert cache._depth == 0
    for number in range(200):  # and it goes on working
        cache[("after", number)] = 1
        assert cache[("after", number)] == 1


def use(cache, turn):
    """One of everything, in turn."""
    key = ("inner", turn % 7)
    operations = [
        lambda: cache.put(key, turn),
        lambda: cache.get(key),
        lambda: cache.pop(key, None),
        lambda: cache.load(key, lambda _key: turn),
        lambda: cache.setdefault(key, turn),
        lambda: len(cache),
        lambda: list(cache),
        cache.statistics,
        lambda: cache.invalidate_if(lambda k, _value: k == key),
        lambda: cache.touch(key),
        lambda: cache.resize(5 + turn % 3),
        lambda: cache.coldest(2),
        cache.clear,
    ]
    operations[turn % len(operations)]()


class Keys:
    """Keys of one hash bucket whose `__eq__` and `__hash__` use the cache."""

    def __init__(self, cache, *, in_eq, in_hash):
        self.cache, self.in_eq, self.in_hash = cache, in_eq, in_hash
        self.turn = 0
        self.inside = False

    def disturb(self, enabled):
        if enabled and not self.inside:
            self.inside = True
            self.turn += 1
            try:
                use(self.cache, self.turn)
            finally:
                self.inside = False

    def key(self, number):
        keys = self

        class Key:
            def __hash__(self):
                keys.disturb(keys.in_hash)
                return 5

            def __eq__(self, other):
                keys.disturb(keys.in_eq)
                return getattr(other, "number", None) == number

        key = Key()
        key.number = number
        return key


@POLICIES
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize(("in_eq", "in_hash"), [(True, False), (False, True), (True, True)])
def test_keys_that_use_the_cache_when_compared_or_hashed(policy, weighed, in_eq, in_hash):
    # cachebox deadlocks
    def scenario():
        cache = TTLCache(
            6,
            60,
            policy=policy,
            weigher=(lambda _key, _value: 1) if weighed else None,
        )
        keys = Keys(cache, in_eq=in_eq, in_hash=in_hash)
        for turn in range(400):
            key = keys.key(turn % 9)
            cache.put(key, turn)
            cache.get(keys.key(turn % 5))
            cache.load(keys.key(turn % 4), lambda _key: 1)
            cache.pop(keys.key(turn % 3), None)
        keys.in_eq = keys.in_hash = False
        cache.resize(6)
        check(cache)

    within_time(scenario)


@POLICIES
def test_values_whose_finalizer_uses_the_cache(policy):
    # cachebox deadlocks
    def scenario():
        cache = TTLCache(6, 60, policy=policy, weigher=lambda _key, _value: 1)
        turns = iter(range(10_000))
        freed = []

        class Value:
            def __del__(self):
                freed.append(1)
                use(cache, next(turns))

        for turn in range(300):
            cache.put(turn % 9, Value())
            cache.pop(turn % 4, None)
            if turn % 50 == 0:
                cache.clear()
        cache.clear()
        gc.collect()
        assert len(freed) == 300
        cache.resize(6)
        check(cache)

    within_time(scenario)


def test_a_finalizer_that_waits_for_a_thread_that_uses_the_cache():
    """Values are freed outside the lock: else the other thread would wait for it for ever."""

    def scenario():
        cache = TTLCache(2, 60)

        class Value:
            def __del__(self):
                thread = threading.Thread(target=lambda: cache.put("x", 1))
                thread.start()
                thread.join(WAIT)
                done.append(not thread.is_alive())

        done = []
        for turn in range(10):
            cache[turn] = Value()
        cache[9] = 1
        cache.pop(8, None)
        cache.put(9, Value())
        cache.clear()
        assert len(done) == 11
        assert all(done)

    within_time(scenario)


@POLICIES
def test_a_finalizer_run_by_the_collector_inside_a_critical_section(policy):
    """Each allocation may run the collector. A plain lock deadlocks here (seen on 3.11)."""

    def scenario():
        cache = TTLCache(6, 60, policy=policy, weigher=lambda _key, _value: 1)
        turns = iter(range(10**9))
        runs = []

        class Loop:
            def __init__(self):
                self.itself = self

            def __del__(self):
                if not done:
                    runs.append(1)
                    use(cache, next(turns))

        done = []
        threshold = gc.get_threshold()
        gc.set_threshold(1, 2, 2)
        try:
            for turn in range(1500):
                Loop()
                cache.put(turn % 9, turn)
                cache.get(turn % 5)
                cache.load(turn % 7, lambda _key: [1])
                cache.pop(turn % 4, None)
        finally:
            gc.set_threshold(*threshold)
        done.append(1)
        gc.collect()
        assert len(runs) > 100
        cache.resize(6)
        check(cache)

    within_time(scenario)


@POLICIES
def test_a_call_at_every_line_of_the_cache(policy):
    """What a signal handler or the collector may do anywhere, done everywhere once."""

    def scenario():
        from threadkit._cache import _holding, _lru, _s3fifo, _store, _ttl

        files = {module.__file__ for module in (_holding, _lru, _s3fifo, _store, _ttl)}
        cache = TTLCache(6, 60, policy=policy, weigher=lambda _key, _value: 1)
        state = {"inside": False, "lines": set()}
        draw = random.Random(1)  # in turn, a put that starts again could meet each `clear`

        def trace(frame, event, _argument):
            if frame.f_code.co_filename not in files:
                return None
            if event == "line" and not state["inside"]:
                state["inside"] = True
                state["lines"].add((frame.f_code.co_filename, frame.f_lineno))
                try:
                    use(cache, draw.randrange(10_000))
                finally:
                    state["inside"] = False
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            for turn in range(250):
                cache.put(turn % 9, turn)
                cache.get(turn % 5)
                cache.pop(turn % 4, None)
                cache.load(turn % 7, lambda _key: 1)
        finally:
            sys.settrace(before)
        assert len(state["lines"]) > 60
        cache.resize(6)
        check(cache)

    within_time(scenario)


def test_a_plain_put_interrupted_at_every_line():
    def scenario():
        from threadkit._cache import _ttl

        code = TTLCache.put.__code__
        cache = TTLCache(6, 60)
        state = {"turn": 0, "inside": False}

        def trace(frame, event, _argument):
            if frame.f_code is not code:
                return None
            if event == "line" and not state["inside"]:
                state["inside"] = True
                state["turn"] += 1
                try:
                    use(cache, state["turn"])
                finally:
                    state["inside"] = False
            return trace

        assert _ttl.__file__ == code.co_filename
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            for turn in range(600):
                cache.put(turn % 17, turn)
        finally:
            sys.settrace(before)
        assert state["turn"] > 5000
        cache.resize(6)
        check(cache)

    within_time(scenario)


def test_a_weigher_a_loader_a_predicate_and_a_listener_that_use_the_cache():
    def scenario():
        turns = iter(range(10**9))
        depth, stop = [], []

        def disturb(*_arguments):
            if len(depth) < 2 and not stop:
                depth.append(1)
                try:
                    use(cache, next(turns))
                finally:
                    depth.pop()
            return 1

        cache = TTLCache(6, 60, weigher=disturb, on_remove=disturb)
        for turn in range(300):
            cache.put(turn % 9, turn)
            if turn % 3 == 0:
                cache.load(("loaded", turn), disturb)
            cache.invalidate_if(lambda key, _value: disturb() and key == 3)
        stop.append(1)
        cache.resize(6)
        check(cache)

    within_time(scenario)


def test_a_listener_that_puts_for_each_removal_does_not_hang_the_caller():
    """Each put evicts, each eviction is heard, each hearing puts: this has no end of itself."""

    def scenario():
        heard = []

        def listen(key, _value, _cause):
            heard.append(key)
            if not stop:
                cache.put(len(heard) + 1_000_000, 1)

        stop = []
        cache = TTLCache(3, on_remove=listen)
        for number in range(4):
            cache[number] = 1  # returns, and the sweeper tells on
        stop.append(1)
        cache.clear()
        deadline = threading.Event()
        while (cache._removed or cache._announcer._telling) and not deadline.wait(0.01):
            pass
        numbers = cache.statistics()
        assert len(heard) == numbers.evicted + numbers.cleared
        assert len(heard) == len(set(heard))

    within_time(scenario)


def test_an_eq_that_raises_leaves_the_cache_usable():
    class Bad:
        def __hash__(self):
            return 5

        def __eq__(self, other):
            raise RuntimeError("no")

    cache = TTLCache(4, 60)
    cache[Bad()] = 1
    for call in (
        lambda: cache.put(Bad(), 1),
        lambda: cache.get(Bad()),
        lambda: cache.load(Bad(), str),
        lambda: cache.pop(Bad()),
    ):
        with pytest.raises(RuntimeError, match="no"):
            call()
    assert not cache._flights
    cache.clear()
    check(cache)


@pytest.mark.parametrize("operation", ["get", "put", "load", "peek", "touch", "setdefault", "pop"])
def test_a_finalizer_that_removes_the_key_at_every_line_of_an_operation_on_it(operation):
    """What is found may be gone at the next line: the operation begins anew, it does not fail."""
    from threadkit._cache import _boarding, _holding, _loading, _store, _ttl

    parts = (_boarding, _holding, _loading, _store, _ttl)
    files = {module.__file__ for module in parts}
    calls = {
        "get": lambda cache: cache.get("k", "gone"),
        "put": lambda cache: cache.put("k", "put"),
        "load": lambda cache: cache.load("k", lambda _key: "loaded"),
        "peek": lambda cache: cache.peek("k", "gone"),
        "touch": lambda cache: cache.touch("k"),
        "setdefault": lambda cache: cache.setdefault("k", "default"),
        "pop": lambda cache: cache.pop("k", "gone"),
    }

    def interrupted_at(line):
        """The result when the key goes before the `line`-th line; None once there are no more."""
        now = [0.0]
        cache = TTLCache(10, 100, idle=5, clock=lambda: now[0])
        cache["k"] = "value"
        now[0] = 3.0
        cache.get("k")
        now[0] = 6.0  # past `fresh_until`, but not idle for so long
        seen = []

        def trace(frame, event, _argument):
            if frame.f_code.co_filename not in files:
                return None
            if event == "line":
                seen.append(1)
                if len(seen) == line:
                    cache.pop("k", None)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            result = calls[operation](cache)
        finally:
            sys.settrace(before)
        check(cache)
        return result if len(seen) >= line else "no more lines"

    results = []
    while "no more lines" not in results:
        results.append(interrupted_at(len(results) + 1))
    assert len(results) > 4
    possible = {"value", "gone", "loaded", "default", None, True, False, "no more lines"}
    assert set(results) <= possible


def test_clear_inside_a_locked_frame_tells_the_listener_after_the_lock_is_free():
    """`__eq__` runs under the lock and clears: the listener waits until the lock is released."""
    free = []

    def heard(_key, _value, _cause):
        thread = threading.Thread(target=lambda: (cache.statistics(), free.append(1)))
        thread.start()
        thread.join(WAIT)
        assert not thread.is_alive()

    class Key:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            if armed:
                armed.clear()
                cache.clear()
            return self is other

    armed = []
    cache = TTLCache(10, on_remove=heard)

    def scenario():
        cache[Key()] = "old"
        armed.append(1)
        cache[Key()] = "new"

    within_time(scenario)
    assert free == [1]
    assert cache.statistics().cleared == 1


def test_a_key_whose_hash_fails_later_does_not_kill_its_entry_when_it_is_evicted():
    class Key:
        is_bad = False

        def __hash__(self):
            if self.is_bad:
                raise RuntimeError("hash")
            return 1

    cache = TTLCache(2, 60)
    cache["x"] = cache["y"] = cache["z"] = 1  # full: what comes takes the place of the oldest
    key = Key()
    cache[key] = "value"
    cache["b"] = cache["b"] = 1
    key.is_bad = True
    with pytest.raises(RuntimeError, match="hash"):
        cache["c"] = 1
    key.is_bad = False
    assert cache.peek(key) == "value"
    cache["d"] = 1
    assert len(cache._entries) <= 2  # the one that was owed went too
    cache["e"] = 1
    check(cache)


def test_a_key_that_loads_itself_while_its_load_begins_is_told_of_the_cycle():
    class Key:
        hashes = 0
        trigger = 0

        def __hash__(self):
            self.hashes += 1
            if self.hashes == self.trigger:
                with pytest.raises(LoadCycle):
                    cache.load(self, lambda _key: "inner")
                met.append(self.trigger)
            return 1

    met = []
    for at in (4, 5):  # when its flight is on the board, and before its loader is called
        cache = TTLCache(10, 60)
        key = Key()
        key.trigger = at
        loads = threading.Thread(target=cache.load, args=(key, lambda _key: "outer"), daemon=True)
        loads.start()
        loads.join(5)
        assert not loads.is_alive()
        assert cache.peek(key) == "outer"
    assert met


KINDS = {
    "plain": {},
    "listening": {"on_remove": lambda _key, _value, _cause: None},
    "weighed": {"weigher": lambda _key, _value: 1},
    "s3fifo": {"policy": "s3fifo"},
    "s3fifo weighed": {"policy": "s3fifo", "weigher": lambda _key, _value: 1},
}


class Trigger:
    """A key that runs `action` when it is hashed for the `at`-th time from now on."""

    def __init__(self):
        self.at = 0
        self.action = None

    def __hash__(self):
        self.at -= 1
        if self.at == 0:
            self.action()
        return 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("of", ["victim", "newcomer"])
def test_a_key_that_puts_another_while_room_is_made_for_it(kind, size, of):
    """With a size of 1 there is nothing left to evict but what is being evicted."""

    def scenario():
        met = []
        for at in range(1, 9):
            cache = TTLCache(size, 60, **KINDS[kind])
            key = Trigger()
            key.action = lambda cache=cache, at=at: (met.append(at), cache.put("in", 1))
            if of == "victim":
                cache[key] = 1
            for number in range(size - (of == "victim")):
                cache[number] = 1
            key.at = at
            cache["b" if of == "victim" else key] = 2
            key.at = 0
            assert len(cache) <= size
            check(cache)
        assert 1 in met

    within_time(scenario)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 3])
def test_keys_that_put_another_of_their_kind_whenever_they_are_evicted_keep_no_put_for_ever(
    kind, size
):
    def scenario():
        cache = TTLCache(size, 60, **KINDS[kind])
        bred = []

        def breed():
            key = Trigger()
            key.action = breed
            cache[key] = 1
            key.at = 1
            bred.append(key)

        breed()
        for number in range(20):
            cache[number] = number
        for key in bred:
            key.at = 0
        assert len(cache) <= size
        check(cache)

    within_time(scenario)


# -- user code under a lock loads what another thread is loading ---------------------------------


class Elsewhere:
    """A load of "b" that another thread is in the middle of, until `finish`."""

    def __init__(self, cache):
        self.entered, self.opened = threading.Event(), threading.Event()
        self.result = []
        self.thread = threading.Thread(target=lambda: self.result.append(cache.load("b", self)))
        self.thread.start()
        assert self.entered.wait(WAIT)

    def __call__(self, _key):
        self.entered.set()
        assert self.opened.wait(WAIT)
        return b"theirs"

    def finish(self):
        self.opened.set()
        self.thread.join(WAIT)
        assert not self.thread.is_alive()
        assert self.result == [b"theirs"]


def on_a_loop(cache):
    async def loader(_key):
        await asyncio.sleep(0)
        return b"ours"

    return asyncio.run(cache.aload("b", loader))


LOADS = {
    "load": lambda cache: cache.load("b", lambda _key: b"ours"),
    "load_many": lambda cache: cache.load_many("b", lambda keys: dict.fromkeys(keys, b"ours"))["b"],
    "aload": on_a_loop,
}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_a_key_that_loads_under_the_lock_what_another_thread_loads_gets_a_value_of_its_own(load):
    """That thread needs the lock to land, so to wait for it would be for ever."""
    cache = TTLCache(10, 60)
    other = Elsewhere(cache)
    got = []

    def action():
        assert cache._depth
        threading.Timer(0.05, other.opened.set).start()  # in vain, if we wait for it
        got.append(load(cache))

    key = Trigger()
    key.action = action
    key.at = 1
    within_time(lambda: cache.pop(key, None))
    assert got == [b"ours"]
    other.finish()
    assert cache["b"] == b"theirs"
    assert cache.statistics().loads == 2
    assert cache.load("b", pytest.fail) == b"theirs"


def test_what_is_loaded_under_the_lock_in_a_circle_is_told_so():
    cache = TTLCache(10, 60)
    other = Elsewhere(cache)
    errors = []

    def action():
        def loader(_key):
            return cache.load("b", loader)

        with pytest.raises(LoadCycle) as info:
            cache.load("b", loader)
        errors.append(info.value)
        with pytest.raises(LoadCycle):
            cache.load_many("b", lambda keys: cache.load_many(keys, pytest.fail))

    key = Trigger()
    key.action = action
    key.at = 1
    within_time(lambda: cache.pop(key, None))
    assert errors[0].keys == ("b", "b")
    other.finish()
    check(cache)


def test_a_key_of_one_cache_that_loads_from_another_whose_loader_needs_the_first():
    first, second = TTLCache(10, 60), TTLCache(10, 60)
    entered, opened = threading.Event(), threading.Event()

    def loader(_key):
        entered.set()
        assert opened.wait(WAIT)
        first.pop("x", None)  # takes the lock that the key's `__hash__` runs under
        return "theirs"

    thread = threading.Thread(target=lambda: second.load("b", loader))
    thread.start()
    assert entered.wait(WAIT)
    got = []

    def action():
        opened.set()
        got.append(second.load("b", lambda _key: "ours"))

    key = Trigger()
    key.action = action
    key.at = 1
    within_time(lambda: first.pop(key, None))
    thread.join(WAIT)
    assert not thread.is_alive()
    assert got in (["ours"], ["theirs"])  # theirs if it landed before we asked
    assert second["b"] == "theirs"


@pytest.mark.parametrize("where", ["memory", "tiers", "files", "file counts", "graph"])
def test_a_finalizer_that_loads_inside_any_lock_of_the_cache(where, tmp_path):
    from threadkit._cache import _flights

    memory = TTLCache(10, 60)
    files = FileTier(tmp_path, max_bytes=1000)
    tiers = TieredCache(memory, files)
    other = Elsewhere(tiers)
    locks = {
        "memory": memory._lock,
        "tiers": tiers._lock,
        "files": files._lock,
        "file counts": files._counting,
        "graph": _flights._graph,
    }
    got = []

    def scenario():
        with locks[where]:  # as when the collector runs there
            got.append(tiers.load("b", lambda _key: b"ours"))
        other.finish()

    within_time(scenario)
    assert got == [b"ours"]
    assert memory["b"] == b"theirs"
    assert files.get("b") in (b"ours", b"theirs")  # both were loaded at the same time


def test_a_finalizer_that_loads_at_every_line_of_a_wait_for_the_same_key():
    """An event that all who wait share has a lock of its own, which is not re-entrant."""
    lines = []

    def one(at):
        cache = TTLCache(10, 60)
        other = Elsewhere(cache)
        seen = []
        got = []

        def trace(frame, event, _argument):
            if event == "line" and frame.f_code.co_filename != __file__:
                seen.append((frame.f_code.co_filename, frame.f_lineno))
                if len(seen) == at:
                    sys.settrace(None)
                    frame.f_trace = None
                    threading.Timer(0.01, other.opened.set).start()
                    got.append(cache.load("b", lambda _key: b"theirs"))
            return trace

        def wait():
            sys.settrace(trace)
            try:
                got.append(cache.load("b", pytest.fail))
            finally:
                sys.settrace(None)

        lines.append((other, cache))
        within_time(wait)
        other.finish()
        assert set(got) == {b"theirs"}
        return len(got) == 2

    at = 1
    while at < 70 and one(at):  # as long as it waits, it runs no line: the other thread ends it
        at += 1


def test_what_was_deleted_does_not_come_back_by_a_put_that_evicts_its_key():
    """The put takes the key of its victim out of the dict, and with it what was put meanwhile."""

    class Key:
        def __init__(self, name):
            self.name = name
            self.to_do = []

        def __hash__(self):
            while self.to_do:
                self.to_do.pop()()
            return hash(self.name)

        def __eq__(self, other):
            return self.name == other.name

    cache = TTLCache(2)
    oldest, again = Key("b"), Key("b")
    for key in (Key("a"), oldest, Key("c")):
        cache[key] = "first"

    def put_again():
        cache[again] = "again"
        again.to_do.append(lambda: cache.pop(Key("b"), None))

    oldest.to_do.append(put_again)
    cache[Key("d")] = "first"
    assert not oldest.to_do  # it was evicted
    assert Key("b") not in cache
    numbers = cache.statistics()
    assert numbers.evicted + numbers.deleted + numbers.entries == 5

"""Schedules of bounded and paused pools, of coroutines and of those who look at a pool.

See test_pool_schedules.py.
"""

from __future__ import annotations

import asyncio

from pool_rig import PREEMPT, outcome, pool_of, settle, submits_until_closed
from scenarios import Scenarios
from sim_threads import together
from threadkit import (
    Rejected,
)

SCENARIOS = Scenarios(PREEMPT)
scenario = SCENARIOS.add


# -- bounded queues ------------------------------------------------------------------------


def submit_all(pool, ran, futures, names):
    """Submit one task for each name; what is refused is written down as such."""
    for name in names:
        try:
            futures[name] = pool.submit(ran.append, name)
        except Rejected:
            futures[name] = None


def check_each_ended_once(ran, futures):
    """What was accepted ran once or was dropped with its reason; nothing else ran."""
    ends = {name: outcome(future) for name, future in futures.items() if future is not None}
    assert sorted(ran) == sorted(name for name, end in ends.items() if end is None)
    assert set(ends.values()) <= {None, "Rejected"}
    return ends


@scenario
def blocked_submitters_are_let_in(sim):
    """With the rule to block, every task is accepted and runs, and the bound holds."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=1) as pool:

        def submit(name):
            for n in range(2):
                submit_all(pool, ran, futures, [name + str(n)])
                assert sum(pool.statistics().queued) <= 1

        together(sim, lambda: submit("a"), lambda: submit("b"), lambda: submit("c"))
        check_each_ended_once(ran, futures)
        assert len(ran) == 6
        pool.shutdown()
        settle(pool)


@scenario
def room_against_the_end_of_patience(sim):
    """A submitter whose patience ends just when room comes is refused, or its task runs."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=1, overflow_timeout=1) as pool:
        pool.submit(sim.sleep, 1)
        sim.sleep(0)
        names = ["a", "b", "c"]
        together(sim, *[lambda n=name: submit_all(pool, ran, futures, [n]) for name in names])
        check_each_ended_once(ran, futures)
        pool.shutdown()
        books = settle(pool)
        assert books.rejected == list(futures.values()).count(None)


@scenario
def blocked_submitters_against_shutdown(sim):
    """They are told that the pool is closed, or their task runs."""
    ran, accepted = [], {}
    with pool_of(sim, 1, queue_limit=1) as pool:
        submit = submits_until_closed(pool, ran, accepted)
        together(sim, submit, pool.shutdown)
        assert all(future.done() for future in accepted.values())
        assert sorted(ran) == sorted(accepted)


@scenario
def a_task_that_submits_to_its_own_full_pool(sim):
    """A worker that waits for room in its own queue does not stop the queue."""
    ran = []
    with pool_of(sim, 1, queue_limit=1) as pool:

        def outer():
            return [pool.submit(ran.append, n) for n in range(3)]

        for future in outcome(pool.submit(outer)):
            outcome(future)
    assert ran == [0, 1, 2]


@scenario
def reject_against_claim(sim):
    """Accepted tasks run, rejected ones do not, and the books know both."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=1, overflow="reject") as pool:
        together(
            sim,
            lambda: submit_all(pool, ran, futures, "abc"),
            lambda: submit_all(pool, ran, futures, "xyz"),
        )
        assert set(check_each_ended_once(ran, futures).values()) <= {None}
        pool.shutdown()
        assert settle(pool).rejected == list(futures.values()).count(None)


@scenario
def drop_oldest_against_claim(sim):
    """A task is dropped or claimed, never both, and the newest is never refused."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=1, overflow="drop_oldest") as pool:
        submit_all(pool, ran, futures, "abcd")
        ends = check_each_ended_once(ran, futures)
        assert None not in futures.values()
        assert ends["d"] is None
        pool.shutdown()
        assert settle(pool).dropped == list(ends.values()).count("Rejected")


@scenario
def drop_oldest_from_two_submitters(sim):
    """Two that make room at once drop different tasks, and the bound holds."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=2, overflow="drop_oldest") as pool:

        def submit(names):
            submit_all(pool, ran, futures, names)
            assert sum(pool.statistics().queued) <= 2

        together(sim, lambda: submit("abc"), lambda: submit("xyz"))
        ends = check_each_ended_once(ran, futures)
        pool.shutdown()
        assert settle(pool).dropped == list(ends.values()).count("Rejected")


@scenario
def drop_lowest_against_claim(sim):
    """The important ones run; what gives way is the least important, once."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=2, overflow="drop_lowest", levels=2) as pool:
        low = pool.with_options(priority=1)
        together(
            sim,
            lambda: submit_all(low, ran, futures, "abc"),
            lambda: submit_all(pool, ran, futures, "XY"),
        )
        ends = check_each_ended_once(ran, futures)
        assert all(futures[name] is not None for name in "X")
        pool.shutdown()
        books = settle(pool)
        assert books.dropped == list(ends.values()).count("Rejected")


@scenario
def caller_runs_what_finds_no_room(sim):
    """Every task runs once, on a worker or on its submitter."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=1, overflow="caller_runs") as pool:
        together(
            sim,
            lambda: submit_all(pool, ran, futures, "abc"),
            lambda: submit_all(pool, ran, futures, "xyz"),
        )
        check_each_ended_once(ran, futures)
        assert sorted(ran) == sorted("abcxyz")
        pool.shutdown()
        settle(pool)


@scenario
def superseded_against_claim(sim):
    """Of tasks with one key the last one runs; an older one ran before it, or was dropped."""
    ran, futures = [], {}
    with pool_of(sim, 1) as pool:
        keyed = pool.with_options(key="k")
        together(
            sim,
            lambda: submit_all(keyed, ran, futures, "abc"),
            lambda: submit_all(keyed, ran, futures, "xy"),
        )
        ends = check_each_ended_once(ran, futures)
        assert ran[-1] in "cy"
        pool.shutdown()
        assert settle(pool).superseded == list(ends.values()).count("Rejected")


@scenario
def a_newer_key_against_one_whose_submitter_waits(sim):
    """Where submitters block, the one that came last is the one that runs."""
    ran = []
    with pool_of(sim, 1, queue_limit=1) as pool:
        gate = sim.event()
        holder = pool.submit(gate.wait)
        sim.sleep(0)
        filler = pool.submit(int)
        keyed = pool.with_options(key="k")
        futures = {}

        def submit(name, at):
            sim.sleep(at)
            futures[name] = keyed.submit(ran.append, name)

        def open_up():
            sim.sleep(3)
            filler.cancel()  # room, for one of them
            sim.sleep(1)
            gate.set()

        together(sim, lambda: submit("old", 1), lambda: submit("new", 2), open_up)
        ends = {name: outcome(future) for name, future in futures.items()}
        assert ends["new"] is None
        assert ran[-1] == "new"
        assert ends["old"] == ("Rejected" if ran == ["new"] else None)
        outcome(holder)
        pool.shutdown()
        assert settle(pool).superseded == (ends["old"] == "Rejected")


@scenario
def keys_whose_submitters_lose_patience(sim):
    """A submit is refused, superseded, or its task runs; the last accepted one runs last."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=1, overflow_timeout=1) as pool:
        pool.submit(sim.sleep, 1)
        pool.submit(sim.sleep, 1)
        keyed = pool.with_options(key="k")
        names = ["a", "b", "c"]
        together(sim, *[lambda n=name: submit_all(keyed, ran, futures, [n]) for name in names])
        ends = check_each_ended_once(ran, futures)
        pool.shutdown()
        books = settle(pool)
        assert books.rejected == list(futures.values()).count(None)
        assert books.superseded == list(ends.values()).count("Rejected")


# -- pauses --------------------------------------------------------------------------------


@scenario
def pause_against_submit(sim):
    """Once a pause has settled no task begins; after resume all of them run, in their order."""
    ran = []
    with pool_of(sim, 1) as pool:
        futures = []

        def submit():
            futures.extend(pool.submit(ran.append, n) for n in range(3))

        together(sim, submit, pool.pause)
        sim.sleep(1)
        begun = len(ran)
        futures.append(pool.submit(ran.append, 3))
        sim.sleep(1)
        assert len(ran) == begun
        pool.resume()
        for future in futures:
            outcome(future)
    assert ran == [0, 1, 2, 3]


@scenario
def pause_and_resume_against_submit(sim):
    """Pauses lose nothing and keep nobody waiting once they are over."""
    ran = []
    with pool_of(sim, 2, levels=2) as pool:
        futures = []

        def submit():
            futures.extend(pool.submit(ran.append, n) for n in range(3))

        def stutter():
            for _ in range(2):
                pool.pause()
                pool.resume()

        together(sim, submit, stutter)
        for future in futures:
            outcome(future)
    assert sorted(ran) == [0, 1, 2]


@scenario
def shutdown_of_a_paused_pool(sim):
    """It lets the tasks go that were held."""
    ran = []
    with pool_of(sim, 1) as pool:
        pool.pause()
        futures = [pool.submit(ran.append, n) for n in range(2)]
        together(sim, pool.shutdown, pool.pause)
        pool.resume()
        for future in futures:
            outcome(future)
    assert ran == [0, 1]


@scenario
def drain_against_submit(sim):
    """Drained means that what was accepted has ended; what comes later is refused."""
    ran, accepted = [], {}
    with pool_of(sim, 2) as pool:

        def drain():
            assert pool.drain(1000)
            assert all(future.done() for future in accepted.copy().values())

        together(sim, submits_until_closed(pool, ran, accepted), drain)
        assert sorted(ran) == sorted(accepted)
        pool.resume()
        assert outcome(pool.submit(int, "3")) == 3


# -- coroutines ----------------------------------------------------------------------------


@scenario
def cancelled_run_against_claim(sim):
    """Cancelling `await pool.run(...)` cancels the task if it still waits; it runs or does not."""
    ran = []
    with pool_of(sim, 1) as pool:

        async def main():
            task = asyncio.ensure_future(run())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            return task.cancelled()

        async def run():
            return await pool.run(ran.append, 1)

        sim.run_async(main())
        pool.shutdown()
        assert len(ran) + pool.statistics().cancelled == 1


@scenario
def coroutines_wait_for_room(sim):
    """Coroutines that wait for room are let in one by one; a cancelled one gives its turn away."""
    ran = []
    with pool_of(sim, 1, queue_limit=1) as pool:

        async def run(name):
            await pool.run(ran.append, name)

        async def main():
            tasks = [asyncio.ensure_future(run(name)) for name in "abcd"]
            await asyncio.sleep(0)
            tasks[2].cancel()
            await asyncio.wait(tasks)
            return [name for name, task in zip("abcd", tasks, strict=True) if not task.cancelled()]

        finished = sim.run_async(main())
        assert finished in (list("abd"), list("abcd"))
        pool.shutdown()
        assert set(finished) <= set(ran)
        assert len(set(ran)) == len(ran)


# -- looking -------------------------------------------------------------------------------


@scenario
def wait_idle_against_submit(sim):
    """When wait_idle says yes, what was submitted before has ended."""
    with pool_of(sim, 2) as pool:
        futures = [pool.submit(sim.sleep, 0) for _ in range(3)]
        more = []

        def wait():
            assert pool.wait_idle(1000)
            assert all(future.done() for future in futures)

        together(sim, wait, lambda: more.append(pool.submit(int)))
        assert outcome(more[0]) == 0


@scenario
def statistics_while_things_change(sim):
    """The books never show more ended than submitted, and are balanced at the end."""
    with pool_of(sim, 2) as pool:

        def look():
            for _ in range(3):
                books = pool.statistics()
                ended = books.completed + books.failed + books.cancelled
                assert 0 <= ended <= 3
                assert 0 <= books.busy <= books.alive <= 3

        def submit():
            futures = [pool.submit(int) for _ in range(3)]
            futures[2].cancel()
            for future in futures:
                outcome(future)

        together(sim, look, submit)
        pool.shutdown()
        assert settle(pool).submitted == 3


test_under_many_schedules = SCENARIOS.test()

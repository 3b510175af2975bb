"""An instance that was replaced can neither put into its queues nor go on unnoticed."""

import asyncio
import contextlib

import pytest

from threadkit import (
    Backoff,
    ComponentManager,
    DynamicThreadPool,
    Intensity,
    MessageQueue,
    QueueFull,
    Superseded,
)
from threadkit.testing import explore


class Hanging:
    """Every instance hangs in stop until the end; keeps its context and its queue."""

    def __init__(self, sim, queue, instances):
        self.sim, self.queue, self.instances = sim, queue, instances

    def start(self, ctx):
        self.ctx, self.fenced = ctx, ctx.queue(self.queue)
        self.instances.append(self)

    def stop(self, ctx):
        self.sim.sleep(1000)


def replaced(sim, queue):
    """A manager, an instance that was replaced, and its successor."""
    instances = []
    manager = ComponentManager(intensity=Intensity(9), runtime=sim)
    manager.add(
        "part", lambda: Hanging(sim, queue, instances), stop_timeout=5, backoff=Backoff(0, 0)
    )
    manager.start()
    instances[0].ctx.fail(ValueError("crash"))
    sim.sleep(6)
    assert manager.wait_ready("part", timeout=60)
    return manager, *instances


def test_a_replaced_instance_can_put_nothing_and_its_successor_can():
    def scenario(sim):
        queue = MessageQueue(runtime=sim)
        manager, old, new = replaced(sim, queue)
        for put in (old.fenced.put, old.fenced.put_nowait):
            with pytest.raises(Superseded) as raised:
                put("stale")
            assert (raised.value.generation, raised.value.current) == (1, 2)
        with pytest.raises(Superseded):
            old.ctx.check()
        with pytest.raises(Superseded):
            old.ctx.beat()
        assert old.ctx.stopping
        assert not old.ctx.sleep(1)
        new.fenced.put("fresh")
        new.ctx.check()
        assert queue.get() == "fresh"
        assert len(queue) == 0
        manager.stop(timeout=1)

    explore(scenario, 20)


def test_a_put_that_waits_when_its_instance_is_replaced_puts_nothing():
    def scenario(sim):
        queue = MessageQueue(maxsize=1, runtime=sim)
        queue.put("full")
        instances, outcome = [], []
        manager = ComponentManager(intensity=Intensity(9), runtime=sim)
        manager.add(
            "part", lambda: Hanging(sim, queue, instances), stop_timeout=5, backoff=Backoff(0, 0)
        )
        manager.start()
        old = instances[0]

        def put_late():
            try:
                old.fenced.put("stale")
            except Superseded:
                outcome.append("superseded")

        putter = sim.thread(put_late)
        putter.start()
        successor = sim.thread(queue.put, args=("fresh",))
        sim.sleep(1)
        successor.start()
        old.ctx.fail(ValueError("crash"))
        sim.sleep(10)
        assert queue.get() == "full"
        assert queue.get(timeout=10) == "fresh"  # the room was passed on
        putter.join()
        successor.join()
        assert outcome == ["superseded"]
        assert len(queue) == 0
        manager.stop(timeout=1)

    explore(scenario, 60)


def test_a_coroutine_that_waits_for_room_when_its_instance_is_replaced_puts_nothing():
    contexts = []

    class Part:
        def start(self, ctx):
            contexts.append(ctx)

        def stop(self, ctx):
            pass

    async def main():
        texts = MessageQueue(maxsize=1)
        manager = ComponentManager()
        manager.add("part", Part())
        with manager:
            ctx = contexts[-1]
            fenced = ctx.queue(texts)
            await fenced.aput("first", 1, ttl=60)
            with pytest.raises(QueueFull):
                await fenced.aput("too many", timeout=0)
            waits = asyncio.create_task(fenced.aput("stale"))
            await asyncio.sleep(0)  # it stands in line
            successor = asyncio.create_task(texts.aput("fresh"))
            await asyncio.sleep(0)
            assert texts.statistics().blocked_puts == 2
            assert manager.restart("part", timeout=10)
            with pytest.raises(Superseded):  # though the queue is full still
                await asyncio.wait_for(waits, 10)
            assert texts.get(timeout=10) == "first"
            await asyncio.wait_for(successor, 10)
            assert texts.get(timeout=10) == "fresh"
            with pytest.raises(Superseded):
                await fenced.aput("late")
            await contexts[-1].queue(texts).aput("of the new one")
            assert texts.get(timeout=10) == "of the new one"

    asyncio.run(main())


def test_a_put_that_waits_is_let_go_though_the_queue_stays_full():
    def scenario(sim):
        queue = MessageQueue(maxsize=1, runtime=sim)
        queue.put("full")
        instances, outcome = [], []
        manager = ComponentManager(intensity=Intensity(9), runtime=sim)
        manager.add(
            "part", lambda: Hanging(sim, queue, instances), stop_timeout=5, backoff=Backoff(0, 0)
        )
        manager.start()

        def put_late():
            with pytest.raises(Superseded):
                instances[0].fenced.put("stale", timeout=500)
            outcome.append(sim.monotonic())

        putter = sim.thread(put_late)
        putter.start()
        sim.sleep(5 * sim.seed % 7)  # it may stand in line, or be about to
        instances[0].ctx.fail(ValueError("crash"))
        putter.join()
        assert outcome[0] <= 15
        assert queue.get_nowait() == "full"
        assert queue.statistics().blocked_puts == 0
        manager.stop(timeout=1)

    explore(scenario, 60, preempt=["threadkit._components._fences"])


def test_nothing_of_the_old_one_comes_behind_what_the_new_one_puts():
    """Not even from a thread that is held up between its look at the fence and the queue."""
    seen = set()

    def scenario(sim):
        queue = MessageQueue(runtime=sim)
        contexts = []

        class Putting:
            def start(self, ctx):
                contexts.append(ctx)
                ctx.queue(queue).put(f"of {ctx.generation}")

            def stop(self, ctx):
                pass

        manager = ComponentManager(intensity=Intensity(9), runtime=sim)
        manager.add("part", Putting, backoff=Backoff(0, 0))
        manager.start()

        def go_on_putting():
            with contextlib.suppress(Superseded):
                for _ in range(4):
                    contexts[0].queue(queue).put("of 1")

        putter = sim.thread(go_on_putting)
        putter.start()
        manager.restart("part", timeout=60)
        putter.join()
        items = []
        while len(queue):
            items.append(queue.get())
        assert items == sorted(items)
        assert items[-1] == "of 2"
        seen.add(len(items))
        manager.stop(timeout=1)

    explore(scenario, 200, preempt=["threadkit._components._fences", "threadkit._queues"])
    assert len(seen) > 1


def test_the_fenced_end_puts_like_the_queue_itself():
    def scenario(sim):
        queue = MessageQueue(levels=2, maxsize=2, overflow="reject", runtime=sim)
        manager = ComponentManager(runtime=sim)
        ends = []
        manager.service("part", lambda ctx: ends.append(ctx.queue(queue)) or ctx.wait_stopping())
        with manager:
            sim.sleep(1)
            ends[0].put("b", 1)
            ends[0].put_nowait("a", 0, key="k")
            with pytest.raises(QueueFull):
                ends[0].put("c")
            assert [queue.get(), queue.get()] == ["a", "b"]

    explore(scenario, 10)


def test_a_service_that_finds_out_it_was_replaced_is_no_failure():
    def scenario(sim):
        endings = []

        def work(ctx):
            try:
                while True:
                    sim.sleep(20)  # deaf to ctx.stopping
                    ctx.check()
            except Superseded:
                endings.append(ctx.generation)
                raise

        manager = ComponentManager(intensity=Intensity(9), runtime=sim)
        manager.service("deaf", work, stop_timeout=5)
        manager.start()
        assert manager.restart("deaf", timeout=60)
        sim.sleep(50)
        assert endings == [1]
        (part,) = manager.report().components
        assert part.generation == 2
        manager.stop(timeout=1)
        sim.sleep(50)

    explore(scenario, 20)


# -- work and promises ------------------------------------------------------------------------


def hanging(sim, instances):
    """A running manager whose part hangs in stop for 1,000 s, and is replaced after 5."""
    manager = ComponentManager(intensity=Intensity(9), runtime=sim)
    manager.add(
        "part",
        lambda: Hanging(sim, MessageQueue(runtime=sim), instances),
        stop_timeout=5,
        backoff=Backoff(0, 0),
    )
    manager.start()
    return manager


def test_a_replaced_instance_completes_no_work_of_a_pool():
    """Neither what waits for a worker, nor what runs, nor what it submits afterwards."""

    def scenario(sim):
        ran, instances = [], []

        def work(name, seconds=0):
            ran.append(name)
            sim.sleep(seconds)
            return name

        with DynamicThreadPool(max_workers=1, runtime=sim) as pool:
            manager = hanging(sim, instances)
            fence = instances[0].ctx.pool(pool)
            urgent = instances[0].ctx.pool(pool.with_options(label="urgent"))
            running, waiting = fence.submit(work, "running", 8), fence.submit(work, "waiting")
            sim.sleep(1)
            instances[0].ctx.fail(ValueError("crash"))
            sim.sleep(6)
            assert manager.wait_ready("part", timeout=60)
            fresh = instances[1].ctx.pool(pool).submit(work, "fresh")
            assert fresh.result() == "fresh"
            for future in (running, waiting):
                assert isinstance(future.exception(), Superseded)
            for late in (fence, urgent):
                with pytest.raises(Superseded):
                    late.submit(work, "late")
            assert ran == ["running", "fresh"]
            manager.stop(timeout=1)

    explore(scenario, 20)


def test_a_fenced_function_is_itself_until_its_instance_is_replaced():
    def scenario(sim):
        manager, old, new = replaced(sim, MessageQueue(runtime=sim))

        def twice(number, *, plus=0):
            """Doubles."""
            return 2 * number + plus

        assert new.ctx.fence(twice)(4, plus=1) == 9
        assert (new.ctx.fence(twice).__name__, new.ctx.fence(twice).__doc__) == (
            "twice",
            "Doubles.",
        )
        with pytest.raises(Superseded):
            old.ctx.fence(twice)(4)
        manager.stop(timeout=1)

    explore(scenario, 5)


def test_a_replaced_instance_completes_no_future_and_nobody_waits_for_it():
    def scenario(sim):
        instances, heard = [], []
        manager = hanging(sim, instances)
        ctx = instances[0].ctx
        kept, broken, cancelled = (ctx.future() for _ in range(3))
        kept.set_result("in time")
        cancelled.cancel()
        broken.add_done_callback(lambda future: sim.sleep(1000))
        waiter = sim.thread(lambda: heard.append(type(broken.exception())))
        waiter.start()
        ctx.fail(ValueError("crash"))
        sim.sleep(6)
        assert manager.wait_ready("part", timeout=60)  # a callback that hangs holds up nobody
        waiter.join()
        assert heard == [Superseded]
        assert kept.result() == "in time"
        for future in (kept, broken, cancelled):
            with pytest.raises(Superseded):
                future.set_result("stale")
            with pytest.raises(Superseded):
                future.set_exception(ValueError("stale"))
        with pytest.raises(Superseded):
            ctx.future()
        fresh = instances[1].ctx.future()
        fresh.set_result("fresh")
        assert fresh.result() == "fresh"
        manager.stop(timeout=1)

    explore(scenario, 30)


def test_a_future_is_completed_by_its_instance_or_broken_never_both():
    outcomes = set()

    def scenario(sim):
        instances, outcome = [], []
        manager = hanging(sim, instances)
        future = instances[0].ctx.future()

        def complete():
            sim.sleep(5)  # just when it is replaced
            try:
                future.set_result("done")
                outcome.append(None)
            except Superseded:
                outcome.append(Superseded)

        thread = sim.thread(complete)
        thread.start()
        instances[0].ctx.fail(ValueError("crash"))
        error = future.exception()
        thread.join()
        assert outcome == [None if error is None else Superseded]
        outcomes.update(outcome)
        manager.stop(timeout=1)

    explore(scenario, 200, preempt=["threadkit._components._fences"])
    assert outcomes == {None, Superseded}


def test_a_future_is_broken_even_where_no_thread_is_to_be_had():
    def scenario(sim):
        instances = []
        manager = hanging(sim, instances)
        future = instances[0].ctx.future()
        instances[0].ctx.fail(ValueError("crash"))
        sim.sleep(4.9)
        sim.fail_thread_starts()
        assert isinstance(future.exception(timeout=10), Superseded)
        manager.stop(timeout=1)

    explore(scenario, 5)


def test_a_part_that_stopped_for_good_leaves_no_future_open():
    instances = []

    class Promising:
        def start(self, ctx):
            instances.append(ctx.future())

        def stop(self, ctx):
            pass

    manager = ComponentManager()
    manager.add("part", Promising())
    with manager:
        assert not instances[0].done()
    with pytest.raises(Superseded, match="part: generation 1 is over"):
        instances[0].result(timeout=10)

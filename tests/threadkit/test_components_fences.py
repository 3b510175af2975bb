"""An instance that was replaced can neither put into its queues nor go on unnoticed."""

import pytest

from threadkit import Backoff, ComponentManager, Intensity, MessageQueue, QueueFull, Superseded
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

"""The zoo: known kinds of concurrency bugs, each found by the simulator, and each one's cure not.

A harness that finds nothing proves nothing. Every animal is a small class with its corrected twin
and one scenario for both. Run this file as a program for the table of how many schedules they need.
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest

from sim_threads import together
from threadkit.testing import Pct, ScheduleFailed, SimRuntime, Uniform, explore

LIMIT = 1_000  # schedules within which each bug must be found


class LostUpdate:
    """Read, then write what was read plus one."""

    def __init__(self, sim):
        self.value = 0
        self.lock = sim.lock()

    def add(self):
        value = self.value
        self.value = value + 1

    def scenario(self, sim):
        together(sim, self.add, self.add)
        assert self.value == 2


class LostUpdateCured(LostUpdate):
    def add(self):
        with self.lock:
            super().add()


class CheckThenAct:
    """Look whether there is one left, then take it."""

    def __init__(self, sim):
        self.lock = sim.lock()
        self.stock = 1
        self.sold = 0

    def buy(self):
        with self.lock:
            available = self.stock > 0
        if available:
            with self.lock:
                self.stock -= 1
                self.sold += 1

    def scenario(self, sim):
        together(sim, self.buy, self.buy)
        assert (self.stock, self.sold) == (0, 1)


class CheckThenActCured(CheckThenAct):
    def buy(self):
        with self.lock:
            if self.stock > 0:
                self.stock -= 1
                self.sold += 1


class IfInsteadOfWhile:
    """Wait once, then believe that what was waited for is still true."""

    def __init__(self, sim):
        self.condition = sim.condition()
        self.items = deque()

    def get(self):
        with self.condition:
            if not self.items:
                self.condition.wait()
            return self.items.popleft()

    def put(self, item):
        with self.condition:
            self.items.append(item)
            self.condition.notify()

    def scenario(self, sim):
        together(sim, self.get, self.get, lambda: (self.put(1), self.put(2)))


class IfInsteadOfWhileCured(IfInsteadOfWhile):
    def get(self):
        with self.condition:
            while not self.items:
                self.condition.wait()
            return self.items.popleft()


class OneConditionForTwoKinds:
    """One slot, one condition: the notification meant for a getter may reach a putter."""

    def __init__(self, sim):
        self.condition = sim.condition()
        self.items = deque()

    def wake(self):
        self.condition.notify()

    def put(self, item):
        with self.condition:
            while self.items:
                self.condition.wait()
            self.items.append(item)
            self.wake()

    def get(self):
        with self.condition:
            while not self.items:
                self.condition.wait()
            item = self.items.popleft()
            self.wake()
            return item

    def scenario(self, sim):
        got = []
        getters = [lambda: got.append(self.get())] * 2
        together(sim, *getters, lambda: self.put(1), lambda: self.put(2))
        assert sorted(got) == [1, 2]


class OneConditionForTwoKindsCured(OneConditionForTwoKinds):
    def wake(self):
        self.condition.notify_all()


class LostWakeUp:
    """Look, clear the flag, wait: a signal between the look and the clearing is wiped out."""

    def __init__(self, sim):
        self.arrived = sim.event()
        self.items = deque()

    def get(self):
        while not self.items:
            self.arrived.clear()
            self.arrived.wait()
        return self.items.popleft()

    def put(self, item):
        self.items.append(item)
        self.arrived.set()

    def scenario(self, sim):
        together(sim, self.get, lambda: self.put(1))


class LostWakeUpCured(LostWakeUp):
    def get(self):
        self.arrived.clear()
        while not self.items:
            self.arrived.wait()
            self.arrived.clear()
        return self.items.popleft()


class Abba:
    """Two accounts, locked in the order of the transfer."""

    def __init__(self, sim):
        self.locks = [sim.lock(), sim.lock()]
        self.balances = [10, 10]

    def order(self, source, target):
        return source, target

    def transfer(self, source, target):
        with ExitStack() as held:
            for account in self.order(source, target):
                held.enter_context(self.locks[account])
            self.balances[source] -= 1
            self.balances[target] += 1

    def scenario(self, sim):
        together(sim, lambda: self.transfer(0, 1), lambda: self.transfer(1, 0))
        assert self.balances == [10, 10]


class AbbaCured(Abba):
    def order(self, source, target):
        return sorted((source, target))


class UseAfterClose:
    """Check that it is open, then use it, without keeping it open meanwhile."""

    def __init__(self, sim):
        self.lock = sim.rlock()
        self.resource = []

    def write(self, item):
        with self.lock:
            if self.resource is None:
                return
        self.append(item)

    def append(self, item):
        with self.lock:
            self.resource.append(item)

    def close(self):
        with self.lock:
            self.resource = None

    def scenario(self, sim):
        together(sim, lambda: self.write(1), self.close)


class UseAfterCloseCured(UseAfterClose):
    def write(self, item):
        with self.lock:
            if self.resource is not None:
                self.append(item)


class DoubleCompletion:
    """A promise that asks whether it is done outside the lock that makes it so."""

    def __init__(self, sim):
        self.lock = sim.lock()
        self.done = False
        self.called = []

    def finish(self, value):
        if self.done:
            return
        with self.lock:
            self.done = True
        self.called.append(value)

    def scenario(self, sim):
        together(sim, lambda: self.finish("result"), lambda: self.finish("timeout"))
        assert len(self.called) == 1


class DoubleCompletionCured(DoubleCompletion):
    def finish(self, value):
        with self.lock:
            first, self.done = not self.done, True
        if first:
            self.called.append(value)


class PublishedTooEarly:
    """Double-checked initialisation that says "ready" before it is."""

    def __init__(self, sim):
        self.lock = sim.lock()
        self.ready = False
        self.table = None

    def fill(self):
        self.ready = True
        self.table = {"answer": 42}

    def lookup(self):
        if not self.ready:
            with self.lock:
                if not self.ready:
                    self.fill()
        return self.table["answer"]

    def scenario(self, sim):
        together(sim, self.lookup, self.lookup)


class PublishedTooEarlyCured(PublishedTooEarly):
    def fill(self):
        self.table = {"answer": 42}
        self.ready = True


class AbandonedTicket:
    """Hand-over to a waiting consumer who has just timed out: the item goes nowhere."""

    def __init__(self, sim):
        self.lock = sim.lock()
        self.event = sim.event
        self.items = deque()
        self.waiting = deque()

    def put(self, item):
        with self.lock:
            if not self.waiting:
                self.items.append(item)
                return
            slot, arrived = self.waiting.popleft()
            slot.append(item)
        arrived.set()

    def get(self, timeout):
        with self.lock:
            if self.items:
                return self.items.popleft()
            ticket = ([], self.event())
            self.waiting.append(ticket)
        if ticket[1].wait(timeout):
            return ticket[0][0]
        return self.give_up(ticket)

    def give_up(self, ticket):
        with self.lock, suppress(ValueError):
            self.waiting.remove(ticket)

    def scenario(self, sim):
        got = []
        together(sim, lambda: got.append(self.get(1)), lambda: (sim.sleep(1), self.put("item")))
        assert [*got, *self.items] in (["item"], [None, "item"])


class AbandonedTicketCured(AbandonedTicket):
    def give_up(self, ticket):
        with self.lock:
            if ticket in self.waiting:
                self.waiting.remove(ticket)
                return None
            return ticket[0][0]


class ForeignCodeUnderLock:
    """A listener is called with the lock held, and calls back; another thread has the order."""

    def __init__(self, sim):
        self.lock = sim.lock()
        self.size = 0
        self.listeners = []

    def grow(self):
        with self.lock:
            self.size += 1
            for listener in self.listeners:
                listener()

    def read(self):
        with self.lock:
            return self.size

    def scenario(self, sim):
        own = sim.lock()
        seen = []

        def listener():
            with own:
                seen.append("grown")

        def report():
            with own:
                seen.append(self.read())

        self.listeners.append(listener)
        together(sim, self.grow, report)


class ForeignCodeUnderLockCured(ForeignCodeUnderLock):
    def grow(self):
        with self.lock:
            self.size += 1
            listeners = list(self.listeners)
        for listener in listeners:
            listener()


class PermitLeak:
    """A permit taken for a thread that then cannot be started is never given back."""

    def __init__(self, sim):
        self.thread = sim.thread
        self.lock = sim.lock()
        self.free = 1

    def spawn(self):
        with self.lock:
            if self.free == 0:
                return None
            self.free -= 1
        thread = self.thread(self.work)
        self.start(thread)
        return thread

    def start(self, thread):
        thread.start()

    def work(self):
        with self.lock:
            self.free += 1

    def scenario(self, sim):
        thread = None
        with suppress(RuntimeError):
            thread = self.spawn()
        if thread:
            thread.join()
        assert self.free == 1


class PermitLeakCured(PermitLeak):
    def start(self, thread):
        try:
            thread.start()
        except RuntimeError:
            self.work()
            raise


class WalkWhileChanging:
    """A snapshot that walks a dictionary others add to."""

    def __init__(self, sim):
        self.lock = sim.lock()
        self.entries = {"a": 1, "b": 2}

    def add(self):
        with self.lock:
            self.entries["c"] = 3

    def total(self):
        total = 0
        for value in self.entries.values():
            total += value
        return total

    def scenario(self, sim):
        together(sim, self.add, self.total)


class WalkWhileChangingCured(WalkWhileChanging):
    def total(self):
        with self.lock:
            return super().total()


ZOO = [
    (LostUpdate, LostUpdateCured),
    (CheckThenAct, CheckThenActCured),
    (IfInsteadOfWhile, IfInsteadOfWhileCured),
    (OneConditionForTwoKinds, OneConditionForTwoKindsCured),
    (LostWakeUp, LostWakeUpCured),
    (Abba, AbbaCured),
    (UseAfterClose, UseAfterCloseCured),
    (DoubleCompletion, DoubleCompletionCured),
    (PublishedTooEarly, PublishedTooEarlyCured),
    (AbandonedTicket, AbandonedTicketCured),
    (ForeignCodeUnderLock, ForeignCodeUnderLockCured),
    (PermitLeak, PermitLeakCured),
    (WalkWhileChanging, WalkWhileChangingCured),
]
SCHEDULES = {"uniform": Uniform(), "pct": Pct()}


def lineage(animal):
    return [kind for kind in animal.__mro__ if kind is not object]


def hunt(animal, seeds, schedule):
    """Run the animal's scenario under those seeds; return whether it failed, and the runs made.

    Its methods are pre-empted, whichever class they come from.
    """
    runs = 0

    def scenario(sim):
        nonlocal runs
        runs += 1
        animal(sim).scenario(sim)

    faults = {"start_failure_ratio": 0.1} if issubclass(animal, PermitLeak) else {}
    try:
        explore(scenario, seeds, schedule=schedule, preempt=lineage(animal), **faults)
    except ScheduleFailed:
        return True, runs - 1  # the last one was the replay
    return False, runs


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("bug", "cured"), ZOO, ids=[bug.__name__ for bug, _ in ZOO])
def test_the_bug_is_found_and_its_cure_survives_the_same_schedules(bug, cured, schedule):
    found, needed = hunt(bug, LIMIT, SCHEDULES[schedule])
    assert found
    failed, runs = hunt(cured, max(needed, 50), SCHEDULES[schedule])
    assert not failed
    assert runs >= needed


def sized(schedule, cured):
    """Give PCT the scenario's length, as explore does; from the twin that does not fail."""
    if not isinstance(schedule, Pct):
        return schedule
    sim = SimRuntime(0, schedule=Uniform(line_gap=1), preempt=lineage(cured))
    sim.run(lambda: cured(sim).scenario(sim))
    return replace(schedule, steps=sim.choices)


def main(rounds=20):
    """Print how many schedules each bug needs: median and worst of `rounds` series of seeds."""
    print(f"{'bug':<26}" + "".join(f"{name:>24}" for name in SCHEDULES))  # noqa: T201
    for bug, cured in ZOO:
        cells = []
        for schedule in (sized(rule, cured) for rule in SCHEDULES.values()):
            series = [range(at * LIMIT, (at + 1) * LIMIT) for at in range(rounds)]
            needed = sorted(hunt(bug, seeds, schedule)[1] for seeds in series)
            cells.append(f"median {needed[rounds // 2]}, worst {needed[-1]}")
        print(f"{bug.__name__:<26}" + "".join(f"{cell:>24}" for cell in cells))  # noqa: T201


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""A pool in virtual time: the very policy objects of `threadkit.sizing`, without a thread.

Question: how would this policy size a pool under this workload, and what would users feel?

The model, event by event:

* Tasks arrive at given instants, queue first in first out, and are taken by the worker that was
  parked last. A task first computes for its CPU part, then blocks for its blocking part.
* The cores (one, under the GIL) serve computing tasks round robin, `quantum` seconds a turn, so
  that many computing threads slow one another down instead of working faster. A task that wakes
  from blocking while every core is taken needs one more turn to finish, as it does in CPython.
* A dependency may stretch the blocking part by the instant and by the number of calls in flight.
* The policy's size is a ceiling: threads start when a task finds no idle worker below it, one
  after another, `start_cost` seconds each.
* The policy is asked as DynamicThreadPool asks it: at once when an arrival finds no idle worker
  below the maximum (at most once a millisecond, and less and less often while that changes
  nothing), once per check interval while there is work or a surplus worker, and when it asked to
  be asked again.

Only idle workers leave, the longest parked first. What is not modelled: the submitting thread's
own need of the GIL, the operating system's scheduler, and memory.

Command: `python -m benchmarks.simulator` measures the simulator's own speed.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from threadkit.sizing import Adaptive, Decision, PoolSnapshot, SizingPolicy

__all__ = ["Machine", "Outcome", "Tasks", "simulate"]

Dependency = Callable[[float, int], float]
"""(now, calls in flight, this one included) -> factor on the blocking part of a call."""

# Codes in the event heap: a task whose blocking part ends is its index, 0 or more; a task whose
# turn on a core ends is `TURN_ENDS - index`.
WORKER_READY = -1
TURN_ENDS = -2

ASK_AGAIN = 0.001  # seconds between two looks that submits ask for, as the real pool's
ASK_AGAIN_MAX = 0.016


@dataclass(frozen=True)
class Tasks:
    """What arrives: equally long columns, by ascending arrival.

    Attributes:
        arrivals: Seconds since the start.
        cpu: CPU seconds each task computes first.
        block: Seconds each task blocks afterwards.
        dependency: Factor on `block`, sampled when a call begins; None for 1.
        horizon: Seconds the pool is kept after the start, if the tasks end sooner.
    """

    arrivals: Sequence[float]
    cpu: Sequence[float]
    block: Sequence[float]
    dependency: Dependency | None = None
    horizon: float = 0.0


@dataclass(frozen=True)
class Machine:
    """Where the tasks run; times in seconds. Defaults as calibrated, see docs/decisions/0081.

    Attributes:
        cores: CPUs of the machine.
        gil: Whether one thread at a time computes.
        quantum: Longest turn of a computing thread while others wait (CPython's switch interval).
        start_cost: What starting one thread takes.
        overhead: CPU time the pool itself spends on a task.
        submit_cost: CPU time the submitter spends on a task.
    """

    cores: int = 2
    gil: bool = True
    quantum: float = 0.005
    start_cost: float = 8e-5
    overhead: float = 1e-5
    submit_cost: float = 5e-6

    @property
    def servers(self) -> int:
        """Threads that can compute at the same time."""
        return 1 if self.gil else self.cores


@dataclass
class Outcome:
    """What became of the tasks and of the pool.

    Attributes:
        waits: Seconds each task waited for a worker.
        sojourns: Seconds from each task's arrival to its end.
        makespan: Seconds from the first arrival to the last end.
        thread_seconds: Workers, integrated over time up to the horizon.
        sizes: (instant, workers) at each change of the size.
        timeline: (instant, workers, queued, oldest wait) at each decision.
        reasons: (instant, wanted size, reason) of each decision that changed the size.
        decisions: How often the policy was asked.
    """

    waits: list[float]
    sojourns: list[float]
    makespan: float
    thread_seconds: float
    sizes: list[tuple[float, int]]
    timeline: list[tuple[float, int, int, float]]
    reasons: list[tuple[float, int, str]]
    decisions: int


@dataclass
class _Pool:
    """The simulated pool between two decisions: everything but the hot loop's own variables."""

    policy: SizingPolicy
    machine: Machine
    min_workers: int
    max_workers: int
    check_interval: float
    idle_timeout: float
    workers: int = 0
    wanted: int = 0
    parked: list[float] = field(default_factory=list)  # park instants, oldest first: a LIFO stack
    begun_at: dict[int, float] = field(default_factory=dict)  # task -> start, of running tasks
    decided_at: float = 0.0
    arrivals: int = 0
    started: int = 0
    completions: int = 0
    wait_time: float = 0.0
    run_time: float = 0.0
    cpu_time: float = 0.0
    process_time: float = 0.0
    spawned_until: float = 0.0
    thread_seconds: float = 0.0
    changed_at: float = 0.0
    decisions: int = 0
    sizes: list[tuple[float, int]] = field(default_factory=list)
    timeline: list[tuple[float, int, int, float]] = field(default_factory=list)
    reasons: list[tuple[float, int, str]] = field(default_factory=list)

    def decide(self, now: float, queued: int, oldest_wait: float) -> Decision:
        """Ask the policy, and start what `interval` sums up anew."""
        decision = self.policy.decide(self._snapshot(now, queued, oldest_wait))
        self.decided_at = now
        self.arrivals = self.started = self.completions = 0
        self.wait_time = self.run_time = self.cpu_time = self.process_time = 0.0
        self.decisions += 1
        self.timeline.append((now, self.workers, queued, oldest_wait))
        wanted = min(self.max_workers, max(self.min_workers, decision.size))
        if wanted != self.wanted:
            self.reasons.append((now, wanted, decision.reason))
        self.wanted = wanted
        return decision

    def _snapshot(self, now: float, queued: int, oldest_wait: float) -> PoolSnapshot:
        return PoolSnapshot(
            now=now,
            interval=now - self.decided_at,
            min_workers=self.min_workers,
            max_workers=self.max_workers,
            idle_timeout=self.idle_timeout,
            workers=self.workers,
            busy=len(self.begun_at),
            queued=queued,
            oldest_wait=oldest_wait,
            arrivals=self.arrivals,
            started=self.started,
            completions=self.completions,
            wait_time=self.wait_time,
            run_time=self.run_time,
            cpu_time=self.cpu_time,
            process_time=self.process_time,
            run_ages=tuple([now - at for at in self.begun_at.values()]),
            idle_ages=tuple([now - at for at in self.parked]),
            cores=float(self.machine.cores),
            gil=self.machine.gil,
        )

    def next_look(self, now: float, decision: Decision, queued: int) -> float:
        """When to ask again; never, while there is nothing to observe."""
        quiet = not self.begun_at and not queued and self.workers <= self.min_workers
        recheck = math.inf if decision.recheck is None else max(1e-3, decision.recheck)
        return math.inf if quiet else now + min(self.check_interval, recheck)

    def resize(self, now: float, lacking: int, events: list[tuple[float, int]]) -> None:
        """Start workers for the tasks that lack one; let idle ones go that are too many."""
        surplus = self.workers - self.wanted
        if surplus > 0 and self.parked:
            leaving = min(surplus, len(self.parked))
            del self.parked[:leaving]
            self._change(now, -leaving)
        elif surplus < 0 and lacking > 0:
            self.hire(now, min(lacking, -surplus), events)

    def hire(self, now: float, count: int, events: list[tuple[float, int]]) -> None:
        """Start threads, one after the other."""
        self._change(now, count)
        for _ in range(count):
            self.spawned_until = max(now, self.spawned_until) + self.machine.start_cost
            heapq.heappush(events, (self.spawned_until, WORKER_READY))

    def retire(self, now: float) -> None:
        """One worker that has just become idle goes."""
        self._change(now, -1)

    def _change(self, now: float, by: int) -> None:
        self.thread_seconds += self.workers * (now - self.changed_at)
        self.changed_at = now
        self.workers += by
        self.sizes.append((now, self.workers))


def simulate(
    policy: SizingPolicy,
    tasks: Tasks,
    *,
    min_workers: int = 2,
    max_workers: int = 64,
    machine: Machine | None = None,
    check_interval: float = 0.1,
    idle_timeout: float = 2.0,
) -> Outcome:
    """Run `tasks` through a pool sized by `policy`, in virtual time.

    The policy keeps state: give every run a new one.
    """
    machine = machine or Machine()
    pool = _Pool(policy, machine, min_workers, max_workers, check_interval, idle_timeout)
    starts = [0.0] * len(tasks.arrivals)
    ends = [0.0] * len(tasks.arrivals)
    last = _run(pool, tasks, machine, starts, ends)
    until = max(last, tasks.horizon)
    return Outcome(
        waits=[start - due for start, due in zip(starts, tasks.arrivals, strict=True)],
        sojourns=[end - due for end, due in zip(ends, tasks.arrivals, strict=True)],
        makespan=last - tasks.arrivals[0],
        thread_seconds=pool.thread_seconds + pool.workers * (until - pool.changed_at),
        sizes=pool.sizes,
        timeline=pool.timeline,
        reasons=pool.reasons,
        decisions=pool.decisions,
    )


def _run(  # noqa: C901, PLR0912, PLR0915 - one loop on locals: a call per event would halve its speed
    pool: _Pool, tasks: Tasks, machine: Machine, starts: list[float], ends: list[float]
) -> float:
    """The event loop. Returns when the last task ended."""
    arrivals, cpu, block, dependency = tasks.arrivals, tasks.cpu, tasks.block, tasks.dependency
    total, servers, quantum = len(arrivals), machine.servers, machine.quantum
    overhead, submit_cost = machine.overhead, machine.submit_cost
    events: list[tuple[float, int]] = []
    ready: deque[int] = deque()  # computing tasks that wait for a core
    turns: dict[int, float] = {}  # task on a core -> its turn's length
    charged: dict[int, float] = {}  # task on a core -> until when its CPU time is accounted for
    remaining: dict[int, float] = {}  # CPU seconds left, of tasks that compute
    blocked_once: set[int] = set()  # tasks past their blocking part that wait for a core
    parked, begun_at = pool.parked, pool.begun_at
    push, pop = heapq.heappush, heapq.heappop
    arrived = head = done = in_flight = 0
    look_at, due, now = 0.0, arrivals[0], 0.0
    asked, pause = False, ASK_AGAIN  # whether a submit wants the policy to look, and how soon
    pool.wanted = pool.min_workers

    while done < total or (look_at < math.inf and look_at <= tasks.horizon):
        now = min(due, look_at, events[0][0]) if events else min(due, look_at)
        starting = finished = -1
        if events and events[0][0] == now:
            code = pop(events)[1]
            if code >= 0:
                in_flight -= 1
                if len(turns) < servers:
                    finished = code
                else:
                    blocked_once.add(code)
                    remaining[code] = overhead
                    ready.append(code)
            elif code <= TURN_ENDS:
                task = TURN_ENDS - code
                pool.process_time += now - charged.pop(task)
                left = remaining[task] - turns.pop(task)
                if left > 1e-12:
                    remaining[task] = left
                    ready.append(task)
                else:
                    del remaining[task]
                    if task in blocked_once:
                        blocked_once.remove(task)
                        finished = task
                    elif block[task]:
                        in_flight += 1
                        factor = dependency(now, in_flight) if dependency else 1.0
                        push(events, (now + block[task] * factor, task))
                    else:
                        finished = task
            else:  # WORKER_READY
                parked.append(now)
                starting = 0
        elif due == now:
            arrived += 1
            pool.arrivals += 1
            pool.process_time += submit_cost
            due = arrivals[arrived] if arrived < total else math.inf
            if parked:
                starting = 0
            elif pool.workers < pool.wanted:
                pool.hire(now, 1, events)
            elif pool.workers < pool.max_workers:
                asked = True
                look_at = min(look_at, max(now, pool.decided_at + pause))
            if look_at == math.inf:
                look_at = now + pool.check_interval
        else:
            queued = arrived - head
            for task, since in charged.items():
                pool.process_time += now - since
                charged[task] = now
            before = pool.wanted
            decision = pool.decide(now, queued, now - arrivals[head] if queued else 0.0)
            pool.resize(now, queued - (pool.workers - len(begun_at)), events)
            look_at = pool.next_look(now, decision, queued)
            useless = asked and pool.wanted == before
            pause = min(2 * pause, ASK_AGAIN_MAX) if useless else ASK_AGAIN
            asked = False

        if finished >= 0:
            done += 1
            ends[finished] = now
            pool.completions += 1
            pool.run_time += now - begun_at.pop(finished)
            pool.cpu_time += cpu[finished] + overhead
            if pool.workers > pool.wanted:
                pool.retire(now)
            else:
                parked.append(now)
                starting = 0
        if starting == 0 and head < arrived:
            while parked and head < arrived:
                parked.pop()
                starts[head] = begun_at[head] = now
                pool.started += 1
                pool.wait_time += now - arrivals[head]
                if cpu[head]:
                    remaining[head] = cpu[head] + overhead
                    ready.append(head)
                else:
                    pool.process_time += overhead
                    in_flight += 1
                    factor = dependency(now, in_flight) if dependency else 1.0
                    push(events, (now + block[head] * factor, head))
                head += 1
        while ready and len(turns) < servers:
            task = ready.popleft()
            turn = min(quantum, remaining[task])
            turns[task] = turn
            charged[task] = now
            push(events, (now + turn, TURN_ENDS - task))
    return max(ends)


def _speed(label: str, tasks: Tasks, max_workers: int) -> None:
    started = time.perf_counter()
    outcome = simulate(Adaptive(), tasks, max_workers=max_workers)
    took = time.perf_counter() - started
    count = len(tasks.arrivals)
    peak = max(size for _, size in outcome.sizes)
    print(f"{label}: {count:,} tasks, up to {peak:,} workers: {took:.1f} s, {count / took:,.0f}/s")


def main() -> None:
    """Measure the simulator's own speed."""
    count = 1_000_000
    for label, rate, cpu, most in (
        ("waiting", 1_000, 0.0, 64),
        ("computing and waiting", 1_000, 0.0005, 64),
        ("thousands of workers", 100_000, 0.0, 8_000),
    ):
        arrivals = [index / rate for index in range(count)]
        _speed(label, Tasks(arrivals, [cpu] * count, [0.05] * count), most)


if __name__ == "__main__":
    main()

"""Ctrl-C at any point of a call: what was not submitted is lost, and nothing else.

The main thread is traced, and at its n-th step inside the pool KeyboardInterrupt is raised there,
for every n. That is more than a signal can do, which comes in at calls and jumps only.
"""

from __future__ import annotations

import linecache
import signal
import sys
import threading

import pytest

from threadkit import DynamicThreadPool

WAIT = 10
ROOM = "threadkit/_pool/"


class InterruptAt:
    """Raise KeyboardInterrupt at the n-th line that this thread executes in the pool."""

    def __init__(self, n):
        self.left = n
        self.done = False

    def __enter__(self):
        self._outer = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exc_info):
        sys.settrace(self._outer)

    def _trace(self, frame, event, _):
        if ROOM not in frame.f_code.co_filename.replace("\\", "/") or self.done:
            return None
        # A `with` has its line again just before its end, where no signal can come in.
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not line.lstrip().startswith("with "):
            self.left -= 1
            if self.left < 0:
                self.done = True
                raise KeyboardInterrupt
        return self._trace


def each_point(act, **options):
    """Do it on a fresh pool with a parked worker, interrupted at one more point each time."""
    for n in range(1_000):
        pool = DynamicThreadPool(min_workers=1, max_workers=2, **options)
        pool.submit(int).result(WAIT)
        assert pool.wait_idle(WAIT)
        interrupt = InterruptAt(n)
        try:
            with interrupt:
                act(pool)
        except KeyboardInterrupt:
            pass
        yield pool
        if not interrupt.done:
            assert n > 5  # there was something to interrupt
            return
    pytest.fail("it never ends")


def submit_several(pool):
    for _ in range(2):
        pool.submit(int)


def submit_with_a_deadline(pool):
    pool.with_options(ttl=50.0).submit(int)


def resize(pool):
    pool.resize(0, 4)
    pool.adjust_pool_size(3)
    pool.adjust_pool_size(0)


def cancel(pool):
    pool.pause()
    future = pool.with_options(key="k").submit(int)
    pool.with_options(key="k").submit(int)
    future.cancel()
    pool.resume()


@pytest.mark.parametrize("bounds", [{}, {"queue_limit": 8, "levels": 2}], ids=["plain", "bounded"])
@pytest.mark.parametrize("act", [submit_several, submit_with_a_deadline, resize, cancel])
def test_after_an_interrupt_the_pool_works_on_and_can_be_shut_down(act, bounds):
    for pool in each_point(act, **bounds):
        pool.resume()  # the interrupt may have come between a pause and its end
        assert pool.submit(pow, 2, 5).result(WAIT) == 32
        report = pool.shutdown(timeout=WAIT)
        assert report.finished, report


def test_an_interrupted_shutdown_can_be_repeated():
    for pool in each_point(DynamicThreadPool.shutdown):
        assert pool.shutdown(timeout=WAIT).finished


def test_a_worker_whose_start_is_interrupted_is_no_worker(monkeypatch):
    start = threading.Thread.start
    pool = DynamicThreadPool(max_workers=2, thread_name_prefix="interrupted")

    def interrupted(thread):
        if thread.name == "interrupted-worker-0":
            raise KeyboardInterrupt
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.submit(int)
    assert pool.submit(int, "3").result(WAIT) == 3
    assert pool.shutdown(timeout=WAIT).finished


@pytest.mark.parametrize("who", ["worker-0", "supervisor"])
def test_a_thread_that_began_although_its_start_was_interrupted_is_used(who, monkeypatch):
    start = threading.Thread.start
    pool = DynamicThreadPool(max_workers=2, thread_name_prefix="interrupted")

    def interrupted(thread):
        start(thread)
        if thread.name == f"interrupted-{who}":
            raise KeyboardInterrupt

    submit = pool.submit if who == "worker-0" else pool.with_options(ttl=50.0).submit
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        submit(int)
    assert pool.submit(int, "3").result(WAIT) == 3
    assert pool.statistics().alive <= 2
    assert pool.shutdown(timeout=WAIT).finished


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an interval timer")
def test_ctrl_c_in_a_task_its_submitter_runs_reaches_the_submitter():
    gate, begun, ran = threading.Event(), threading.Event(), threading.Event()
    pool = DynamicThreadPool(max_workers=1, queue_limit=1, overflow="caller_runs")
    pool.submit(lambda: (begun.set(), gate.wait(WAIT)))
    assert begun.wait(WAIT)
    pool.submit(int)

    def interrupted():
        ran.set()
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            pool.submit(interrupted)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ran.is_set()
    gate.set()
    assert pool.shutdown(timeout=WAIT).finished

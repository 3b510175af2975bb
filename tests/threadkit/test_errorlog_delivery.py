"""What flush and close answer: true only when it is so, whatever happens to the sinks' threads."""

import logging
import threading

from sim_threads import start
from threadkit import ErrorLog
from threadkit.testing import SimRuntime, explore, schedules

LONG = 1000.0
LINES = ["threadkit._failures"]


@schedules(300, preempt=LINES)
def test_a_flush_waits_for_a_sink_whose_thread_another_is_starting(sim):
    told = []
    errors = ErrorLog(runtime=sim)
    errors.add_sink(lambda event: told.append(event.message), limit=None)

    def record(message):
        errors.record(ValueError(message))
        assert errors.flush(LONG)
        assert message in told

    for thread in start(sim, lambda: record("a"), lambda: record("b")):
        thread.join()
    assert errors.close(LONG)


@schedules(600, preempt=LINES)
def test_a_close_waits_for_a_sink_whose_thread_another_is_starting(sim):
    told = []
    errors = ErrorLog(runtime=sim)
    errors.add_sink(lambda event: told.append(event.message), limit=None)

    def close():
        errors.record(ValueError("b"))
        assert errors.close(LONG)
        assert "b" in told

    for thread in start(sim, lambda: errors.record(ValueError("a")), close):
        thread.join()
    figures = errors.statistics().sinks[0]
    assert (figures.delivered, figures.waiting) == (len(told), 0)


def test_a_flush_and_a_close_are_false_at_once_when_no_thread_can_be_had():
    sim = SimRuntime()

    def scenario():
        told = []
        errors = ErrorLog(runtime=sim)
        errors.add_sink(told.append)
        assert errors.flush(None)  # nothing to be told
        sim.fail_thread_starts(4)
        errors.record(ValueError("x"))
        assert not errors.flush(None)
        assert not errors.close(None)
        assert (told, errors.statistics().sinks[0].dropped) == ([], 0)
        assert errors.close(None)
        assert len(told) == 1
        assert errors.flush(None)

    sim.run(scenario)


def test_answers_are_true_though_threads_are_refused_now_and_then():
    answers = set()

    def scenario(sim):
        told = []
        errors = ErrorLog(runtime=sim)
        errors.add_sink(lambda event: told.append(event.message), limit=None)

        def record(message):
            errors.record(ValueError(message))
            flushed = errors.flush(None)
            assert not flushed or message in told
            answers.add(flushed)

        threads = [sim.thread(record, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        sim.fail_thread_starts(2)
        for thread in threads:
            thread.join()
        while not errors.close(None):
            pass
        assert sorted(told) == ["a", "b", "c"]

    explore(scenario, 150, preempt=LINES)
    assert answers == {True, False}


def test_a_flush_takes_no_room_in_the_queue_and_leaves_nothing_behind():
    gate, entered = threading.Event(), threading.Event()

    def block(event):
        entered.set()
        assert gate.wait(30)

    with ErrorLog() as errors:
        errors.add_sink(block, limit=None, queue_size=2)
        errors.record(ValueError("in the sink"))
        assert entered.wait(30)
        for _ in range(100):
            assert not errors.flush(0)
        for _ in range(2):
            errors.record(ValueError("waits"))
        (figures,) = errors.statistics().sinks
        assert (figures.waiting, figures.dropped) == (2, 0)
        assert not errors.flush(0)  # nor does a full queue keep it from answering
        (sink,) = errors._ledger.sinks
        assert not sink._waits
        gate.set()
        assert errors.flush(30)
        assert errors.statistics().sinks[0].delivered == 3


def test_a_flush_does_not_wait_for_what_comes_in_after_it():
    gates = {name: threading.Event() for name in ("first", "second")}
    entered, flushed = threading.Event(), []

    def block(event):
        entered.set()
        assert gates[event.message].wait(30)

    with ErrorLog() as errors:
        errors.add_sink(block, limit=None)
        errors.record(ValueError("first"))
        assert entered.wait(30)
        flusher = threading.Thread(target=lambda: flushed.append(errors.flush(30)))
        (sink,) = errors._ledger.sinks
        flusher.start()
        while not sink._waits:
            threading.Event().wait(0.001)
        errors.record(ValueError("second"))
        gates["first"].set()
        flusher.join(30)
        assert flushed == [True]
        assert errors.statistics().sinks[0].delivered == 1
        gates["second"].set()


def test_a_sink_whose_close_raises_system_exit_has_ended_all_the_same():
    class Sink:
        def __call__(self, event):
            pass

        def close(self):
            raise SystemExit("not from here")

    errors = ErrorLog()
    errors.add_sink(Sink())
    errors.record(ValueError("told"))
    assert errors.close(5)


def test_a_logging_handler_that_raises_does_not_end_the_thread_of_a_sink_that_does():
    class Broken(logging.Handler):
        def emit(self, record):
            raise OSError("disk full")

    def sink(event):
        raise ValueError("sink")

    broken = Broken()
    logger = logging.getLogger("threadkit.failures")
    logger.addHandler(broken)
    try:
        with ErrorLog() as errors:
            errors.add_sink(sink, limit=None)
            for number in range(3):
                errors.record(ValueError(number))
            assert errors.flush(5)
            assert errors.statistics().sinks[0].failed == 3
            assert errors.close(5)
    finally:
        logger.removeHandler(broken)

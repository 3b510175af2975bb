"""What the pool makes of failures: where they were submitted, and that none is lost or grows."""

import concurrent.futures
import gc
import sys
import traceback
import weakref

import pytest

from threadkit import DynamicThreadPool, ErrorLog

TIMEOUT = 10


def bad_room():
    raise ValueError("no such room")


@pytest.fixture
def errors():
    with ErrorLog() as log:
        yield log


@pytest.fixture
def pool(errors):
    with DynamicThreadPool(1, 2, thread_name_prefix="pool", errors=errors) as made:
        yield made


def test_result_a_thousand_times_keeps_the_tracebacks_length(pool):
    future = pool.submit(bad_room)
    lengths = set()
    for _ in range(1000):
        try:
            future.result(TIMEOUT)
        except ValueError as exc:
            lengths.add(len(traceback.extract_tb(exc.__traceback__)))
    assert len(lengths) == 1
    assert lengths.pop() < 8


def test_the_standard_pool_shows_that_the_test_above_can_fail():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(bad_room)
        for _ in range(1000):
            with pytest.raises(ValueError):
                future.result(TIMEOUT)
        assert len(traceback.extract_tb(future.exception().__traceback__)) > 1000


def test_what_a_consumer_was_handling_is_not_the_context_of_anothers(pool):
    future = pool.submit(bad_room)

    def read_while_handling():
        try:
            raise KeyError("the consumer's own trouble")
        except KeyError:
            try:
                future.result(TIMEOUT)
            except ValueError as exc:
                return exc.__context__

    assert read_while_handling() is None
    assert future.exception(TIMEOUT).__context__ is None


def test_the_exception_shows_where_it_was_submitted(pool):
    future = pool.submit(bad_room)
    line = sys._getframe().f_lineno - 1
    for _ in range(2):
        (note,) = future.exception(TIMEOUT).__notes__
    assert note.startswith(f"submitted at {__file__}:{line} in ")


class Big:
    pass


def test_a_failed_future_keeps_no_locals_of_its_causes(pool):
    kept = []

    def cause():
        big = Big()
        kept.append(weakref.ref(big))
        bad_room()

    def work():
        try:
            cause()
        except ValueError as exc:
            raise OSError("wrapped") from exc

    future = pool.submit(work)
    assert isinstance(future.exception(TIMEOUT), OSError)
    assert pool.wait_idle(TIMEOUT)
    gc.collect()
    assert kept[0]() is None


def test_a_failure_nobody_reads_is_recorded_once(pool, errors):
    future = pool.submit(bad_room)
    concurrent.futures.wait([future], TIMEOUT)
    assert errors.statistics().recorded == 0
    reference = weakref.ref(future)
    del future
    assert pool.wait_idle(TIMEOUT)
    gc.collect()
    assert reference() is None
    (group,) = errors.groups()
    assert (group.count, group.component) == (1, "pool")
    assert "submitted at" in group.format()


@pytest.mark.parametrize("read", ["exception", "result"])
def test_a_failure_somebody_read_is_theirs(pool, errors, read):
    future = pool.submit(bad_room)
    if read == "exception":
        assert future.exception(TIMEOUT) is not None
    else:
        with pytest.raises(ValueError):
            future.result(TIMEOUT)
    del future
    gc.collect()
    assert errors.statistics().recorded == 0

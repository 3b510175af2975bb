"""The executors that the contract (test_executor_*.py) is asked of."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from threadkit import DynamicThreadPool

WAIT = 10


@pytest.fixture(params=[ThreadPoolExecutor, DynamicThreadPool], ids=["standard", "threadkit"])
def kind(request):
    return request.param


@pytest.fixture
def new_pool(kind):
    """Makes executors, of one worker if not told otherwise, and shuts them down."""
    pools = []

    def make(max_workers=1, **options):
        pools.append(kind(max_workers=max_workers, **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.shutdown()


@pytest.fixture
def pool(new_pool):
    return new_pool()


@pytest.fixture
def gate(new_pool):
    """What held tasks wait for; open at the latest when the executors are shut down."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def busy(pool, gate):
    """The future of a task that holds the pool's only worker until the gate opens."""
    begun = threading.Event()

    def hold():
        begun.set()
        return gate.wait(WAIT)

    future = pool.submit(hold)
    assert begun.wait(WAIT)
    return future

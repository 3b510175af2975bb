"""The machine under the bot, in readings that are made up."""

import logging
import threading

import pytest

from livebot.resources import Resources
from threadkit import ComponentManager, Reading, ResourceMonitor

MEBIBYTE = 1024 * 1024


@pytest.fixture
def machine():
    return {"memory": 0.5, "files": 0.1, "disk": 0.1}


@pytest.fixture
def resources(machine):
    sources = {name: lambda name=name: Reading(machine[name], 1.0) for name in machine}
    made = Resources(stall=0.05, monitor=ResourceMonitor(period=3600, sources=sources))
    manager = ComponentManager("bot", governor=made.governor, watchdog=made.watchdog)
    pool = manager.pool("tts", max_workers=8)
    cache = manager.cache("audio", maxsize=64 * MEBIBYTE, weigher=lambda _, audio: len(audio))
    with manager:
        yield made, pool, cache
        manager.stop()


def test_near_the_end_of_memory_caches_shrink_and_pools_do_not_grow_and_both_recover(
    resources, machine, caplog
):
    made, pool, cache = resources
    caplog.set_level(logging.DEBUG, "livebot.resources")
    machine["memory"] = 0.95
    for _ in range(40):
        made.monitor.sample()
    assert cache.maxsize <= 0.11 * 64 * MEBIBYTE
    assert pool.statistics().max_workers == pool.statistics().min_workers < 8
    machine["memory"] = 0.5
    for _ in range(40):
        made.monitor.sample()
    assert cache.maxsize == 64 * MEBIBYTE
    assert pool.statistics().max_workers == 8
    lines = [record.getMessage() for record in caplog.records]
    assert "memory is CRITICAL: 95% in use" in lines
    assert "memory is OK: 50% in use" in lines
    assert any(line.startswith("cache audio: 6.71089e+07 -> ") for line in lines)


@pytest.mark.parametrize("metric", ["files", "disk"])
def test_what_else_runs_short_is_told(resources, machine, caplog, metric):
    made, *_ = resources
    machine[metric] = 0.9
    made.monitor.sample()
    assert [record.getMessage() for record in caplog.records] == [f"{metric} is WARN: 90% in use"]


class Heard(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []
        self.said = threading.Event()

    def emit(self, record):
        self.lines.append(record.getMessage())
        self.said.set()


def test_work_that_is_stuck_is_named_with_the_line_it_stands_at(resources):
    _, pool, _ = resources
    heard = Heard()
    logging.getLogger("threadkit").addHandler(heard)
    try:
        stuck = pool.with_options(label="speaking a sentence")
        assert stuck.submit(heard.said.wait, 30).result(30)
    finally:
        logging.getLogger("threadkit").removeHandler(heard)
    assert "speaking a sentence gave no sign of life" in heard.lines[0]
    assert "in wait" in heard.lines[0]


def test_this_machine_can_be_read():
    made = Resources(stall=30)
    assert {"memory", "files", "disk"} <= made.monitor.sample().readings.keys()

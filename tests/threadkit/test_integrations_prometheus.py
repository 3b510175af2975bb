"""A manager scraped through the real client: its text, read back by its own parser."""

from __future__ import annotations

import subprocess
import sys
import threading
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from threadkit import (
    ComponentManager,
    ComponentState,
    ErrorLog,
    Histogram,
    MessageQueue,
    Reading,
    ResourceMonitor,
)
from threadkit.integrations.prometheus import ManagerCollector

WAIT = 10


class Part:
    def start(self, ctx):
        pass

    def stop(self, ctx):
        pass


@pytest.fixture
def manager():
    manager = ComponentManager("bot", errors=ErrorLog())
    yield manager
    manager.stop()


def scrape(manager, **others):
    """Every sample by name and labels, as a server would read them."""
    registry = CollectorRegistry()
    registry.register(ManagerCollector(manager, **others))
    return parsed(generate_latest(registry).decode())


def parsed(text):
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.values()))
            assert key not in found, f"{key} is told twice"
            found[key] = sample.value
    return found


def test_a_component_is_in_exactly_one_state(manager):
    manager.add("voice", Part())
    before = scrape(manager)
    assert before["threadkit_component_state", "new", "voice"] == 1
    manager.start()
    page = scrape(manager)
    states = {
        state: page[("threadkit_component_state", *sorted((state.value, "voice")))]
        for state in ComponentState
    }
    assert states == dict.fromkeys(ComponentState, 0) | {ComponentState.RUNNING: 1}
    assert page["threadkit_component_starts_total", "voice"] == 1
    assert page["threadkit_component_restarts_total", "voice"] == 0
    manager.restart("voice", timeout=WAIT)
    assert scrape(manager)["threadkit_component_restarts_total", "voice"] == 1


def test_members_of_groups_are_told_with_their_path(manager):
    group = manager.group("audio")
    group.add("player", Part())
    group.pool("encoders", max_workers=1)
    with manager:
        page = scrape(manager)
    assert page["threadkit_component_state", "audio", "running"] == 1
    assert page["threadkit_component_state", "audio/player", "running"] == 1
    assert page["threadkit_pool_max_workers", "audio/encoders"] == 1


def test_a_pools_tasks_are_counted_by_what_became_of_them(manager):
    pool = manager.pool("work", max_workers=2, levels=2)
    with manager:
        assert pool.submit(pow, 2, 3).result(WAIT) == 8
        assert isinstance(pool.submit(pow, 0, -1).exception(WAIT), ZeroDivisionError)
        assert pool.wait_idle(WAIT)
        page = scrape(manager)
    assert page["threadkit_pool_submitted_tasks_total", "work"] == 2
    assert page["threadkit_pool_ended_tasks_total", "completed", "work"] == 1
    assert page["threadkit_pool_ended_tasks_total", "failed", "work"] == 1
    assert page["threadkit_pool_queued_tasks", "0", "work"] == 0
    assert page["threadkit_pool_queued_tasks", "1", "work"] == 0
    assert page["threadkit_pool_max_workers", "work"] == 2


def test_durations_are_a_histogram_whose_buckets_grow_to_its_count(manager):
    pool = manager.pool("work", max_workers=1)
    with manager:
        for _ in range(20):
            pool.submit(int).result(WAIT)
        assert pool.wait_idle(WAIT)
        page = scrape(manager)
    for name in ("wait", "run"):
        buckets = {
            float(edge): value
            for (family, *labels), value in page.items()
            if family == f"threadkit_pool_{name}_seconds_bucket"
            for edge in labels
            if edge != "work"
        }
        counts = [buckets[edge] for edge in sorted(buckets)]
        assert counts == sorted(counts)
        assert counts[-1] == page[f"threadkit_pool_{name}_seconds_count", "work"] == 20
        assert page[f"threadkit_pool_{name}_seconds_sum", "work"] > 0


def test_a_duration_counts_in_every_bucket_it_does_not_exceed():
    seen = Histogram.of([0.0, 0.0009, 0.02, 0.02, 7.0])
    assert [seen.at_most(edge) for edge in (0.0, 0.0005, 0.001, 0.019, 0.021, 5, 10)] == [
        1, 1, 2, 2, 4, 4, 5,
    ]  # fmt: skip


def test_a_caches_reads_loads_and_removals(manager):
    cache = manager.cache("voices", maxsize=2)
    cache.load("a", str)
    for key in ("a", "b", "c"):
        cache.get(key)
    for key in ("b", "c"):
        cache.put(key, key)
    with pytest.raises(ZeroDivisionError):
        cache.load("d", lambda _key: 1 // 0)
    page = scrape(manager)
    assert page["threadkit_cache_reads_total", "hit", "voices"] == 1
    assert page["threadkit_cache_reads_total", "miss", "voices"] == 4
    assert page["threadkit_cache_loads_total", "loaded", "voices"] == 1
    assert page["threadkit_cache_loads_total", "failed", "voices"] == 1
    assert page["threadkit_cache_removed_total", "evicted", "voices"] == 1
    assert page["threadkit_cache_entries", "voices"] == 2
    assert page["threadkit_cache_max_weight", "voices"] == 2


def test_an_unbounded_cache_has_an_infinite_limit(manager):
    manager.cache("all", maxsize=float("inf"))
    assert scrape(manager)["threadkit_cache_max_weight", "all"] == float("inf")


def test_queues_the_managers_and_others(manager):
    own = manager.queue("texts", levels=2, maxsize=1, overflow="drop_new")
    other = MessageQueue(levels=1, name="sounds")
    own.put("x", 1)
    own.put("y", 1)
    other.put(1)
    other.get()
    page = scrape(manager, queues=[other])
    assert page["threadkit_queue_waiting", "1", "texts"] == 1
    assert page["threadkit_queue_waiting", "0", "texts"] == 0
    assert page["threadkit_queue_dropped_total", "drop_new", "texts"] == 1
    assert page["threadkit_queue_puts_total", "texts"] == 2
    assert page["threadkit_queue_gets_total", "sounds"] == 1
    assert page["threadkit_queue_blocked", "get", "sounds"] == 0


@pytest.mark.parametrize("names", [("texts",), ("a", "a")])
def test_two_queues_of_one_name_are_refused(manager, names):
    manager.queue("texts")
    with pytest.raises(ValueError, match=f"two are '{names[0]}'"):
        ManagerCollector(manager, queues=[MessageQueue(name=name) for name in names])


def test_failures_by_grade(manager):
    errors = ErrorLog()
    errors.record(ValueError("x"))
    page = scrape(manager, errors=errors)
    total = sum(v for (name, *_), v in page.items() if name == "threadkit_failures_total")
    assert total == 1
    assert page["threadkit_failure_groups",] == 1
    errors.close()


def test_resources_with_their_limits_and_levels(manager):
    sources = {
        "memory": lambda: Reading(95, 100),
        "threads": lambda: Reading(7),
        "odd": lambda: 1 // 0,
    }
    monitor = ResourceMonitor(sources=sources)
    monitor.watch("memory")
    empty = scrape(manager, monitor=monitor)
    assert not [key for key in empty if key[0] == "threadkit_resource_used"]
    monitor.sample()
    page = scrape(manager, monitor=monitor)
    assert page["threadkit_resource_used", "memory"] == 95
    assert page["threadkit_resource_limit", "memory"] == 100
    assert page["threadkit_resource_level", "memory"] == 2
    assert page["threadkit_resource_used", "threads"] == 7
    assert ("threadkit_resource_limit", "threads") not in page
    assert page["threadkit_monitor_samples_total",] == 1
    assert page["threadkit_monitor_errors_total", "read"] == 1


def test_names_are_escaped_on_the_way(manager):
    name = 'odd "name"\\ of\nlines 声音'
    manager.add(name, Part())
    assert scrape(manager)["threadkit_component_starts_total", name] == 0


def test_a_registry_refuses_a_second_collector(manager):
    registry = CollectorRegistry()
    registry.register(ManagerCollector(manager))
    with pytest.raises(ValueError, match="threadkit_"):
        registry.register(ManagerCollector(manager))


def test_what_is_described_is_what_is_collected(manager):
    collector = ManagerCollector(manager)
    described = [(family.name, family.type) for family in collector.describe()]
    assert described == [(family.name, family.type) for family in collector.collect()]
    assert all(family.documentation.endswith(".") for family in collector.describe())


def test_a_server_scrapes_it_while_it_works(manager):
    pool = manager.pool("work", max_workers=2)
    registry = CollectorRegistry()
    registry.register(ManagerCollector(manager))
    with manager:
        server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
        try:
            done = threading.Event()
            busy = pool.submit(done.wait, WAIT)
            with urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=WAIT) as answer:
                page = parsed(answer.read().decode())
            done.set()
            assert busy.result(WAIT)
        finally:
            server.shutdown()
            server.server_close()
            thread.join(WAIT)
    assert page["threadkit_pool_submitted_tasks_total", "work"] == 1


def test_without_the_client_the_import_says_what_to_install():
    code = "import sys; sys.modules['prometheus_client'] = None; import threadkit; \
import threadkit.integrations.prometheus"
    run = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 1
    assert "pip install 'threadkit[prometheus]'" in run.stderr

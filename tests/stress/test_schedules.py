"""Every scenario of the pool and its futures, under many more schedules than `make test` runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from threadkit.testing import explore

TESTS = Path(__file__).parent.parent / "threadkit"
LEAST = 20_000  # schedules in all


def load(name):
    spec = importlib.util.spec_from_file_location(f"stress_{name}", TESTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILES = (
    "test_pool_schedules",
    "test_pool_schedules_bounds",
    "test_pool_schedules_inside",
    "test_futures_schedules",
)


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_all_scenarios_under_many_schedules(capsys):
    """Lines are pre-empted under the first seeds, bytecodes under the next third as many."""
    gathered = [load(name).SCENARIOS for name in FILES]
    seeds = -(-LEAST * 3 // (sum(map(len, gathered)) * 4))
    counts = {}
    for scenarios in gathered:
        for name, (function, more) in scenarios.items():
            options = {"preempt": scenarios.preempt, **more}
            rest = range(seeds, seeds + seeds // 3 + 1)
            by_line = explore(function, seeds, **options)
            by_opcode = explore(function, rest, opcodes=True, **options)
            counts[name] = by_line.schedules + by_opcode.schedules
            assert by_line.distinct > seeds // 2
    with capsys.disabled():
        print(f"\n{sum(counts.values())} schedules of {len(counts)} scenarios, no violation")  # noqa: T201
    assert sum(counts.values()) >= LEAST

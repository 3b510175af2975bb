"""How many reads does a cache answer, on real traces, next to the best that is possible?

    python -m benchmarks.hitratio --traces DIR [--quick] [--json FILE] [--plot FILE]
    python -m benchmarks.hitratio                # seeded synthetic traces, which are always there

Workload: each key of a trace is read, and put if it was not there. The figures are counts, not
times: they are the same on every machine and every run, so each case runs once.

Contenders: threadkit's two policies, cachetools.LRUCache (the baseline), theine (W-TinyLFU), and
OPT, which sees the future: it keeps whatever is read again soonest (Belady, 1966), and no cache can
do better.

DIR holds traces of public cache simulators (caffeine's resources: the LIRS paper, cache2k, corda):

| file | format |
|---|---|
| lirs_NAME.trace.gz | text, a block number a line; blank lines and those with `*` are skipped |
| cache2k_NAME.trace.xz | big-endian int32 keys |
| corda_NAME.gz | big-endian int64 keys |
"""

from __future__ import annotations

import argparse
import array
import bisect
import functools
import gzip
import heapq
import itertools
import lzma
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cachetools
from theine import Cache as TheineCache

from benchmarks.harness import Benchmark, main
from threadkit import TTLCache

BASELINE = "cachetools.LRUCache"
QUICK = 50_000  # reads of a trace, with --quick

# The sizes a trace is played at: from well below its working set to around it.
SIZES = {
    "lirs_multi3": (500, 1000, 2000),
    "lirs_loop": (500,),
    "lirs_2_pools": (100, 300, 500),
    "lirs_sprite": (100, 300, 500, 1000),
    "cache2k_web07": (300, 500, 1000, 2000),
    "cache2k_web12": (300, 500, 1000, 2000),
    "cache2k_orm-night": (500, 1000),
    "corda_trace_vaultservice": (512, 1024),
}


# -- traces ---------------------------------------------------------------------------------


def read_trace(path: Path) -> list[int]:
    """The keys of a trace file, by the format its name says."""
    if path.name.startswith("lirs_"):
        lines = gzip.decompress(path.read_bytes()).decode().split()
        return [int(line) for line in lines if line != "*"]
    is_xz = path.suffix == ".xz"
    data = (lzma.decompress if is_xz else gzip.decompress)(path.read_bytes())
    keys = array.array("i" if is_xz else "q", data)
    if sys.byteorder == "little":
        keys.byteswap()
    return keys.tolist()


def find_traces(folder: Path) -> dict[str, list[int]]:
    """Every known trace in `folder`, by name."""
    found = {path.name.split(".")[0]: path for path in sorted(folder.iterdir())}
    traces = {name: read_trace(found[name]) for name in SIZES if name in found}
    if not traces:
        raise SystemExit(
            f"hitratio: no trace of {', '.join(SIZES)} in {folder}. They are in the resources of "
            "the simulator of github.com/ben-manes/caffeine; leave --traces out to run on "
            "synthetic ones."
        )
    return traces


def synthetic_traces() -> dict[str, list[int]]:
    """A Zipf law, alone and with a scan through it now and then: the same for everybody."""
    rnd = random.Random(20_231)
    weights = list(itertools.accumulate(rank**-0.9 for rank in range(1, 20_001)))
    law = [bisect.bisect_left(weights, rnd.random() * weights[-1]) for _ in range(150_000)]
    scanned = list(law)
    for start in range(0, 150_000, 30_000):
        scanned[start : start + 4_000] = range(1_000_000 + start, 1_004_000 + start)
    return {"zipf": law, "zipf with scans": scanned}


# -- contenders -----------------------------------------------------------------------------


def _play(cache: Any, trace: Sequence[int]) -> float:
    hits = 0
    for key in trace:
        if cache.get(key) is None:
            cache[key] = True
        else:
            hits += 1
    return 100 * hits / len(trace)


def _lru(trace: Sequence[int], size: int) -> float:
    return _play(cachetools.LRUCache(size), trace)


def _ours(trace: Sequence[int], size: int, *, policy: Any) -> float:
    cache: TTLCache[int, bool] = TTLCache(size, policy=policy)
    ratio = _play(cache, trace)
    assert len(cache) <= size
    numbers = cache.statistics()
    assert math.isclose(100 * numbers.hit_ratio, ratio)  # what it says of itself is what we saw
    return ratio


def _theine(trace: Sequence[int], size: int) -> float:
    cache: TheineCache[int, bool] = TheineCache(size)
    hits = 0
    for key in trace:
        if cache.get(key)[1]:
            hits += 1
        else:
            cache.set(key, True)
    return 100 * hits / len(trace)


def _next_uses(trace: Sequence[int]) -> list[int]:
    """For each read, when its key is read next."""
    following: dict[int, int] = {}
    uses = [0] * len(trace)
    for index in range(len(trace) - 1, -1, -1):
        uses[index] = following.get(trace[index], len(trace) + index)
        following[trace[index]] = index
    return uses


def optimal(trace: Sequence[int], size: int) -> float:
    """Belady's rule: evict what is read again last; with the key just read among the choices."""
    hits = 0
    held: dict[int, int] = {}  # key to its next use
    latest: list[tuple[int, int]] = []  # by next use, the latest first; may hold outdated pairs
    for key, use in zip(trace, _next_uses(trace), strict=True):
        hits += key in held
        held[key] = use
        heapq.heappush(latest, (-use, key))
        while len(held) > size:
            negative, victim = heapq.heappop(latest)
            if held.get(victim) == -negative:
                del held[victim]
    return 100 * hits / len(trace)


CONTENDERS: dict[str, Callable[[Sequence[int], int], float]] = {
    BASELINE: _lru,
    "threadkit:lru": functools.partial(_ours, policy="lru"),
    "threadkit:s3fifo": functools.partial(_ours, policy="s3fifo"),
    "theine": _theine,
    "OPT": optimal,
}


# -- the benchmark --------------------------------------------------------------------------


def _workloads(options: argparse.Namespace) -> Iterator[tuple[str, list[int], int]]:
    if options.traces is None:
        print(
            "hitratio: no --traces DIR given, so these are synthetic traces; see --help for the "
            "real ones",
            file=sys.stderr,
        )
        traces, sizes = synthetic_traces(), dict.fromkeys(("zipf", "zipf with scans"), (500, 2000))
    else:
        traces, sizes = find_traces(options.traces), SIZES
    for name, trace in traces.items():
        for size in sizes[name]:
            yield f"{name}@{size}", trace[:QUICK] if options.quick else trace, size


def build(options: argparse.Namespace) -> Benchmark:
    """The cases, by the command line."""
    bench = Benchmark("hitratio", baseline=BASELINE, packages=("cachetools", "theine"))
    totals: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for workload, trace, size in _workloads(options):
        for name, contender in CONTENDERS.items():

            def run(
                contender: Any = contender, trace: Any = trace, size: int = size, name: str = name
            ) -> float:
                ratio: float = contender(trace, size)
                totals[name].append(ratio)
                return ratio

            bench.add(name, "hit ratio", run, unit="%", workload=workload, repeats=1, warm_up=0)
    for name, ratios in totals.items():
        bench.add(
            name,
            "hit ratio",
            lambda ratios=ratios: statistics.mean(ratios),
            unit="%",
            workload="mean of the above",
            repeats=1,
            warm_up=0,
        )
    return bench


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--traces", type=Path, metavar="DIR", help="where the traces are")


if __name__ == "__main__":
    main(build, add_arguments=_add_arguments)

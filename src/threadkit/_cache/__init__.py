"""TTLCache: a bounded mapping with exact eviction and expiry, loading, and a tier of files.

* `_ttl`: the mapping people see.
* `_loading`: loads of one key and of many, refresh ahead.
* `_boarding`: single flight; `_flights` knows who waits for whom.
* `_store`: how entries come in, and expire; `_entry` is what is kept for a key.
* `_holding`: entries within a bound, under one lock: reading, evicting, removing.
* `_announcer`, `_views`: telling who listens; what `items()` and `values()` return.
* `_lru`, `_s3fifo`: who is evicted next.
* `_decorator`: `cached`.
* `_files`, `_tiered`: bytes on disk, and a memory cache before them.
* `_sweeper`: the thread that drops what expired.
* `_registry`: all caches, to be mended after a fork, and to know who is inside one.
* `_odometer`, `_clock`, `_weights`, `_statistics`, `_arguments`: counting hits, telling readings
  apart, adding weights exactly, the numbers, the checks.
"""

from threadkit._cache._decorator import cached
from threadkit._cache._files import FileTier, FileTierStatistics
from threadkit._cache._statistics import CacheStatistics, RemovalCause
from threadkit._cache._tiered import TieredCache, TieredStatistics
from threadkit._cache._ttl import TTLCache

__all__ = [
    "CacheStatistics",
    "FileTier",
    "FileTierStatistics",
    "RemovalCause",
    "TTLCache",
    "TieredCache",
    "TieredStatistics",
    "cached",
]

"""What the type checkers make of the cache. Checked, not run."""

from __future__ import annotations

from collections.abc import MutableMapping

from typing_extensions import assert_type

from threadkit import CacheStatistics, FileTier, RemovalCause, TieredCache, TTLCache, cached


def on_remove(key: str, value: int, cause: RemovalCause) -> None: ...


cache: TTLCache[str, int] = TTLCache(10, 60, on_remove=on_remove, weigher=lambda k, v: len(k) + v)
mapping: MutableMapping[str, int] = cache

assert_type(cache.get("a"), "int | None")
assert_type(cache.get("a", 5), int)
assert_type(cache.get("a", "x"), "int | str")
assert_type(cache["a"], int)
assert_type(cache.pop("a"), int)
assert_type(cache.pop("a", None), "int | None")
assert_type(cache.popitem(), "tuple[str, int]")
assert_type(cache.peek("a"), "int | None")
assert_type(cache.load("a", len), int)
assert_type(cache.load_many(["a"], lambda keys: dict.fromkeys(keys, 1)), "dict[str, int]")
assert_type(cache.get_many(["a"]), "dict[str, int]")
assert_type(cache.coldest(3), "list[str]")
assert_type(cache.statistics(), CacheStatistics)
assert_type(cache.ttl, "float | None")
for key in cache:
    assert_type(key, str)

cache.put("a", "text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cache.load("a", str.upper)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
TTLCache[str, int](10, policy="fifo")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def load() -> None:
    async def loader(key: str) -> int:
        return len(key)

    assert_type(await cache.aload("a", loader), int)
    assert_type(await cache.aload("a", len), int)


@cached(TTLCache[object, int](10))
def add(left: int, right: int = 1) -> int:
    return left + right


assert_type(add(1, right=2), int)
add("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Room:
    def __init__(self) -> None:
        self.cache: TTLCache[object, str] = TTLCache(10)

    @cached(lambda self: self.cache)
    def greet(self, name: str) -> str:
        return name


assert_type(Room().greet("Ann"), str)

audio = TieredCache(TTLCache[str, bytes](10), FileTier("folder", max_bytes=1000))
assert_type(audio.get("a"), "bytes | None")
assert_type(audio.load("a", str.encode), bytes)
audio.put("a", "text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

"""What `items()` and `values()` return: views whose iteration is a snapshot, and no read."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from typing import TYPE_CHECKING, Any, TypeVar, cast

from threadkit._cache._entry import NOTHING

if TYPE_CHECKING:
    from threadkit._cache._ttl import TTLCache

__all__ = ["LiveItems", "LiveValues"]

K = TypeVar("K")
V = TypeVar("V")


class LiveItems(ItemsView[K, V]):
    """The live keys and values. Looking at them is no read: no recency, no statistics."""

    __slots__ = ()

    _mapping: TTLCache[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return iter(self._mapping._live_items())  # noqa: SLF001 - of one package

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple):
            return False
        try:
            key, value = cast("tuple[Any, Any]", item)
        except ValueError:
            return False
        found: Any = self._mapping.peek(key, NOTHING)
        return found is value or bool(found == value)


class LiveValues(ValuesView[V]):
    """The live values. Looking at them is no read."""

    __slots__ = ()

    _mapping: TTLCache[Any, V]

    def __iter__(self) -> Iterator[V]:
        return iter([value for _key, value in self._mapping._live_items()])  # noqa: SLF001

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)

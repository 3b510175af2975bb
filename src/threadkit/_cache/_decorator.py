"""`cached`: remember what a function, method or coroutine function returned."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from cachetools.keys import hashkey, methodkey
from typing_extensions import ParamSpec

from threadkit._cache._arguments import a_callable
from threadkit._cache._entry import NOTHING
from threadkit._cache._ttl import TTLCache

__all__ = ["cached"]

P = ParamSpec("P")
R = TypeVar("R")


def cached(
    cache: TTLCache[Any, Any] | Callable[[Any], TTLCache[Any, Any] | None],
    key: Callable[..., Any] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Remember results in `cache`; of callers with equal arguments one runs, the others wait.

    >>> @cached(TTLCache(maxsize=100, ttl=60))
    ... def shout(text):
    ...     print("working")
    ...     return text.upper()
    >>> shout("hello"), shout("hello")
    working
    ('HELLO', 'HELLO')
    >>> shout.cache.statistics().hits
    1

    A method may share one cache, which then holds the instances as parts of its keys; or keep
    one in each instance:

    >>> class Room:
    ...     def __init__(self):
    ...         self.cache = TTLCache(maxsize=100)
    ...     @cached(lambda self: self.cache)
    ...     def greeting(self, name):
    ...         return f"Welcome, {name}!"
    >>> Room().greeting("Ann")
    'Welcome, Ann!'

    Errors go to everyone who waits and are not remembered; the function may not call itself with
    equal arguments (`LoadCycle`). `refresh_after`, `stale_if_error` and `negative_ttl` of the
    cache apply. A hit takes no lock.

    Thread safety: as `TTLCache.load`.

    Args:
        cache: Where results are kept; or, for methods, a function from the instance to its cache
            (None for no caching).
        key: From the arguments to the key. By default `cachetools.keys.hashkey`, and `methodkey`,
            which leaves the instance out, where each instance has its cache.

    Returns:
        A decorator. What it returns has the attributes `cache`, `cache_key` and `__wrapped__`.
    """
    if isinstance(cache, TTLCache):
        key_of, cache_of = hashkey if key is None else a_callable("key", key), None
    else:
        cache_of = a_callable("cache", cache)
        key_of = methodkey if key is None else a_callable("key", key)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        is_async = inspect.iscoroutinefunction(function)
        if cache_of is not None:
            wrapper = (_async_method if is_async else _method)(function, cache_of, key_of)
        else:
            wrapper = (_async_function if is_async else _function)(function, cache, key_of)
        functools.update_wrapper(wrapper, function)
        wrapper.cache = cache
        wrapper.cache_key = key_of
        return wrapper  # type: ignore[no-any-return]

    return decorate


# A hit shall not pay for a closure, so the loader is put together only when it is needed.


def _call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], _key: Any
) -> Any:
    """A loader: the decorated function with the arguments it was called with."""
    return function(*args, **kwargs)


def _function(function: Callable[..., Any], cache: Any, key_of: Callable[..., Any]) -> Any:
    fresh, load = cache._fresh, cache.load  # noqa: SLF001 - of one package

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        key = key_of(*args, **kwargs)
        value = fresh(key)
        if value is not NOTHING:
            return value
        return load(key, functools.partial(_call, function, args, kwargs))

    return wrapper


def _async_function(function: Callable[..., Any], cache: Any, key_of: Callable[..., Any]) -> Any:
    load = cache.aload

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        loader = functools.partial(_call, function, args, kwargs)
        return await load(key_of(*args, **kwargs), loader)

    return wrapper


def _method(
    function: Callable[..., Any], cache_of: Callable[..., Any], key_of: Callable[..., Any]
) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        cache = cache_of(args[0])
        if cache is None:
            return function(*args, **kwargs)
        loader = functools.partial(_call, function, args, kwargs)
        return cache.load(key_of(*args, **kwargs), loader)

    return wrapper


def _async_method(
    function: Callable[..., Any], cache_of: Callable[..., Any], key_of: Callable[..., Any]
) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        cache = cache_of(args[0])
        if cache is None:
            return await function(*args, **kwargs)
        loader = functools.partial(_call, function, args, kwargs)
        return await cache.aload(key_of(*args, **kwargs), loader)

    return wrapper

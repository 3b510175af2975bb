"""Who needs whom: orders, closures and circles. Pure functions of a mapping of names to needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from threadkit._errors import DependencyCycle

Needs = Mapping[str, tuple[str, ...]]


def plan_order(manager: str, needs: Needs) -> list[str]:
    """What is needed before what needs it; otherwise in the order of the mapping.

    A depth-first walk with a stack of its own, for a chain may be longer than the interpreter's.

    Raises:
        ValueError: Something needs a name nobody has.
        DependencyCycle: Components need one another in a circle.
    """
    order: list[str] = []
    placed: set[str] = set()
    for root in needs:
        path: dict[str, list[str]] = {}  # name on the way down -> the needs not looked at yet
        _enter(manager, root, needs, path)
        while path:
            name, left = next(reversed(path.items()))
            if name in placed or not left:
                path.popitem()
                if name not in placed:
                    placed.add(name)
                    order.append(name)
            elif (need := left.pop(0)) not in placed:
                _enter(manager, need, needs, path, needed_by=name)
    return order


def _enter(
    manager: str, name: str, needs: Needs, path: dict[str, list[str]], needed_by: str = ""
) -> None:
    if name not in needs:
        raise ValueError(f"{manager}: component {needed_by!r} needs {name!r}, which is unknown")
    if name in path:
        names = list(path)
        raise DependencyCycle(component=manager, cycle=[*names[names.index(name) :], name])
    path[name] = list(needs[name])


def dependents_of(needs: Needs) -> dict[str, tuple[str, ...]]:
    """Who needs each name directly."""
    dependents: dict[str, list[str]] = {name: [] for name in needs}
    for name, needed in needs.items():
        for need in needed:
            dependents[need].append(name)
    return {name: tuple(users) for name, users in dependents.items()}


def closure(names: Iterable[str], edges: Needs) -> set[str]:
    """`names` and all that can be reached from them."""
    reached: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += edges[name]
    return reached

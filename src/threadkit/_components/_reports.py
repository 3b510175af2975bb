"""What a manager says of its components: as text, as a dict, as a Mermaid graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from threadkit._components._states import ComponentState


@dataclass(frozen=True)
class ComponentReport:
    """One component at one moment.

    Attributes:
        name: Its name in the manager.
        state: Where it is in its life.
        needs: Names of what it needs.
        uptime: Seconds since it became ready; 0 when it is not running.
        error: The last thing that went wrong, as text.
        generation: How many instances there were.
        restarts: How many of these replaced one that failed or was told to restart.
        doing: Label of its last beat.
        stuck_at: Where the thread stands that did not start or stop it in time, as
            `FILE:LINE in NAME`, where that can be told.
        figures: Figures of a pool or a cache.
        group: The report of a nested manager.
    """

    name: str
    state: ComponentState
    needs: tuple[str, ...]
    uptime: float
    error: str | None
    generation: int = 0
    restarts: int = 0
    doing: str | None = None
    stuck_at: str | None = None
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    group: ManagerReport | None = None

    def _line(self) -> str:
        parts = [f"{self.name}: {self.state.value} {self.uptime:.1f} s"]
        if self.needs:
            parts.append(f"needs {', '.join(self.needs)}")
        if self.restarts:
            parts.append(f"restarts {self.restarts}")
        parts += [f"{name} {value:g}" for name, value in self.figures.items()]
        if self.doing:
            parts.append(f"doing {self.doing}")
        if self.error:
            parts.append(f"({self.error})")
        if self.stuck_at:
            parts.append(f"at {self.stuck_at}")
        return " ".join(parts)


@dataclass(frozen=True)
class ManagerReport:
    """All components of a manager at one moment, each after all it needs.

    `str(report)` is a tree, `as_dict()` for machines, `as_mermaid()` a graph.
    """

    name: str
    components: tuple[ComponentReport, ...]

    @property
    def abandoned(self) -> tuple[str, ...]:
        """Names of those that did not stop in time, those of groups with their group's."""
        return tuple(
            f"{path}{part.name}"
            for path, part in self._walk("")
            if part.state is ComponentState.ABANDONED
        )

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of those that failed and were not restarted."""
        return tuple(
            f"{path}{part.name}"
            for path, part in self._walk("")
            if part.state is ComponentState.FAILED
        )

    def _walk(self, path: str) -> Iterator[tuple[str, ComponentReport]]:
        for part in self.components:
            yield path, part
            if part.group is not None:
                yield from part.group._walk(f"{path}{part.name}/")  # noqa: SLF001 - same class

    def __str__(self) -> str:
        return "\n".join((f"{self.name}:", *self._lines("  ")))

    def _lines(self, indent: str) -> Iterator[str]:
        for part in self.components:
            yield indent + part._line()  # noqa: SLF001 - same room
            if part.group is not None:
                yield from part.group._lines(indent + "  ")  # noqa: SLF001 - same class

    def as_dict(self) -> dict[str, Any]:
        """The report as plain dicts, lists, strings and numbers."""
        return {
            "name": self.name,
            "components": [
                {
                    **{
                        field.name: getattr(part, field.name)
                        for field in dataclasses.fields(part)
                        if field.name not in {"state", "needs", "figures", "group"}
                    },
                    "state": part.state.value,
                    "needs": list(part.needs),
                    "figures": dict(part.figures),
                    "group": part.group.as_dict() if part.group is not None else None,
                }
                for part in self.components
            ],
        }

    def as_mermaid(self) -> str:
        """The graph of needs for Mermaid, each component with its state."""
        return "\n".join(("graph TD", *self._mermaid("n")))

    def _mermaid(self, prefix: str) -> Iterator[str]:
        ids = {part.name: f"{prefix}{number}" for number, part in enumerate(self.components)}
        for part in self.components:
            label = f"{part.name}<br>{part.state.value}".replace('"', "'")
            if part.group is None:
                yield f'  {ids[part.name]}["{label}"]:::{part.state.value}'
            else:
                yield f'  subgraph {ids[part.name]}["{label}"]'
                yield from part.group._mermaid(f"{ids[part.name]}_")  # noqa: SLF001 - same class
                yield "  end"
        for part in self.components:
            for need in part.needs:
                yield f"  {ids[part.name]} --> {ids[need]}"


def unfinished(report: ManagerReport) -> str:
    """Who has not stopped, and where it stands, for people."""
    return ", ".join(
        f"{path}{part.name} is {part.state.value}"
        + (f" at {part.stuck_at}" if part.stuck_at else "")
        for path, part in report._walk("")  # noqa: SLF001 - same room
        if part.group is None and (part.state.is_up or part.state is ComponentState.ABANDONED)
    )

"""Curves over the last minutes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nicegui import ui

from livebot.history import Sample

__all__ = ["Curves"]

_POINTS = 120
_COLOURS = ("#5b78f0", "#2fae82", "#e09a3a", "#d9637a", "#8a63d2", "#5fb3ce")
_INK = "#8791a3"  # readable by day and by night
_LINE = "rgba(135, 145, 163, 0.18)"


class Curves:
    """Some figures of the history, drawn over time.

    Args:
        curves: Name of each figure, and what to call it. The second of two that are called the same
            is dashed.
        stepped: Whether values jump, as sizes do.
    """

    def __init__(self, curves: Mapping[str, str], *, stepped: bool = False) -> None:
        self._figures = tuple(curves)
        self._last_at = 0.0
        self._chart: Any = ui.echart(_options(curves, stepped)).classes("lb-chart")

    def draw(self, samples: Sequence[Sample]) -> None:
        """Draw them, where there are newer ones than before."""
        if not samples or samples[-1].at == self._last_at:
            return
        self._last_at = samples[-1].at
        step = -(-len(samples) // _POINTS)
        kept = samples[::-1][::step][::-1]  # counted from the newest, so that it is among them
        for figure, series in zip(self._figures, self._chart.options["series"], strict=True):
            series["data"] = [
                [round(sample.at * 1000), round(sample.figures[figure], 3)]
                for sample in kept
                if figure in sample.figures
            ]
        self._chart.update()


def _options(curves: Mapping[str, str], stepped: bool) -> dict[str, Any]:
    names = list(dict.fromkeys(curves.values()))
    axis = {
        "axisLabel": {"color": _INK, "hideOverlap": True},
        "splitLine": {"lineStyle": {"color": _LINE}},
        "axisLine": {"lineStyle": {"color": _LINE}},
    }
    return {
        "animation": False,
        "grid": {"left": 8, "right": 30, "top": 34, "bottom": 4, "containLabel": True},
        "legend": {
            "type": "scroll",
            "data": names,
            "icon": "circle",
            "itemWidth": 9,
            "textStyle": {"color": _INK},
            "top": 0,
            "left": 0,
        },
        "tooltip": {"trigger": "axis", "confine": True},
        "xAxis": {"type": "time", **axis, "splitLine": {"show": False}},
        "yAxis": {"type": "value", "min": 0, "minInterval": 1 if stepped else 0, **axis},
        "series": [
            _line(name, _COLOURS[names.index(name) % len(_COLOURS)], stepped, dashed)
            for name, dashed in _dashes(curves)
        ],
    }


def _dashes(curves: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    seen: set[str] = set()
    for name in curves.values():
        yield name, name in seen
        seen.add(name)


def _line(name: str, colour: str, stepped: bool, dashed: bool) -> dict[str, Any]:
    return {
        "name": name,
        "type": "line",
        "step": "end" if stepped else False,
        "showSymbol": False,
        "itemStyle": {"color": colour},
        "lineStyle": {
            "width": 1 if dashed else 2,
            "type": "dashed" if dashed else "solid",
            "color": colour,
        },
        "data": [],
    }

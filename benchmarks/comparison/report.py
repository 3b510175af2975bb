"""One HTML page that stands alone: tables of regrets, lines over time, the recommendation."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.comparison.measures import Run

__all__ = ["Section", "page", "regret_table"]

COLOURS = ("#0b6e4f", "#c1121f", "#1d4e89", "#e09f3e", "#6a4c93", "#3a3a3a", "#d81159", "#218380")
PANELS = (("workers", 1), ("queued tasks", 2), ("oldest wait, s", 3))
WIDTH, HEIGHT, MARGIN = 340, 130, 34
GOOD, FAIR = 1.10, 1.5  # ratios to the oracle up to which a cell is green, or yellow
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } caption { text-align: left; font-weight: 600 }
td, th { padding: .15em .7em; text-align: right; font-variant-numeric: tabular-nums }
td:first-child, th:first-child { text-align: left; position: sticky; left: 0; background: #fff }
.good { background: #d8f3dc } .fair { background: #fff3bf } .bad { background: #ffd6d6 }
.wide { overflow-x: auto } svg { margin: .3em } pre { white-space: pre-wrap }
.legend span { margin-right: 1.2em } .swatch { display: inline-block; width: 1em; height: .3em }
"""


@dataclass(frozen=True)
class Section:
    """One workload's lines: a sentence, and the runs to draw."""

    title: str
    text: str
    runs: Sequence[Run]


def page(title: str, parts: Iterable[str], sections: Iterable[Section]) -> str:
    """The whole page."""
    body = "".join(parts)
    charts = "".join(_section(section) for section in sections)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>{body}"
        f"<h2>Over time</h2>{charts}</html>\n"
    )


def regret_table(
    caption: str,
    rows: Mapping[str, Mapping[str, float | None]],
    columns: Sequence[str],
    *,
    good: float = GOOD,
) -> str:
    """Contenders against workloads; None is a failure."""
    head = "".join(f"<th>{html.escape(name)}" for name in columns)
    body = "".join(
        f"<tr><td>{html.escape(name)}{''.join(_cell(row.get(c), good) for c in columns)}"
        for name, row in rows.items()
    )
    text = html.escape(caption)
    return f"<div class=wide><table><caption>{text}</caption><tr><th>{head}{body}</table></div>"


def _cell(value: float | None, good: float) -> str:
    if value is None or math.isnan(value):
        return "<td class=bad>failed"
    grade = "good" if value <= good else "fair" if value <= FAIR else "bad"
    return f"<td class={grade}>{value:.2f}" if value < 100 else f"<td class={grade}>{value:.0f}"


# -- lines ----------------------------------------------------------------------------------


def _section(section: Section) -> str:
    drawn = [run for run in section.runs if run.series]
    legend = "".join(
        f'<span><i class=swatch style="background:{colour}"></i> '
        f"{html.escape(run.contender)}</span>"
        for run, colour in zip(drawn, COLOURS, strict=False)
    )
    panels = "".join(_panel(label, column, drawn) for label, column in PANELS)
    return (
        f"<h3>{html.escape(section.title)}</h3><p>{html.escape(section.text)}"
        f"<p class=legend>{legend}<div>{panels}</div>"
    )


def _panel(label: str, column: int, runs: Sequence[Run]) -> str:
    last = max((run.series[-1][0] for run in runs), default=0.0) or 1.0
    top = max((point[column] for run in runs for point in run.series), default=0) or 1
    lines = "".join(
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.3" points="'
        f'{_points(run, column, last, top)}"><title>{html.escape(run.contender)}</title></polyline>'
        for run, colour in zip(runs, COLOURS, strict=False)
    )
    bottom = HEIGHT - 18
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{html.escape(label)}">'
        f'<path d="M{MARGIN} 14V{bottom}H{WIDTH - 4}" fill="none" stroke="#999"/>{lines}'
        f'<g font-size="10" fill="#444"><text x="{MARGIN}" y="10">{html.escape(label)}</text>'
        f'<text x="{MARGIN - 3}" y="22" text-anchor="end">{top:.3g}</text>'
        f'<text x="{MARGIN - 3}" y="{bottom}" text-anchor="end">0</text>'
        f'<text x="{WIDTH - 4}" y="{HEIGHT - 5}" text-anchor="end">{last:.3g} s</text></g></svg>'
    )


def _points(run: Run, column: int, last: float, top: float) -> str:
    """A line with steps: the size stays until it changes."""
    across, down = (WIDTH - 4 - MARGIN) / last, (HEIGHT - 34) / top
    return " ".join(
        f"{MARGIN + point[0] * across:.1f},{HEIGHT - 18 - point[column] * down:.1f}"
        for point in run.series
    )

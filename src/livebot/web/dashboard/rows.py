"""A list on the page: rows of plain text, sent when they change."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

__all__ = ["Row", "Rows"]

Row = Mapping[str, Any]
"""What `rows.js` shows of a row; `n` is its key."""


class Rows(ui.element, component="rows.js"):
    """A list of rows in the browser.

    Args:
        empty: What it says without any.
        kind: CSS classes: how tall it may be.
        limit: The most rows that `merge` keeps.
        act: Called with a row's `act` when its button is pressed.
    """

    def __init__(
        self,
        empty: str,
        *,
        kind: str = "lb-mid",
        limit: int = 200,
        act: Callable[[str], Any] | None = None,
    ) -> None:
        super().__init__()
        self.props["empty"] = empty
        self.props["kind"] = kind
        self.props["limit"] = limit
        self._shown: Sequence[Row] | None = None
        if act is not None:

            def acted(event: GenericEventArguments) -> Any:
                return act(str(event.args))

            self.on("act", acted)

    def when_drawn(self, call: Callable[[], object]) -> None:
        """Call this, each time after `ask` was called, when the browser has drawn everything."""

        def drawn(_event: GenericEventArguments) -> None:
            call()

        self.on("drawn", drawn)

    def ask(self) -> None:
        """Have the browser say when it has drawn all that was sent so far."""
        self.run_method("tell")

    def show(self, rows: Sequence[Row]) -> None:
        """Show these and no others."""
        if rows != self._shown or any("since" in row for row in rows):
            self._shown = rows
            self.run_method("replace", rows, time.time())

    def merge(self, rows: Sequence[Row]) -> None:
        """Add these, or show them anew; the newest come first."""
        if rows:
            self.run_method("merge", rows)

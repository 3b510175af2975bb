"""Shows the doctests of docstrings as code: Markdown would take `>>>` for three quotations."""

from __future__ import annotations

import re
from typing import Any

import griffe

_BLOCK = re.compile(r"^([ \t]*)>>> (?:.*\n?)(?:(?!\s*$).*\n?)*", re.MULTILINE)


class DoctestFences(griffe.Extension):
    """Puts a fence round every block of doctest lines before Markdown sees it."""

    def on_instance(self, *, obj: griffe.Object, **_kwargs: Any) -> None:
        """Called by griffe with each object it has loaded."""
        if obj.docstring is not None:
            obj.docstring.value = _BLOCK.sub(_fenced, obj.docstring.value)


def _fenced(block: re.Match[str]) -> str:
    indent = block[1]
    return f"{indent}```pycon\n{block[0].rstrip()}\n{indent}```\n"

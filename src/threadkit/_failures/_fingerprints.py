"""What failures of one origin have in common, whatever their line numbers and ids.

Two occurrences share a fingerprint when the same type of exception came out of the same functions
of the application; a release that moves lines does not split a group. Where no frame belongs to
the application, the message speaks instead, without its numbers (the approach of error trackers
such as Sentry).
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
import sysconfig
from pathlib import Path
from types import TracebackType
from typing import Literal

from threadkit._failures._grading import members_of

_MAX_LINKS = 4  # causes that count, and members of a group: enough to tell two stories apart
_MAX_MESSAGE = 200  # characters that count

_VARYING = re.compile(
    r"(?P<id>\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"  # UUID
    r"|\b0x[0-9a-fA-F]+\b"  # address
    r"|\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b)"  # digest
    r"|\d+(?:\.\d+)?"
)


def fingerprint_of(exc: BaseException, traceback: TracebackType | None) -> str:
    """`TypeName-0123456789abcdef`: readable, and the same in every process."""
    parts: list[str] = []
    _describe(exc, traceback, parts, _MAX_LINKS)
    digest = hashlib.blake2b("\n".join(parts).encode("utf-8", "replace"), digest_size=8)
    return f"{type(exc).__qualname__}-{digest.hexdigest()}"


def _describe(
    exc: BaseException, traceback: TracebackType | None, parts: list[str], links: int
) -> None:
    """Add what identifies an exception, its explicit causes and its members."""
    cls = type(exc)
    parts.append(f"{cls.__module__}.{cls.__qualname__}")
    parts += _functions(traceback) or [_normalised_message(exc)]
    if links == 0:
        return
    for linked in (*members_of(exc)[:_MAX_LINKS], exc.__cause__):
        if linked is not None:
            _describe(linked, linked.__traceback__, parts, links - 1)


def _functions(traceback: TracebackType | None) -> list[str]:
    """The application's functions, or else the libraries', outermost first.

    Each once, so that the depth of a recursion does not matter. Libraries speak where there is
    no application, because an application installed with pip lies among them.
    """
    application: dict[str, None] = {}
    libraries: dict[str, None] = {}
    while traceback is not None:
        frame = traceback.tb_frame
        code = frame.f_code
        owner = _owner(code.co_filename)
        if owner != "interpreter":
            name = code.co_qualname if sys.version_info >= (3, 11) else code.co_name
            functions = application if owner == "application" else libraries
            functions[f"{frame.f_globals.get('__name__')}.{name}"] = None
        traceback = traceback.tb_next
    return list(application or libraries)


def _normalised_message(exc: BaseException) -> str:
    try:
        message = str(exc)
    except Exception:  # noqa: BLE001 - user code: its __str__
        return ""
    return _VARYING.sub(lambda found: "<id>" if found["id"] else "<n>", message[:_MAX_MESSAGE])


@functools.lru_cache(maxsize=4096)
def _owner(filename: str) -> Literal["application", "library", "interpreter"]:
    """Whose file it is; our own count as the interpreter's, for they tell no story."""
    if filename.startswith("<"):
        return "interpreter" if filename.startswith(("<frozen", "<string")) else "application"
    if filename.startswith(_OURS):
        return "interpreter"
    if filename.startswith(_LIBRARIES):
        return "library"
    return "interpreter" if filename.startswith(_INTERPRETER) else "application"


def _folders(*keys: str) -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({paths[key] + os.sep for key in keys if key in paths})


_OURS = str(Path(__file__).parent.parent) + os.sep
_LIBRARIES = _folders("purelib", "platlib")  # inside the next on most systems
_INTERPRETER = _folders("stdlib", "platstdlib")

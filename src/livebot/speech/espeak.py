"""espeak-ng: where its library and data are, and an engine that calls it in this process."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["EspeakFiles", "espeak_files"]


@dataclass(frozen=True, slots=True)
class EspeakFiles:
    """The library to load and the directory of its voices."""

    library: str
    data: str


@functools.cache
def espeak_files() -> EspeakFiles | None:
    """The espeak-ng 1.52 that comes with `espeakng-loader`, or None where there is none.

    Debian's own 1.51 reads Mandarin with the tone numbers in English.
    """
    try:
        espeakng_loader: Any = importlib.import_module("espeakng_loader")
    except ImportError:
        return None
    library = str(espeakng_loader.get_library_path())
    data = str(espeakng_loader.get_data_path())
    if not (Path(library).exists() and Path(data).exists()):
        return None
    return EspeakFiles(library, data)

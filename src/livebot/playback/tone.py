"""A tone to test the sound with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Tone"]

_LOUDNESS = 8000  # of 32767


@dataclass(frozen=True, slots=True)
class Tone:
    """A quarter of a second at 440 Hz, fading at both ends.

    >>> len(Tone().pcm)  # two bytes a sample
    11024
    """

    text: str = "test tone"
    sample_rate: int = 22050

    @property
    def pcm(self) -> bytes:
        """Its samples."""
        at = np.arange(self.sample_rate // 4) / self.sample_rate
        envelope = np.sin(np.pi * at / at[-1])
        samples: np.ndarray[Any, Any] = _LOUDNESS * envelope * np.sin(2 * np.pi * 440 * at)
        return samples.astype(np.int16).tobytes()

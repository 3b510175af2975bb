"""What is being said, in a text file that OBS shows as subtitles."""

from __future__ import annotations

import logging
from pathlib import Path

__all__ = ["SubtitleFile"]

logger = logging.getLogger("livebot.playback")


class SubtitleFile:
    """Keeps a file that holds the sentence that is heard, and nothing between sentences.

    In OBS: a text source with "read from file". A reader sees a whole sentence or none, because
    the file is replaced, not rewritten. A disk that refuses is logged once and costs only the
    subtitles. Half a character (a lone surrogate) is shown as a question mark.

    Thread safety: for one thread, the player's.

    Lifetime: `show` from the first sentence on; `clear` leaves an empty file.

    Args:
        path: The file; its directory must exist.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._complained = False

    def show(self, text: str) -> None:
        """Replace what the file holds."""
        try:
            self._replace(text)
        except OSError as exc:
            if not self._complained:
                logger.warning("no subtitles: cannot write %s: %s", self._path, exc)
            self._complained = True
        else:
            self._complained = False

    def clear(self) -> None:
        """Leave nothing in the file."""
        self.show("")

    def _replace(self, text: str) -> None:
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_text(text, encoding="utf-8", errors="replace")
        try:
            new.replace(self._path)
        except PermissionError:  # on Windows, while a reader has the file open
            self._path.write_text(text, encoding="utf-8", errors="replace")
            new.unlink()

"""Rooms as JSON lines: read them, record any feed.

Two formats are read. Our own has one event a line, `{"t": seconds, ...}` and what
`livebot.messages.to_record` makes of the event, after a line that names the format. The other is
the column format of public recorders: see `columns`.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TextIO, cast

from typing_extensions import Self

from livebot.messages import Event, from_record, to_record
from livebot.sources.columns import Columns
from threadkit import REAL, Runtime

__all__ = ["Recorder", "busy_room", "read_recording", "shipped_room"]

_FORMAT = "livebot-recording"
_VERSION = 1


def shipped_room() -> Path:
    """The small recorded room that comes with the package, for demonstrations and tests."""
    return Path(str(resources.files("livebot") / "data" / "room.jsonl"))


def busy_room() -> Path:
    """Its ten busiest minutes, which come with the package too; see the README beside it."""
    return Path(str(resources.files("livebot") / "data" / "room-10min.jsonl.gz"))


def read_recording(path: str | Path) -> Iterator[tuple[float, Event]]:
    """The events of a recorded room, each with its time in seconds since the start.

    Args:
        path: A file of JSON lines, in either format; empty lines are skipped. One whose name ends
            in .gz is unpacked.

    Raises:
        ValueError: A line cannot be read; says which, and why.
        OSError: The file cannot.
    """
    columns = Columns()
    number = 0
    with _lines_of(Path(path)) as lines:
        try:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                item = _read_line(line, number, columns)
                if item is not None:
                    yield item
        except RecursionError:
            raise ValueError(f"{path}, line {number}: nested too deeply") from None
        except UnicodeDecodeError:
            raise ValueError(f"{path}, after line {number}: not UTF-8") from None
        except (EOFError, zlib.error) as exc:
            raise ValueError(f"{path}, after line {number}: {exc}") from None
        except ValueError as exc:
            raise ValueError(f"{path}, line {number}: {exc}") from None


def _lines_of(path: Path) -> TextIO:
    # Editors on Windows begin a file with a mark, which is no part of its text.
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def _read_line(line: str, number: int, columns: Columns) -> tuple[float, Event] | None:
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError(  # noqa: TRY004 - a wrong file, not a wrong call
            f"must be a JSON object, not {type(record).__name__}"
        )
    record = cast("dict[str, Any]", record)
    if "format" in record:
        _check_header(record)
        return None
    t = record.get("t")
    if isinstance(t, bool) or not isinstance(t, (int, float)) or not 0 <= t < float("inf"):
        raise ValueError(f"t must be seconds since the start, not {t!r}")
    event = from_record(record) if "kind" in record else columns.read(float(t), record, number)
    return float(t), event


def _check_header(record: Mapping[str, Any]) -> None:
    if (record["format"], record.get("version")) != (_FORMAT, _VERSION):
        raise ValueError(
            f"format must be {_FORMAT!r} version {_VERSION}, "
            f"not {record['format']!r} version {record.get('version')!r}"
        )


# -- writing ------------------------------------------------------------------------------------


class Recorder:
    """Writes events to a file that `read_recording` reads.

    ```
    with Recorder("evening.jsonl") as recorder:
        ...
        recorder.record(event)
    ```

    Thread safety: any thread may record; lines never mix.

    Lifetime: whoever makes it closes it. A file that exists is replaced.

    Args:
        path: Of the file to write.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: str | Path, *, runtime: Runtime = REAL) -> None:
        self._monotonic = runtime.monotonic
        # Guards the file, the start and the count; held while one line goes to a buffered file.
        self._lock = runtime.lock()
        self._file: TextIO | None = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 - closed by close
        self._started_at: float | None = None
        self._count = 0
        self._write({"format": _FORMAT, "version": _VERSION, "started": round(runtime.time(), 3)})

    def record(self, event: Event) -> None:
        """Write one event, timed by when it was received.

        Raises:
            ValueError: The recorder is closed.
        """
        at = event.received_at or self._monotonic()
        with self._lock:
            if self._started_at is None:
                self._started_at = at
            t = round(max(0.0, at - self._started_at), 3)
            self._write({"t": t, **to_record(event)})
            self._count += 1

    @property
    def count(self) -> int:
        """How many events were written."""
        return self._count

    def close(self) -> None:
        """Finish the file. Harmless when it is closed already."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        if self._file is None:
            raise ValueError("the recorder is closed")
        self._file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")

"""A batch of texts, shared out among a few threads, each result in its own place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from livebot.speech.engines import Speech, SpeechError
from threadkit import Runtime

__all__ = ["Batch"]


class Batch:
    """Texts to be spoken and what became of each.

    Thread safety: any thread may call any method.

    Lifetime: `finish` ends it; a thread that is still at work then throws its result away.

    Args:
        texts: In the order in which results are wanted.
        runtime: The lock.
    """

    def __init__(self, texts: Sequence[str], runtime: Runtime) -> None:
        self._texts = texts
        # Guards all below; bookkeeping only. Notified when the last result came; `finish` waits.
        self._done = runtime.condition(runtime.lock())
        self._results: list[Speech | SpeechError | None] = [None] * len(texts)
        self._next = 0
        self._missing = len(texts)
        self._closed = False

    def work(self, synthesize: Callable[[str], Speech]) -> None:
        """Speak texts until none is left. Every worker thread calls this."""
        while (index := self._take()) is not None:
            text = self._texts[index]
            try:
                result: Speech | SpeechError = synthesize(text)
            except SpeechError as error:
                result = error
            except Exception as exc:  # noqa: BLE001 - one text's failure belongs to it alone
                result = SpeechError("engine error", text=text, detail=repr(exc))
                result.__cause__ = exc
            self._put(index, result)

    def finish(self, timeout: float | None) -> list[Speech | SpeechError]:
        """The results, after `timeout` seconds at most; what is missing then is a "timeout"."""
        with self._done:
            self._done.wait_for(lambda: not self._missing, timeout)
            self._closed = True
            return [
                SpeechError("timeout", text=text, detail="the batch ended")
                if result is None
                else result
                for text, result in zip(self._texts, self._results, strict=True)
            ]

    def _take(self) -> int | None:
        with self._done:
            if self._closed or self._next == len(self._texts):
                return None
            self._next += 1
            return self._next - 1

    def _put(self, index: int, result: Speech | SpeechError) -> None:
        with self._done:
            self._results[index] = result
            self._missing -= 1
            if not self._missing:
                self._done.notify_all()

"""The composition root: the one room that knows every part and wires them together.

    source thread -> message queue -> processing pool -> text queue -> speech pool -> player thread

Every arrow is bounded, and whatever does not get through is counted in the `Ledger` with its
reason: several times more arrives than can be spoken, so shedding is the normal state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from livebot.answering import Answering
from livebot.config import FeedSettings, Settings, waits_for_restart
from livebot.controls import Controls
from livebot.ledger import Entry, Ledger
from livebot.messages import Event
from livebot.moderation import LEVELS
from livebot.resources import Resources
from livebot.sources import SOURCES, Endpoint, FeedOptions, FeedState, SourceStatistics
from livebot.speaking import Speaking, weigh_audio
from livebot.stages import AsyncMessageHandler, MessageHandler
from livebot.view import Snapshot, View
from livebot.viewer import Viewer
from threadkit import (
    REAL,
    Backoff,
    ComponentManager,
    Context,
    DynamicThreadPool,
    ErrorLog,
    Intensity,
    LoggingSink,
    MessageQueue,
    QueueClosed,
    Runtime,
)

__all__ = ["LiveBot"]

logger = logging.getLogger("livebot")


class LiveBot:
    """One live room, heard: wires the parts and gives them to a `ComponentManager`.

    Thread safety: `snapshot` and `update` from any thread; `run` in the main thread.

    Lifetime: `run` once.

    Args:
        url: The room's WebSocket address, or a callable that says where the room is now.
        settings: Everything that can be tuned.
        source: Makes what is read instead of `url`, given `emit`, `on_state` and `runtime`.
        wav: A file to speak into, in real time; None means the sound device.
        feed_needs: Components of `manager`, added later, that the feed needs.
        runtime: Where clock, locks and threads come from.

    Raises:
        ValueError: A rule of moderation makes no sense.
    """

    def __init__(
        self,
        url: str | Callable[[], Endpoint] = "",
        *,
        settings: Settings,
        source: Callable[..., Feed] | None = None,
        wav: Path | None = None,
        feed_needs: Iterable[str] = (),
        runtime: Runtime = REAL,
    ) -> None:
        self._settings = settings  # of the start, which what cannot change is still as in
        self._runtime = runtime
        self._began_at = runtime.monotonic()
        self._broadcast_ended = False
        self._refused_by_room = False
        self.errors = ErrorLog("livebot", runtime=runtime)
        self.resources = Resources(
            stall=max(_STALL, settings.model.timeout + _GRACE), runtime=runtime
        )
        self.manager = self._new_manager()
        self._ledger = Ledger(on_settled=self._settled, runtime=runtime)
        self._messages = self._new_message_queue(settings.pipeline.message_queue_size)
        pools = self._pools(settings)
        self.speaking = Speaking(
            settings,
            ledger=self._ledger,
            errors=self.errors,
            pool=pools["tts"],
            cache=self.manager.cache(
                "audio", maxsize=settings.voice.cache_bytes, weigher=weigh_audio
            ),
            wav=wav,
            runtime=runtime,
        )
        self.answering = Answering(
            settings,
            ledger=self._ledger,
            errors=self.errors,
            model_pool=pools["model"],
            expect=self.speaking.prefetch,
            say=self.speaking.say,
            runtime=runtime,
        )
        handler = _HANDLERS[settings.pipeline.handler](
            self._messages,
            pools["processing"],
            self.answering.answer,
            self._ledger.drop,
            runtime=runtime,
        )
        make_source = source or _reader(url, settings.feed)
        self._source = make_source(emit=self._receive, on_state=self._feed_changed, runtime=runtime)
        self.controls = Controls(
            settings,
            manager=self.manager,
            ledger=self._ledger,
            speaking=self.speaking,
            answering=self.answering,
            runtime=runtime,
        )
        self._viewer = self._new_viewer()
        self.history = self._viewer.history
        self._wire(handler, [*feed_needs])

    def _new_manager(self) -> ComponentManager:
        return ComponentManager(
            "livebot",
            governor=self.resources.governor,
            watchdog=self.resources.watchdog,
            intensity=_PATIENT,
            on_exhausted="give_up",
            errors=self.errors,
            runtime=self._runtime,
        )

    def _new_message_queue(self, maxsize: int) -> MessageQueue[Entry]:
        return MessageQueue(
            maxsize=maxsize,
            overflow="drop_lowest",
            on_drop=self._ledger.dropper("message queue"),
            levels=LEVELS,
            name="messages",
            runtime=self._runtime,
        )

    def _new_viewer(self) -> Viewer:
        return Viewer(
            snapshot=self.snapshot,
            manager=self.manager,
            ledger=self._ledger,
            speaking=self.speaking,
            errors=self.errors,
            messages=self._messages,
            controls=self.controls,
            monitor=self.resources.monitor,
            watches=self.resources.watches,
            runtime=self._runtime,
        )

    def _pools(self, settings: Settings) -> dict[str, DynamicThreadPool]:
        """The threads that do the work, by what they do."""
        shared: dict[str, Any] = {"errors": self.errors, "stop_timeout": 2}
        voices, parallel = settings.voice.workers, settings.model.parallel
        workers = settings.pipeline.processing_workers
        return {
            "tts": self.manager.pool(
                "tts", max_workers=voices, levels=2, needs=["speech"], **shared
            ),
            "model": self.manager.pool(
                "model", max_workers=parallel, needs=["combos"], queue_limit=parallel,
                overflow="reject", **shared,
            ),
            "processing": self.manager.pool(
                "processing", max_workers=workers, needs=["answers"], queue_limit=4 * workers,
                overflow="block", **shared,
            ),
        }  # fmt: skip

    def _wire(self, handler: MessageHandler | AsyncMessageHandler, feed_needs: list[str]) -> None:
        """Who needs whom: started in this order, stopped in the reverse of it."""
        add, speaking, answering = self.manager.add, self.speaking, self.answering
        # Without these there is no bot. Every other part may stay away, and the voice goes on.
        vital: dict[str, Any] = {"essential": True, "backoff": _SOON}
        add("errors", _Errors(self.errors))
        add("player", speaking.player, needs=["errors"], **vital)
        add("speech", speaking.speech, needs=["player"], **vital)
        add("voice", speaking.voice, needs=["tts"], **vital)
        add("combos", answering.moderator, needs=["voice"], **vital)
        # Stopped before its pool, so that no worker is left waiting for the model.
        add("answers", answering, needs=["model"], **vital)
        add("messages", handler, needs=["processing"], **vital)
        self.manager.service("history", self.history.run, needs=["messages"])
        add("source", self._source, needs=["messages", *feed_needs], **vital)

    def update(self, settings: Settings) -> None:
        """Use what can change while the bot runs, and say what waits for the next start.

        That is moderation, replies, the model but for `parallel` and `stall`, and the voice's
        volume, rate, hurry and device. Another model begins with fresh counts, and answers under
        way of the old one are cut off.

        Raises:
            ValueError: A rule of moderation makes no sense; nothing has changed then.
        """
        self.controls.update(settings)
        waiting = waits_for_restart(self._settings, settings)
        if waiting:
            logger.warning("%s: takes effect with the next start", ", ".join(waiting))

    def run(self, *, seconds: float | None = None, grace: float = 8.0) -> int:
        """Work until a signal, the end of the broadcast, or for `seconds`; then stop in order.

        Args:
            seconds: How long to work at most.
            grace: Seconds that stopping may take; less than the 10 that `docker stop` waits.

        Returns:
            The exit code: 0 after an orderly stop, 1 when the room refused us, or a part failed
            for good or did not stop in time: a log line says which.
        """
        if seconds is not None:
            self.manager.service("clock", lambda ctx: self._ring_after(ctx, seconds))
        return self.manager.run(grace=grace) or int(self._refused_by_room)

    def _ring_after(self, ctx: Context, seconds: float) -> None:
        if ctx.sleep(seconds):
            self.manager.request_stop()

    def snapshot(self) -> Snapshot:
        """What every part says of itself now. It never slows the pipeline."""
        return Snapshot(
            seconds=self._runtime.monotonic() - self._began_at,
            ledger=self._ledger.statistics(),
            source=self._source.statistics(),
            player=self.speaking.player.statistics(),
            speech=self.speaking.speech.statistics(),
            model=self.answering.model_statistics(),
        )

    def view(self) -> View:
        """Everything there is to see, for pages: built at most ten times a second."""
        return self._viewer.view()

    @property
    def queues(self) -> tuple[MessageQueue[Entry], ...]:
        """The two queues on the way: before the processing pool, and before the voice."""
        return self._messages, self.speaking.texts

    # -- where the feed ends and the pipeline begins ----------------------------------------

    def _receive(self, event: Event) -> None:
        """On the WebSocket thread: only counts and queues, so that pings are answered in time."""
        if not event.speakable:
            self._ledger.ignore(event)
            return
        entry = self._ledger.admit(event)
        try:
            self._messages.put_nowait(entry, self.answering.moderator.rank(event))
        except QueueClosed:
            self._ledger.drop(entry, "stopping")

    def _feed_changed(self, state: FeedState, sentence: str) -> None:
        """On the source's thread: after its last state nothing more will come."""
        self.history.feed_changed(state, sentence)
        if state in (FeedState.ENDED, FeedState.REFUSED):
            self._refused_by_room = state is FeedState.REFUSED
            self._broadcast_ended = True
            self.answering.moderator.flush()
            self._settled()

    def _settled(self) -> None:
        """Nothing is on its way: after the end of the broadcast that is the end of the work."""
        if self._broadcast_ended and self._ledger.statistics().pending == 0:
            self.manager.request_stop()


# A part that fails is back in a moment. What fails ten times a minute is broken, and the bot ends,
# so that whoever runs it hears of it.
_SOON = Backoff(initial=0.1, longest=5.0)
_PATIENT = Intensity(restarts=10, per=60.0)

_STALL = 30.0  # seconds without a sign of life; an engine may take twenty to start
_GRACE = 5.0  # seconds beyond the model's own timeout

_HANDLERS: dict[str, type[MessageHandler | AsyncMessageHandler]] = {
    "threads": MessageHandler,
    "asyncio": AsyncMessageHandler,
}


class Feed(Protocol):
    """What the app needs of a source, whatever it reads."""

    def start(self, ctx: Context, /) -> object: ...
    def stop(self, ctx: Context, /) -> object: ...
    def statistics(self) -> SourceStatistics: ...


class _Errors:
    """The central error log: begins with everything and is closed last."""

    def __init__(self, errors: ErrorLog) -> None:
        self._errors = errors
        self._installed = False

    def start(self, ctx: Context, /) -> None:
        if not self._installed:
            self._errors.add_sink(LoggingSink("livebot"))
            self._errors.install()
            self._installed = True

    def stop(self, ctx: Context, /) -> None:
        if ctx.final:  # a closed log opens no more
            self._errors.close()


def _reader(url: str | Callable[[], Endpoint], feed: FeedSettings) -> Callable[..., Feed]:
    """Makes the reader of the feed. A callable says its own headers."""
    headers = feed.headers if isinstance(url, str) else None

    def make(*, runtime: Runtime, **told: Any) -> Feed:
        options = FeedOptions(runtime=runtime)
        return SOURCES[feed.kind](url, headers=headers, options=options, **told)

    return make

"""From an event to what is said about it: the first half of an event's way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from livebot.config import ModelSettings, Settings
from livebot.ledger import Entry, Ledger, Stage
from livebot.messages import Chat
from livebot.moderation import Moderator, Outcome, Rules, Verdict
from livebot.replies import ModelStatistics, ModelUnavailable, ModelWriter, TemplateWriter
from threadkit import REAL, DynamicThreadPool, ErrorLog, QueueClosed, Rejected, Runtime

__all__ = ["Answering"]

logger = logging.getLogger("livebot")


class Answering:
    """Decides what is said about each event: moderation, then the model or a template.

    Thread safety: every method may be called from any thread.

    Lifetime: a component, beside `moderator`, which is another. `stop` cuts off the model's answers
    under way; a restart begins with a fresh model.

    Args:
        settings: Everything that can be tuned.
        ledger: Counts what becomes of each event.
        errors: Where failures are recorded.
        model_pool: Has the model's answers written.
        expect: Told which sentences are likely to be said, when the templates are new.
        say: Takes an entry, once something stands in its `sentences`, and its priority.
        runtime: Where clock, locks and threads come from.

    Raises:
        ValueError: A rule of moderation makes no sense.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        ledger: Ledger,
        errors: ErrorLog,
        model_pool: DynamicThreadPool,
        expect: Callable[[Sequence[str]], object],
        say: Callable[[Entry, int], None],
        runtime: Runtime = REAL,
    ) -> None:
        self._ledger = ledger
        self._errors = errors
        self._pool = model_pool.with_options(label="asking the model")
        self._say = say
        self._expect = expect
        self._runtime = runtime
        self.moderator = Moderator(_rules(settings), announce=self._judged, runtime=runtime)
        self.templates = TemplateWriter(settings.replies)
        self._model_settings: ModelSettings = settings.model
        self.model = self._model_writer(settings.model)
        self._started = self._stopped = False

    def _model_writer(self, settings: ModelSettings) -> ModelWriter | None:
        if not settings.model:
            return None
        return ModelWriter(
            settings,
            api_key=settings.api_key().get_secret_value(),
            objection=self.moderator.objection,
            runtime=self._runtime,
        )

    def update(self, settings: Settings) -> None:
        """Answer by these settings from now on.

        Another model begins with fresh counts, and answers under way of the old one are cut off.

        Raises:
            ValueError: A rule of moderation makes no sense; nothing has changed then.
        """
        self.moderator.update(_rules(settings))
        if self.templates.update(settings.replies) and self._started:
            self._expect(self.templates.foreseen())
        if settings.model != self._model_settings:
            self._cut_off()
            self._model_settings = settings.model
            self.model = self._model_writer(settings.model)

    def start(self, ctx: object = None, /) -> None:
        """Answer; after a restart, with the model anew."""
        del ctx
        self._started = True
        self._expect(self.templates.foreseen())
        if self._stopped:
            self._stopped = False
            self.model = self._model_writer(self._model_settings)

    def stop(self, ctx: object = None, /) -> None:
        """Cut off what the model is writing."""
        del ctx
        self._started = False
        self._stopped = True
        self._cut_off()

    def _cut_off(self) -> None:
        if self.model is not None:
            self.model.close()

    def model_statistics(self) -> ModelStatistics | None:
        """What the model did, None without one."""
        return self.model.statistics() if self.model else None

    # -- the way of an event ----------------------------------------------------------------

    def answer(self, entry: Entry) -> None:
        """On a processing worker: decides whether to answer. A held combo is announced later."""
        self._ledger.move(entry, Stage.PROCESSING)
        try:
            verdict = self.moderator.consider(entry.event, entry)
        except Exception as exc:  # noqa: BLE001 - one event must not hurt the others
            self._failed(entry, exc)
            return
        if verdict.outcome is not Outcome.HOLD:
            self._judged(verdict)

    def _judged(self, verdict: Verdict) -> None:
        """On a processing worker, or on the moderator's thread when a combo has ended."""
        entry: Any = verdict.tag
        if verdict.outcome is not Outcome.SPEAK:
            self._ledger.drop(entry, verdict.reason)
            return
        try:
            if not self._asks_model(entry, verdict):
                self._fill_template(entry, verdict)
        except Exception as exc:  # noqa: BLE001 - one event must not hurt the others
            self._failed(entry, exc)

    def _failed(self, entry: Entry, exc: Exception) -> None:
        event = entry.event
        self._errors.record(exc, component="processing", task=f"{event.kind} {event.id}")
        self._ledger.drop(entry, "error while answering")

    def _fill_template(self, entry: Entry, verdict: Verdict) -> None:
        sentence = self.templates.write(verdict.event)
        if not sentence:
            self._ledger.drop(entry, f"no template for {verdict.event.kind}")
            return
        entry.sentences.put_nowait(sentence)
        entry.sentences.close()
        self._say(entry, verdict.priority)

    def _asks_model(self, entry: Entry, verdict: Verdict) -> bool:
        """Hand a chat to the model, if there is one with room for another question."""
        if self.model is None or not isinstance(verdict.event, Chat):
            return False
        try:
            self._pool.submit(self._converse, self.model, entry, verdict)
        except (Rejected, RuntimeError):
            return False
        return True

    def _converse(self, model: ModelWriter, entry: Entry, verdict: Verdict) -> None:
        """On a model worker: sentences go to the voice while the rest is being written."""
        spoken = entry.sentences
        queued = False
        try:
            for sentence in model.sentences(
                verdict.event, verdict.text, cancelled=lambda: spoken.closed
            ):
                spoken.put_nowait(sentence)
                if not queued:
                    self._say(entry, verdict.priority)
                    queued = True
        except QueueClosed:
            return  # the entry was dropped or interrupted: nobody listens any more
        except ModelUnavailable as exc:
            logger.info("%s", exc)
        except Exception as exc:  # noqa: BLE001 - the template speaks instead
            self._errors.record(exc, component="model", task=f"chat {entry.event.id}")
        if queued:
            spoken.close()
            return
        try:
            self._fill_template(entry, verdict)
        except Exception as exc:  # noqa: BLE001 - one event must not hurt the others
            self._failed(entry, exc)


def _rules(settings: Settings) -> Rules:
    return Rules(**settings.moderation.model_dump())

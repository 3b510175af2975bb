"""The judge of events: one verdict each, and later one more for each combo that was held."""

from __future__ import annotations

import dataclasses
import enum
import logging
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livebot.messages import Chat, Emoji, Event, Fansclub, Gift, Like, Member, RecentIds, Social
from livebot.moderation.combos import Announcement, GiftCombos
from livebot.moderation.repeats import RecentTexts
from livebot.moderation.rules import Filter, Rules
from livebot.moderation.text import clean, repeat_key
from threadkit import REAL, Context, Runtime

__all__ = ["LEVELS", "ModerationStatistics", "Moderator", "Outcome", "Verdict"]

logger = logging.getLogger("livebot.moderation")


class Outcome(str, enum.Enum):
    """What becomes of an event."""

    SPEAK = "speak"
    DROP = "drop"
    """Not to be spoken; the reason says why."""
    FOLD = "fold"
    """Part of a combo that another message speaks for."""
    HOLD = "hold"
    """Waits for the rest of its combo; `announce` will be called with its verdict."""
    SKIP = "skip"
    """Of a kind nobody speaks: statistics, notices, control."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one event."""

    event: Event
    """The event as it may be spoken: its text and its user's name cleaned, the name empty when it
    must not be said, a gift's `repeat_count` the number to thank for."""
    outcome: Outcome
    reason: str = ""
    """Why it is not spoken: a short name, for counting."""
    priority: int = 5
    """0 is spoken first, 5 last: gifts in three classes, questions, chats, the rest."""
    value: float = 0.0
    """Worth within the priority, more is better; diamonds for a gift."""
    tag: object = None
    """What `consider` was given along with the event."""

    @property
    def text(self) -> str:
        """The viewer's words, cleaned; empty when the event has none."""
        return self.event.text if isinstance(self.event, (Chat, Emoji)) else ""


@dataclass(frozen=True, slots=True)
class ModerationStatistics:
    """What became of the events so far: `considered` is the sum of all the others."""

    considered: int
    spoken: int
    skipped: int
    held: int
    """Combos waiting for their end now."""
    folded: Mapping[str, int]
    """By reason."""
    dropped: Mapping[str, int]
    """By reason."""


_QUESTION = re.compile(r"[?？]|吗|嘛|什么|怎么|为什么|为啥|几点|多少|谁|哪|咋|是不是|能不能")
_FAN = 10  # fan level from which a viewer's chat ranks with questions
_FAN_WORTH = 0.01  # of one fan level, so that no level outweighs a question
_SMALL_GIFT = 2  # diamonds; most gifts cost one, and they would crowd out every chat
_USERS_KEPT = 4096  # viewers whose last answer is remembered
_NO_ID = ("", "0")  # what a feed says that gives its messages none
_TREASURES = (100, 10, 1)  # big gifts' worth from which a gift has priority 0, 1, 2
_PRIORITIES = {Fansclub.kind: 3, Social.kind: 4, Member.kind: 5, Like.kind: 5}

LEVELS = 6
"""How many priorities there are: levels a queue of judged events needs."""


class Moderator:
    """Judges events.

    In this order: messages that came before, ignored viewers, gift combos, block lists, texts that
    were spoken before, cool-down, rank.

    >>> from livebot.messages import User
    >>> judge = Moderator(Rules(blocked_words=("加微信",)))
    >>> viewer = User(id="1", name="小鱼")
    >>> judge.consider(Chat(id="1", user=viewer, text="主播几点下播[大笑]")).event.text
    '主播几点下播'
    >>> judge.consider(Chat(id="2", user=viewer, text="加 微 信")).reason
    'blocked_word'

    Gift combos: with `announce`, the first message of a combo is held until the combo has ended or
    was idle, then announced with the total; this needs `start`. Without, each message is
    spoken at once, for what it adds.

    Thread safety: any thread may call anything. `announce` is called without any lock held, on the
    thread whose event finished the combo or on the moderator's own.

    Lifetime: a component. Without `announce` there is nothing to start or stop.

    Args:
        rules: What to go by.
        announce: Takes the verdict of a held event, spoken or dropped, exactly once.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        announce: Callable[[Verdict], object] | None = None,
        runtime: Runtime = REAL,
    ) -> None:
        rules = rules or Rules()
        self._announce = announce
        self._runtime = runtime
        self._monotonic = runtime.monotonic
        # Guards every field below; held for one verdict, never across `announce`. Notified when
        # the first combo is held and by `stop`; the moderator's own thread waits.
        self._changed = runtime.condition(runtime.lock())
        self._rules = rules
        self._filter = Filter(rules)
        self._seen = RecentIds()
        self._combos = GiftCombos(rules.combo_idle)
        self._texts = RecentTexts()
        self._answered_at: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._counts: Counter[Outcome] = Counter()
        self._considered = 0
        self._folded: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._stopping = False
        self._thread: Any = None

    def start(self, ctx: Context | None = None) -> None:
        """Begin to announce idle combos. Without `announce` it does nothing.

        Args:
            ctx: A ComponentManager's context, which is told if the thread should die.
        """
        if self._announce is None:
            return
        self._stopping = False
        self._thread = self._runtime.thread(
            self._run, args=(ctx,), name="livebot-combos", daemon=True
        )
        self._thread.start()

    def stop(self, ctx: object = None) -> None:
        """End the thread. Combos that are held stay so; `flush` announces them.

        Args:
            ctx: A ComponentManager's context; not needed.
        """
        del ctx
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def update(self, rules: Rules) -> None:
        """Go by other rules from now on."""
        with self._changed:
            self._rules = rules
            self._filter = Filter(rules)
            self._combos.idle = rules.combo_idle
            self._changed.notify_all()

    def rank(self, event: Event) -> int:
        """The priority `event` would get, 0 to 5, at little cost: for queues before the verdict."""
        # Two plain reads without the lock: should an update come between them, one event is ranked
        # by a mixture, and nothing else follows from it.
        return _rank(event, self._rules, self._filter)[0]

    def consider(self, event: Event, tag: object = None) -> Verdict:
        """What becomes of `event`.

        Args:
            event: As it came from the feed.
            tag: Comes back in the verdict, also in that of a held event.
        """
        with self._changed:
            now = self._monotonic()  # under the lock, so that it never goes back for the fields
            verdict, finished = self._judge_locked(event, tag, now)
            self._considered += 1
            self._count_locked(verdict)
            told = [self._release_locked(announcement, now) for announcement in finished]
            if verdict.outcome is Outcome.HOLD and self._combos.held == 1:
                self._changed.notify_all()
        self._tell(told)
        return verdict

    def flush(self) -> None:
        """Announce every held combo now, on the calling thread: the broadcast is over."""
        with self._changed:
            now = self._monotonic()
            finished = self._combos.due(float("inf"))
            told = [self._release_locked(announcement, now) for announcement in finished]
        self._tell(told)

    def objection(self, text: str) -> str:
        """Why a text of the bot's own, a model's answer for instance, must not be said, or ""."""
        with self._changed:
            filter_ = self._filter
        return filter_.objection(text, clean(text))

    def statistics(self) -> ModerationStatistics:
        """The counts so far."""
        with self._changed:
            return ModerationStatistics(
                considered=self._considered,
                spoken=self._counts[Outcome.SPEAK],
                skipped=self._counts[Outcome.SKIP],
                held=self._combos.held,
                folded=dict(self._folded),
                dropped=dict(self._dropped),
            )

    # -- the moderator's thread ------------------------------------------------------------------

    def _run(self, ctx: Context | None) -> None:
        try:
            self._announce_idle()
        except Exception as exc:
            if ctx is None:
                raise
            ctx.fail(exc)

    def _announce_idle(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                now = self._monotonic()
                told = [
                    self._release_locked(announcement, now)
                    for announcement in self._combos.due(now)
                ]
                due_at = self._combos.next_due_at
                if not told:
                    self._changed.wait(None if due_at is None else due_at - now)
                    continue
            self._tell(told)

    def _tell(self, told: list[Verdict]) -> None:
        for verdict in told:
            try:
                if self._announce is not None:
                    self._announce(verdict)
            except Exception:
                logger.exception("a finished combo could not be announced")

    # -- under the lock --------------------------------------------------------------------------

    def _count_locked(self, verdict: Verdict) -> None:
        if verdict.outcome is Outcome.DROP:
            self._dropped[verdict.reason] += 1
        elif verdict.outcome is Outcome.FOLD:
            self._folded[verdict.reason] += 1
        else:
            self._counts[verdict.outcome] += 1

    def _judge_locked(
        self, event: Event, tag: object, now: float
    ) -> tuple[Verdict, Sequence[Announcement]]:
        if not event.speakable:
            return Verdict(event, Outcome.SKIP, tag=tag), ()
        if event.id not in _NO_ID and not self._seen.add(event.id):
            return Verdict(event, Outcome.DROP, "duplicate", tag=tag), ()
        if self._filter.blocks(event.user):
            return Verdict(event, Outcome.DROP, "blocked_user", tag=tag), ()
        if isinstance(event, (Social, Fansclub)) and event.action.startswith("action-"):
            return Verdict(event, Outcome.DROP, "unknown_action", tag=tag), ()
        if isinstance(event, Gift):
            return self._judge_gift_locked(event, tag, now)
        return self._judge_words_locked(event, tag, now), ()

    def _judge_gift_locked(
        self, gift: Gift, tag: object, now: float
    ) -> tuple[Verdict, Sequence[Announcement]]:
        step = self._combos.add(gift, now, tag)
        if step.held and self._announce is None:
            (announcement,) = self._combos.due(float("inf"))
            return self._thank_locked(gift, announcement.count, tag, now), ()
        if step.held:
            return Verdict(gift, Outcome.HOLD, tag=tag), step.announced
        if step.count:
            return self._thank_locked(gift, step.count, tag, now), step.announced
        return Verdict(gift, Outcome.FOLD, step.reason, tag=tag), step.announced

    def _release_locked(self, announcement: Announcement, now: float) -> Verdict:
        verdict = self._thank_locked(announcement.gift, announcement.count, announcement.tag, now)
        self._count_locked(verdict)
        return verdict

    def _thank_locked(self, gift: Gift, count: int, tag: object, now: float) -> Verdict:
        thanked = dataclasses.replace(gift, repeat_count=count, increment=None)
        priority, value = _rank(thanked, self._rules, self._filter)
        if value < self._rules.big_gift and self._cooling_locked(gift, now):
            return Verdict(thanked, Outcome.DROP, "cool_down", tag=tag)
        said = self._named_locked(thanked)
        return Verdict(said, Outcome.SPEAK, priority=priority, value=value, tag=tag)

    def _judge_words_locked(self, event: Event, tag: object, now: float) -> Verdict:
        key = ""
        if isinstance(event, (Chat, Emoji)):
            text = clean(event.text, self._rules.text_limit)
            key = repeat_key(text)
            reason = self._objection_locked(event.text, text, key, now)
            if reason:
                return Verdict(event, Outcome.DROP, reason, tag=tag)
            event = dataclasses.replace(event, text=text)
        if self._cooling_locked(event, now):
            return Verdict(event, Outcome.DROP, "cool_down", tag=tag)
        if key:
            self._texts.add(key, now)
        priority, value = _rank(event, self._rules, self._filter)
        said = self._named_locked(event)
        return Verdict(said, Outcome.SPEAK, priority=priority, value=value, tag=tag)

    def _objection_locked(self, raw: str, text: str, key: str, now: float) -> str:
        """Why a viewer's words are not spoken, empty when they may be."""
        reason = self._filter.objection(raw, text)
        if reason or not text:
            return reason or "empty"
        return "repeat" if self._texts.knows(key, now - self._rules.repeat_window) else ""

    def _cooling_locked(self, event: Event, now: float) -> bool:
        """Whether this viewer was answered a moment ago; when not, they are answered now."""
        if event.user is None:
            return False
        key = (event.user.identity, event.kind)
        if now < self._answered_at.get(key, float("-inf")) + self._rules.cool_down:
            return True
        self._answered_at[key] = now
        self._answered_at.move_to_end(key)
        if len(self._answered_at) > _USERS_KEPT:
            self._answered_at.popitem(last=False)
        return False

    def _named_locked(self, event: Event) -> Event:
        """`event` with a name that can be said."""
        if event.user is None:
            return event
        name = clean(event.user.name, self._rules.name_limit)
        if self._filter.objection(event.user.name, name):
            name = ""
        return dataclasses.replace(event, user=dataclasses.replace(event.user, name=name))


def _rank(event: Event, rules: Rules, filter_: Filter) -> tuple[int, float]:
    """Priority and worth: gifts by value, questions, who is called, fans, chats, the rest."""
    if isinstance(event, Gift):
        value = float(event.diamond_count * max(1, event.repeat_count))
        for priority, times in enumerate(_TREASURES):
            if value >= times * rules.big_gift:
                return priority, value
        return (4 if value < _SMALL_GIFT else 3), value
    if isinstance(event, (Chat, Emoji)):
        level = event.user.fan_level if event.user else 0
        worth = 1.0 + _FAN_WORTH * level
        if _QUESTION.search(event.text):
            return 3, worth + 2
        if filter_.calls(event.text):
            return 3, worth + 1
        return (3 if level >= _FAN else 4), worth
    return _PRIORITIES.get(event.kind, 5), 0.0

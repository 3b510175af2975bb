"""What people may do to a bot that runs: each control by name, checked, for pages and programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from livebot.answering import Answering
from livebot.config import FASTEST, SLOWEST, ReplySettings, Settings
from livebot.ledger import Ledger
from livebot.messages import Event
from livebot.moderation import clean
from livebot.playback import Tone
from livebot.speaking import Speaking
from threadkit import REAL, ComponentManager, QueueClosed, QueueEmpty, Runtime

__all__ = ["NAME_LIMIT", "SAY_LIMIT", "ControlSpec", "Controls", "Said", "UnknownControl"]

SAY_LIMIT = 200  # characters, as many as speech takes
NAME_LIMIT = 64  # of a viewer or a component
_KINDS = tuple(name for name in ReplySettings.model_fields if name != "nobody")


class UnknownControl(ValueError):
    """Raised when a control is called that does not exist."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no control {name!r}; there are {', '.join(known)}")
        self.name = name


@dataclass(frozen=True, slots=True)
class ControlSpec:
    """What a control does, and the meaning of its arguments; every one of them must be given."""

    help: str
    arguments: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said(Event):
    """Words that somebody at the controls wants spoken."""

    kind: ClassVar[str] = "said"

    text: str


@dataclass(frozen=True, slots=True)
class _Overrides:
    """What the controls changed of the settings, kept when the settings are read again."""

    blocked: tuple[str, ...] = ()
    silent: frozenset[str] = frozenset()

    def over(self, settings: Settings) -> Settings:
        moderation, replies = settings.moderation, settings.replies
        users = tuple(dict.fromkeys((*moderation.blocked_users, *self.blocked)))
        return settings.model_copy(
            update={
                "moderation": moderation.model_copy(update={"blocked_users": users}),
                "replies": replies.model_copy(update=dict.fromkeys(self.silent, ())),
            }
        )


class Controls:
    """The controls of one bot.

    Every control is a method here; `call` finds one by its name in `specs()`. What they change of
    the settings lasts until the bot ends, also when the settings file is read again.

    Thread safety: every method from any thread.

    Args:
        settings: What the bot was made with.
        manager: Restarts components.
        ledger: Counts what is said by hand, and what is thrown away.
        speaking: The voice.
        answering: Moderation and templates.
        runtime: Clock and lock.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        manager: ComponentManager,
        ledger: Ledger,
        speaking: Speaking,
        answering: Answering,
        runtime: Runtime = REAL,
    ) -> None:
        self._manager = manager
        self._ledger = ledger
        self._speaking = speaking
        self._answering = answering
        self._monotonic = runtime.monotonic
        # Guards settings and overrides; held while moderation and templates take them over, so
        # that the last change is the one in force. They call nothing back.
        self._lock = runtime.lock()
        self._settings = settings
        self._overrides = _Overrides()

    # -- by name ----------------------------------------------------------------------------

    @staticmethod
    def specs() -> Mapping[str, ControlSpec]:
        """Every control by name."""
        return _SPECS

    def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Do what the control `name` does; the result can be said in JSON.

        Raises:
            UnknownControl: There is none of this name.
            ValueError: An argument is missing, unknown or out of its range.
            RuntimeError: The bot does not run.
        """
        if name not in _SPECS:
            raise UnknownControl(name, tuple(_SPECS))
        wanted = _SPECS[name].arguments
        if arguments.keys() != wanted.keys():
            takes = ", ".join(wanted) or "no arguments"
            given = ", ".join(map(str, arguments)) or "none"
            raise ValueError(f"{name} takes {takes}, not {given}")
        control: Callable[..., Any] = getattr(self, name)
        return control(**arguments)

    # -- the voice --------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop in the middle of a sentence. Sentences wait meanwhile, and go stale as ever."""
        self._speaking.player.pause()

    def resume(self) -> None:
        """Go on where `pause` stopped."""
        self._speaking.player.resume()

    def skip(self) -> bool:
        """End the sentence that is heard; whether there was one."""
        return self._speaking.player.skip()

    def clear(self) -> int:
        """Throw away every sentence that waits; how many events that were."""
        thrown = 0
        texts = self._speaking.texts
        for _ in range(len(texts)):
            try:
                entry = texts.get_nowait()
            except (QueueEmpty, QueueClosed):
                break
            entry.give_up()
            self._ledger.drop(entry, "cleared by hand")
            thrown += 1
        return thrown

    def mute(self, muted: bool) -> None:
        """Speak on without a sound, or with it again."""
        self._speaking.player.mute(_flag("muted", muted))

    def set_volume(self, volume: float) -> None:
        """Set the volume, from 0 to 1."""
        if not _is_number(volume) or not 0 <= volume <= 1:
            raise ValueError(f"volume must be a number from 0 to 1, not {volume!r}")
        self._speaking.player.set_volume(float(volume))

    def set_rate(self, rate: float) -> None:
        """Set how many words a minute are spoken while little waits."""
        if not _is_number(rate) or not SLOWEST <= rate <= FASTEST:
            raise ValueError(f"rate must be a number from {SLOWEST} to {FASTEST}, not {rate!r}")
        self._speaking.set_rate(round(rate))

    def say(self, text: str) -> int:
        """Speak these words before all that waits; the number of their event."""
        words = _line("text", text, SAY_LIMIT)
        if not clean(words, SAY_LIMIT):
            raise ValueError(f"text must hold something that can be spoken, not {text!r}")
        entry = self._ledger.admit(Said(id="", text=words, received_at=self._monotonic()))
        entry.sentences.put_nowait(words)
        entry.sentences.close()
        self._speaking.say(entry, 0)
        return entry.number

    def test_tone(self) -> None:
        """Sound a short tone, whatever else is heard, also in a pause; as loud as the volume."""
        self._speaking.player.chime(Tone())

    # -- what is answered -------------------------------------------------------------------

    def block_user(self, user: str) -> None:
        """Ignore a viewer from now on, by id or exact name."""
        name = _line("user", user, NAME_LIMIT)
        with self._lock:
            blocked = tuple(dict.fromkeys((*self._overrides.blocked, name)))
            self._use_locked(self._settings, _Overrides(blocked, self._overrides.silent))

    def unblock_user(self, user: str) -> None:
        """Ignore a viewer no more who was blocked here; those of the settings stay blocked."""
        with self._lock:
            if user not in self._overrides.blocked:
                raise ValueError(f"user must be one that was blocked here, not {user!r}")
            blocked = tuple(name for name in self._overrides.blocked if name != user)
            self._use_locked(self._settings, _Overrides(blocked, self._overrides.silent))

    def switch_template(self, kind: str, on: bool) -> None:
        """Let templates answer a kind of event, or not."""
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, not {kind!r}")
        with self._lock:
            if _flag("on", on) and not getattr(self._settings.replies, kind):
                raise ValueError(f"kind {kind} has no template in the settings, so it stays off")
            silent = self._overrides.silent - {kind} if on else self._overrides.silent | {kind}
            self._use_locked(self._settings, _Overrides(self._overrides.blocked, silent))

    def update(self, settings: Settings) -> None:
        """Use other settings from now on, with what the controls changed on top.

        Raises:
            ValueError: A rule of moderation makes no sense; nothing has changed then.
        """
        with self._lock:
            self._use_locked(settings, self._overrides)
        self._speaking.update(settings)

    def _use_locked(self, settings: Settings, overrides: _Overrides) -> None:
        self._answering.update(overrides.over(settings))
        self._settings, self._overrides = settings, overrides

    def templates(self) -> Mapping[str, bool]:
        """Which kinds of events templates answer."""
        with self._lock:
            replies = self._overrides.over(self._settings).replies
        return {kind: bool(getattr(replies, kind)) for kind in _KINDS}

    def blocked(self) -> tuple[str, ...]:
        """Who was blocked here."""
        with self._lock:
            return self._overrides.blocked

    # -- parts ------------------------------------------------------------------------------

    def reconnect(self) -> bool:
        """Close the feed's connection and open another; whether that has begun."""
        return self.restart("source")

    def restart(self, component: str) -> bool:
        """Stop a component and start it again; whether it was ready within 15 seconds."""
        return self._manager.restart(_line("component", component, NAME_LIMIT), timeout=15.0)


def _line(argument: str, text: object, limit: int) -> str:
    """`text` on one line, checked."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{argument} must be words, not {text!r}")
    line = " ".join(text.split())
    if not _is_whole(line):
        raise ValueError(f"{argument} must be whole characters, not {line!r}")
    if len(line) > limit:
        raise ValueError(f"{argument} must have at most {limit} characters, not {len(line)}")
    return line


def _is_whole(text: str) -> bool:
    """Whether text is free of surrogates: JSON may hold half a character, an answer may not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _flag(argument: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{argument} must be true or false, not {value!r}")  # noqa: TRY004
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_SPECS: dict[str, ControlSpec] = {
    name: ControlSpec((getattr(Controls, name).__doc__ or "").splitlines()[0], arguments)
    for name, arguments in {
        "pause": {},
        "resume": {},
        "skip": {},
        "clear": {},
        "mute": {"muted": "true or false"},
        "set_volume": {"volume": "from 0 to 1"},
        "set_rate": {"rate": f"words a minute, {SLOWEST} to {FASTEST}"},
        "say": {"text": f"what to say, at most {SAY_LIMIT} characters"},
        "test_tone": {},
        "block_user": {"user": "id or exact name"},
        "unblock_user": {"user": "as it was blocked"},
        "switch_template": {"kind": ", ".join(_KINDS), "on": "true or false"},
        "reconnect": {},
        "restart": {"component": "its name, as in the list of components"},
    }.items()
}

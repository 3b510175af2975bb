"""The cards with something to press: the voice, what is answered, who is ignored."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments, ValueChangeEventArguments

from livebot.config import FASTEST, SLOWEST
from livebot.controls import NAME_LIMIT, SAY_LIMIT, Controls
from livebot.view import View
from livebot.web.dashboard.rows import Rows
from livebot.web.dashboard.words import Words
from threadkit import REAL

__all__ = ["Act", "Blocked", "Templates", "Voice", "acting", "card"]

Act = Callable[..., Awaitable[Any]]
"""Does what a control does, by name and arguments; tells the page when it is refused."""


def acting(controls: Controls, words: Words) -> Act:
    """The controls for one page. They may block, so each runs in a thread of its own."""

    async def act(name: str, said: str | None = None, **arguments: Any) -> Any:
        try:
            result = await _beside(functools.partial(controls.call, name, arguments))
        except (ValueError, RuntimeError) as exc:
            ui.notify(str(exc), type="negative", position="top")
            return None
        if said is not None:
            ui.notify(words(said, count=result), position="top", timeout=1500)
        return result

    return act


async def _beside(call: Callable[[], Any]) -> Any:
    """What `call` returns, from a thread that nobody waits for when this loop ends.

    The loop's own executor would be waited for: restarting the web server from a page would wait
    for itself.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()

    def work() -> None:
        outcome: Callable[[], None]
        try:
            outcome = functools.partial(_settle, ended.set_result, ended, call())
        except Exception as exc:  # noqa: BLE001 - it belongs to whoever waits
            outcome = functools.partial(_settle, ended.set_exception, ended, exc)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(outcome)

    REAL.thread(work, name="livebot-control", daemon=True).start()
    return await ended


def _settle(settle: Callable[[Any], None], ended: asyncio.Future[Any], value: Any) -> None:
    if not ended.cancelled():
        settle(value)


def card(title: str, width: str, mark: str) -> AbstractContextManager[Any]:
    """A card with a heading."""
    box = ui.element("section").classes(f"lb-card {width}").props(f"data-card={mark}")
    with box, ui.element("h2"):
        ui.label(title)
    return box


class Voice:
    """What is heard now, and everything that changes how it is heard."""

    def __init__(self, act: Act, words: Words) -> None:
        self._act = act
        self._words = words
        self._paused = self._muted = False
        self._for = ui.label().classes("lb-for")
        self._now = ui.label().classes("lb-now lb-quiet")
        with ui.element("div").classes("lb-buttons"):
            self._pause = self._button("pause", "Pause", self._toggle_pause)
            self._button("skip_next", "Skip", self._skip)
            self._button("playlist_remove", "Clear the queue", self._clear)
            self._mute = self._button("volume_up", "Mute", self._toggle_mute)
            self._button("music_note", "Test tone", lambda: self._act("test_tone"))
        with ui.element("div").classes("lb-knobs"):
            self._volume = _Knob(
                words("Volume"), 0, 100, "%", lambda value: act("set_volume", volume=value / 100)
            )
            self._rate = _Knob(
                words("Rate"), SLOWEST, FASTEST, "", lambda rate: act("set_rate", rate=rate)
            )
        with ui.element("div").classes("lb-say"):
            self._say = ui.input(placeholder=words("Say this")).props(
                f"dense outlined maxlength={SAY_LIMIT} clearable"
            )
            self._say.on("keydown.enter", self._speak)
            self._button("campaign", "Say", self._speak)

    def _button(self, icon: str, name: str, do: Callable[[], Any]) -> ui.button:
        button = ui.button(self._words(name), icon=icon, on_click=do)
        return button.props(f'flat dense no-caps padding="4px 10px" data-do="{name}"')

    async def _toggle_pause(self) -> None:
        await self._act("resume" if self._paused else "pause")

    async def _toggle_mute(self) -> None:
        await self._act("mute", muted=not self._muted)

    async def _skip(self) -> None:
        if await self._act("skip") is False:
            ui.notify(self._words("Nothing was being spoken"), position="top", timeout=1500)

    async def _clear(self) -> None:
        await self._act("clear", said="{count} thrown away")

    async def _speak(self) -> None:
        if await self._act("say", text=self._say.value or "") is not None:
            self._say.value = ""

    def show(self, view: View) -> None:
        """Show what is heard, and how the controls stand."""
        words, player = self._words, view.player
        self._paused, self._muted = player.paused, player.muted
        speaking = view.speaking
        quiet = "Paused" if player.paused else "Nothing is being spoken"
        self._now.text = speaking.text if speaking else words(quiet)
        self._now.classes(add="" if speaking else "lb-quiet", remove="lb-quiet" if speaking else "")
        whom = [words("for {user}", user=speaking.user)] if speaking and speaking.user else []
        if player.paused and speaking:
            whom.insert(0, words("Paused"))
        self._for.text = " · ".join([*whom, words("Sound goes to {sink}", sink=player.sink)])
        _show_button(self._pause, words("Resume" if player.paused else "Pause"),
                     "play_arrow" if player.paused else "pause")  # fmt: skip
        _show_button(self._mute, words("Sound on" if player.muted else "Mute"),
                     "volume_off" if player.muted else "volume_up")  # fmt: skip
        self._volume.show(round(100 * player.volume))
        self._rate.show(view.calm_rate)


def _show_button(button: ui.button, text: str, icon: str) -> None:
    if button.text != text:
        button.text = text
        button.props["icon"] = icon
        button.update()


class _Knob:
    """A slider that follows the bot, but not while a hand is on it."""

    def __init__(
        self, name: str, least: int, most: int, unit: str, turn: Callable[[int], Awaitable[Any]]
    ) -> None:
        self._unit = unit
        self._held = False
        self._turn = turn
        ui.label(name)
        self._slider = ui.slider(min=least, max=most, value=least).props("dense")
        self._slider.props["aria-label"] = name
        self._value = ui.label().classes("lb-value")
        self._slider.on("pan", self._pan)
        self._slider.on("change", self._changed)

    def _pan(self, event: GenericEventArguments) -> None:
        self._held = event.args == "start"

    async def _changed(self, event: GenericEventArguments) -> None:
        self._held = False
        await self._turn(int(event.args))

    def show(self, value: int) -> None:
        """Show the value in force."""
        self._value.text = f"{value}{self._unit}"
        if not self._held and self._slider.value != value:
            self._slider.value = value


class Templates:
    """Which kinds of events are answered.

    Args:
        act: Does what a switch asks for.
        words: In which language.
        in_force: Says which kinds are answered now.
    """

    def __init__(self, act: Act, words: Words, in_force: Callable[[], Mapping[str, bool]]) -> None:
        self._act = act
        self._in_force = in_force
        with ui.element("div").classes("lb-switches"):
            self._switches = {kind: self._switch(kind, words(kind)) for kind in in_force()}
        self.show()

    def _switch(self, kind: str, name: str) -> ui.switch:
        async def switched(event: ValueChangeEventArguments[bool | None]) -> None:
            if event.value != self._in_force()[kind]:
                await self._act("switch_template", kind=kind, on=bool(event.value))
                self.show()

        return ui.switch(name, on_change=switched).props(f"dense data-kind={kind}")

    def show(self) -> None:
        """Show what is in force."""
        for kind, on in self._in_force().items():
            self._switches[kind].value = on


class Blocked:
    """Who is ignored.

    Args:
        act: Does what is pressed.
        words: In which language.
        in_force: Says who is ignored now.
    """

    def __init__(self, act: Act, words: Words, in_force: Callable[[], Sequence[str]]) -> None:
        self._act = act
        self._in_force = in_force
        self._words = words
        with ui.element("div").classes("lb-add"):
            self._name = ui.input(placeholder=words("Id or exact name")).props(
                f"dense outlined maxlength={NAME_LIMIT}"
            )
            self._name.on("keydown.enter", self._block)
            ui.button(words("Block"), on_click=self._block).props("flat dense no-caps")
        self._rows = Rows(words("Nobody is blocked"), act=self._unblock)

    async def _block(self) -> None:
        await self._act("block_user", user=self._name.value or "")
        self._name.value = ""
        self.show()

    async def _unblock(self, user: str) -> None:
        await self._act("unblock_user", user=user)
        self.show()

    def show(self) -> None:
        """Show who was blocked here."""
        words = self._words
        self._rows.show(
            [
                {
                    "n": user,
                    "title": user,
                    "act": user,
                    "actIcon": "close",
                    "hint": words("Unblock {user}", user=user),
                }
                for user in self._in_force()
            ]
        )

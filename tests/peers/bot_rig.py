"""A bot that runs in this process, with a voice that is quick and an ear that listens."""

import contextlib
import queue
import threading
from types import SimpleNamespace

import numpy as np

from livebot.app import LiveBot
from livebot.config import Settings
from livebot.messages import Chat, Like, User
from livebot.sources import Endpoint, FeedState, Simulator

FAR_AWAY = [(3600.0, Like(id="1", count=1))]  # so that the room stays open


def chat(number, text, name="甲"):
    return Chat(id=str(number), user=User(id=f"u{number}", name=name), text=text)


class Rig:
    """A bot that runs, whose sentences are as long as they have characters, in tenths of a second.

    What begins and ends to be heard arrives in `heard`, as ("speaking", text), ("spoken", text)...
    """

    def __init__(self, tmp_path, *, events=FAR_AWAY, **simulated):
        self.simulator = Simulator(events, **simulated)
        self.bot = LiveBot(
            lambda: Endpoint(self.simulator.url),
            settings=Settings.model_validate({"voice": {"rest": 0.0, "lookahead": 1}}),
            wav=tmp_path / "out.wav",
            feed_needs=["simulator"],
        )
        self.bot.manager.add("simulator", self.simulator)
        self.heard = queue.SimpleQueue()
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        self.states = queue.SimpleQueue()
        self.bot.speaking.speech.synthesize = self.speak
        player = self.bot.speaking.player
        player._on_started = self.told(player._on_started)
        player._on_played = self.told(player._on_played)
        self._changed = self.bot.history.feed_changed
        self.bot.history.feed_changed = self._feed_changed

    def _feed_changed(self, state, sentence):
        self._changed(state, sentence)
        self.states.put(state)

    def speak(self, text, rate=None):
        pcm = np.full(2205 * len(text), 3000, np.int16).tobytes()
        return SimpleNamespace(pcm=pcm, sample_rate=22050, text=text, cached=False)

    def told(self, callback):
        def call(utterance, *rest):
            callback(utterance, *rest)
            self.heard.put((utterance.outcome, utterance.text))
            if utterance.outcome == "speaking":
                self._may_go_on.wait(60)

        return call

    @contextlib.contextmanager
    def holding(self):
        """What begins to be heard goes on only afterwards."""
        self._may_go_on.clear()
        try:
            yield
        finally:
            self._may_go_on.set()

    def receive(self, event):
        self.bot._receive(event)

    def next(self):
        return self.heard.get(timeout=20)

    def until(self, outcome, text):
        while self.next() != (outcome, text):
            pass

    def control(self, name, **arguments):
        return self.bot.controls.call(name, arguments)

    def wait_connected(self):
        while self.states.get(timeout=20) is not FeedState.CONNECTED:
            pass

    def view(self):
        """What there is to see at this very moment."""
        return self.bot._viewer._look(self.bot._runtime.monotonic())

    @contextlib.contextmanager
    def running(self):
        with self.bot.manager:
            self.wait_connected()
            try:
                yield self
            finally:  # a player that drains would speak all that is left, and one in a pause wait
                self.bot.controls.clear()
                self.bot.speaking.player.interrupt()

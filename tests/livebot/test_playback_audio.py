"""What is really heard: PortAudio playing into a PulseAudio server, recorded and measured."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest

from livebot.playback import AudioPlayer, PortAudioSink, output, output_devices, sinks
from livebot.speech import Pyttsx3Process, SpeechService

pytestmark = [pytest.mark.audio, pytest.mark.timeout(60)]

RATE = 22050
ROOMY = 0.3  # seconds of sound ahead, so that a busy machine cannot tear what is measured


@pytest.fixture
def player(listener, tone):
    """A player whose sound is on its way to the server that `listener` listens to."""
    player = AudioPlayer(PortAudioSink(latency=ROOMY), fallback=os.devnull)
    player.start()
    assert player.statistics().path is None, "it plays into the fallback"
    let_it_run(player, listener, tone)
    yield player
    player.stop()


def let_it_run(player, listener, tone):
    """On a busy machine the server swallows the first milliseconds of a stream that begins."""
    player.chime(tone(220, 0.05))
    listener.wait_until_loud()
    listener.wait_for_silence(0.1)
    listener.forget()


def place(heard, sound):
    """Where `sound` begins in what was heard, every sample of it as it was given."""
    everything = heard.tobytes()
    at = everything.find(sound.pcm)
    while at % 2 and at > 0:  # between two samples
        at = everything.find(sound.pcm, at + 1)
    assert at >= 0, f"{sound.text} was not heard whole"
    return at // 2


def test_sounds_are_heard_whole_in_order_and_close_together(player, listener, tone):
    sounds = [tone(frequency, 0.3) for frequency in (440, 880, 330, 660)]
    for seq in (3, 1, 0, 2):
        player.play(seq, sounds[seq])
    assert player.wait_idle(20)
    listener.wait_for_silence(ROOMY + 0.2)
    heard = listener.heard()
    starts = [place(heard, sound) for sound in sounds]
    ends = [start + len(sound.samples) for start, sound in zip(starts, sounds, strict=True)]
    gaps = [(b - a) / RATE for a, b in zip(ends, starts[1:], strict=False)]
    assert all(0 <= gap < 0.06 for gap in gaps), gaps
    outside = np.ones(len(heard), bool)
    for start, end in zip(starts, ends, strict=True):
        outside[start:end] = False
    assert not heard[outside].any(), "something else was heard"
    assert player.statistics().seconds == pytest.approx(1.2)


def test_spoken_sentences_are_heard_to_the_last_sample(player, listener):
    service = SpeechService(engine=Pyttsx3Process)
    try:
        speeches = [service.synthesize(text) for text in ("你好", "谢谢小明", "hi")]
    finally:
        service.close()
    for seq, speech in enumerate(speeches):
        player.play(seq, speech)
    assert player.wait_idle(30)
    listener.wait_for_silence(ROOMY + 0.2)
    heard = listener.heard()
    starts = [place(heard, speech) for speech in speeches]
    assert starts == sorted(starts)


def test_a_player_that_stops_lets_what_it_was_given_be_heard(listener, tone):
    player = AudioPlayer(PortAudioSink(latency=ROOMY), fallback=os.devnull)
    player.start()
    let_it_run(player, listener, tone)
    sound = tone(440, 1.0)
    player.play(0, sound)
    assert player.drain(deadline=None)
    player.stop()
    listener.wait_for_silence(ROOMY + 0.2)
    place(listener.heard(), sound)


def test_an_interrupt_is_heard_within_150_ms(listener, tone):
    player = AudioPlayer(PortAudioSink(), fallback=os.devnull)
    player.start()
    delays = []
    try:
        for attempt in range(3):
            player.play(2 * attempt, tone(440, 20))
            player.play(2 * attempt + 1, tone(880, 20))
            interrupted_at = listener.wait_until_loud()
            assert player.interrupt() == 2
            listener.wait_for_silence(0.4)
            delays.append(listener.last_loud_at() - interrupted_at)
    finally:
        player.stop()
    assert sorted(delays)[1] < 0.15, delays


def test_pause_is_silent_and_resume_plays_the_rest(player, listener, tone):
    sound = tone(440, 1.0)
    player.play(0, sound)
    listener.wait_until_loud()
    player.pause()
    listener.wait_for_silence(ROOMY + 0.2)
    player.resume()
    listener.wait_until_loud()
    assert player.wait_idle(10)
    listener.wait_for_silence(ROOMY + 0.2)
    loud = np.count_nonzero(listener.heard())
    assert len(sound.samples) <= loud <= len(sound.samples) + 0.006 * RATE


def test_a_server_that_is_killed_and_comes_back_is_survived(mortal_server, listen, tone, caplog):
    started = threading.Event()
    player = AudioPlayer(
        PortAudioSink(latency=ROOMY), fallback=os.devnull, on_started=lambda _: started.set()
    )
    listen(mortal_server)
    player.start()
    try:
        player.play(0, tone(440))
        assert player.wait_idle(20)
        mortal_server.kill()
        started.clear()
        player.play(1, tone(660))  # goes into the fallback, and the sequence goes on
        assert started.wait(20)
        assert player.wait_idle(20)
        assert player.statistics().losses == 1
        mortal_server.start()
        listener = listen(mortal_server)
        watch_for(lambda: player.statistics().path is None)
        after = tone(880)
        player.play(2, after)
        assert player.wait_idle(20)
        listener.wait_for_silence(ROOMY + 0.2)
        place(listener.heard(), after)
    finally:
        player.stop()
    assert player.statistics().played == 3
    assert "went away" in caplog.text


def watch_for(condition, timeout=20):
    """The player tells nobody that the device is back: look again now and then."""
    ready = threading.Event()
    for _ in range(timeout * 20):
        if condition():
            return
        ready.wait(0.05)
    pytest.fail("the device never came back")


def test_a_server_that_freezes_is_survived(mortal_server, listen, tone, monkeypatch):
    monkeypatch.setattr(output, "_STALL", 1.0)
    monkeypatch.setattr(sinks, "_CLOSE_TIMEOUT", 0.5)
    listener = listen(mortal_server)
    player = AudioPlayer(PortAudioSink(latency=ROOMY), fallback=os.devnull)
    player.start()
    try:
        player.play(0, tone(440, 1.0))
        listener.wait_until_loud()
        mortal_server.signal(signal.SIGSTOP)
        player.play(1, tone(660))
        assert player.wait_idle(30)
        assert player.statistics().losses == 1
    finally:
        player.stop()


def test_the_server_s_output_is_listed(sound_server):
    assert "default" in output_devices(refresh=True)

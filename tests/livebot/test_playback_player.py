"""AudioPlayer in virtual time: its sinks run on the simulated clock, so hours cost nothing."""

from __future__ import annotations

import errno
import logging
import threading
import types
from itertools import pairwise

import numpy as np
import pytest

from livebot.playback import AudioPlayer, NullSink, SinkError, sinks
from livebot.playback.programme import Programme, Sounding
from threadkit.testing import SimRuntime, explore

RATE = 1000  # samples a second: a block of 20 ms holds 20


class Beep:
    """A sound whose samples all have the same value."""

    sample_rate = RATE

    def __init__(self, value, seconds=0.1):
        self.pcm = np.full(round(seconds * RATE), value, np.int16).tobytes()
        self.text = f"beep {value}"


class Tape(NullSink):
    """Keeps what was pulled, with the instant at which it is heard; fails to open on demand."""

    name = "tape"

    def __init__(self, sim, refusals=0):
        super().__init__(runtime=sim)
        self.heard = []
        self.refusals = refusals
        self.lose = None
        self.opened = 0

    def open(self, fill, sample_rate, on_lost):
        if self.refusals:
            self.refusals -= 1
            raise SinkError("no device")
        self.opened += 1
        self.lose = on_lost

        def record(out, heard_at):
            fill(out, heard_at)
            self.heard += [(heard_at + n / sample_rate, int(v)) for n, v in enumerate(out)]

        super().open(record, sample_rate, on_lost)

    def values(self):
        """The loud values in the order heard, each run once."""
        runs = []
        for _, value in self.heard:
            if value and (not runs or runs[-1] != value):
                runs.append(value)
        return runs

    def count(self, value):
        return sum(v == value for _, v in self.heard)


class Log(list):
    """Outcomes as the callbacks tell them."""

    def started(self, utterance):
        self.append((utterance.seq, utterance.outcome))

    def played(self, utterance, first_sound_at):
        assert first_sound_at == utterance.first_sound_at
        self.append((utterance.seq, utterance.outcome))


def playing(sim, tape=None, **settings):
    tape = tape or Tape(sim)
    log = Log()
    player = AudioPlayer(
        tape,
        sample_rate=RATE,
        fallback="/nowhere/at/all.wav",
        on_started=log.started,
        on_played=log.played,
        runtime=sim,
        **settings,
    )
    player.start()
    return player, tape, log


def test_sounds_are_heard_whole_in_sequence_without_a_gap():
    def scenario(sim):
        player, tape, log = playing(sim)
        for seq in (2, 0, 3, 1):
            player.play(seq, None if seq == 1 else Beep(seq + 1))
        assert player.wait_idle(5)
        player.stop()
        assert tape.values() == [1, 3, 4]
        assert [tape.count(value) for value in (1, 3, 4)] == [100, 100, 100]
        loud = [at for at, value in tape.heard if value]
        assert max(b - a for a, b in pairwise(loud)) < 2 / RATE
        assert log == [(s, what) for s in (0, 2, 3) for what in ("speaking", "spoken")]
        statistics = player.statistics()
        assert (statistics.played, statistics.failed, statistics.seconds) == (3, 1, 0.3)

    explore(scenario, 25)


def test_a_sound_of_another_rate_keeps_its_length():
    def scenario(sim):
        player, tape, _ = playing(sim)
        beep = Beep(7)
        beep.sample_rate = RATE // 2
        player.play(0, beep)
        assert player.wait_idle(5)
        player.stop()
        assert tape.count(7) == 200

    explore(scenario, 5)


def test_the_delay_is_measured_from_the_event_to_the_first_sample():
    def scenario(sim):
        player, tape, _ = playing(sim)
        sim.sleep(1.005)
        event_at = sim.monotonic() - 0.5
        player.play(0, Beep(1), event_at=event_at)
        assert player.wait_idle(5)
        player.stop()
        first_at = next(at for at, value in tape.heard if value)
        statistics = player.statistics()
        assert statistics.delay.max == pytest.approx(first_at - event_at)
        assert statistics.wait.max == pytest.approx(first_at - event_at - 0.5)

    explore(scenario, 5)


def test_interrupt_silences_at_once_and_what_comes_later_is_heard():
    def scenario(sim):
        player, tape, log = playing(sim)
        for seq in range(3):
            player.play(seq, Beep(1000 * (seq + 1), seconds=5))
        sim.sleep(1)
        assert player.interrupt() == 3
        interrupted_at = sim.monotonic()
        sim.sleep(1)
        loud = [at for at, value in tape.heard if value]
        assert max(loud) < interrupted_at + 0.05
        player.play(3, Beep(7))
        assert player.wait_idle(5)
        player.stop()
        assert tape.values()[-1] == 7
        assert log[1:4] == [(0, "interrupted"), (1, "interrupted"), (2, "interrupted")]
        assert player.statistics().cut == {"interrupted": 3}

    explore(scenario, 20)


class MeddlingLock:
    """Once armed, does something at the first moment at which it is free again."""

    def __init__(self):
        self._lock = threading.Lock()
        self.meddle = None

    def __enter__(self):
        return self._lock.__enter__()

    def __exit__(self, *exc_info):
        self._lock.__exit__(*exc_info)
        if self.meddle:
            meddle, self.meddle = self.meddle, None
            meddle()


def test_the_sink_cannot_begin_the_next_sound_in_the_middle_of_an_interrupt():
    lock, reports = MeddlingLock(), []
    runtime = types.SimpleNamespace(lock=lambda: lock)
    programme = Programme(RATE, 0, lambda *report: reports.append(report[1]), runtime=runtime)
    block = np.empty(20, np.int16)
    for seq in range(3):
        samples = np.full(1000, 5, np.int16)
        sounding = Sounding(seq, samples, "", 0, None, 0.0, None)
        programme.put(seq, sounding, 0, cut=False)
    programme.fill(block, 0.0)
    lock.meddle = lambda: programme.fill(block, 0.0)
    assert programme.silence() == 3
    programme.fill(block, 0.0)
    assert not block.any()
    assert reports == ["speaking", *["interrupted"] * 3]


def test_a_cut_sound_fades_instead_of_clicking():
    def scenario(sim):
        player, tape, _ = playing(sim)
        player.play(0, Beep(1000, seconds=5))
        sim.sleep(1)
        player.skip()
        sim.sleep(1)
        player.stop()
        fade = [value for _, value in tape.heard if 0 < value < 1000]
        assert fade == sorted(fade, reverse=True)
        assert len(fade) >= 3

    explore(scenario, 3)


def test_skip_goes_on_with_the_next_and_clear_keeps_what_is_heard():
    def scenario(sim):
        player, tape, log = playing(sim)
        for seq in range(4):
            player.play(seq, Beep(1000 * (seq + 1), seconds=2))
        sim.sleep(1)
        assert player.skip()
        sim.sleep(1)
        assert player.clear() == 2
        assert player.wait_idle(5)
        assert not player.skip()
        player.stop()
        assert tape.count(1000) < 1100
        assert tape.count(2000) == 2000
        ends = [entry for entry in log if entry[1] != "speaking"]
        assert ends == [(0, "skipped"), (2, "cleared"), (3, "cleared"), (1, "spoken")]

    explore(scenario, 10)


def test_pause_stops_in_the_middle_and_resume_goes_on_there():
    def scenario(sim):
        player, tape, _ = playing(sim)
        player.play(0, Beep(1, seconds=2))
        sim.sleep(1)
        player.pause()
        assert player.statistics().paused
        sim.sleep(5)
        player.resume()
        assert player.wait_idle(5)
        player.stop()
        # the five samples that fade at the pause are heard again after it, whole
        assert 2000 <= tape.count(1) <= 2005

    explore(scenario, 5)


def test_mute_and_volume_change_what_is_heard_not_what_is_played():
    def scenario(sim):
        player, tape, _ = playing(sim)
        player.play(0, Beep(1000, seconds=4))
        sim.sleep(1)
        player.set_volume(0.5)
        sim.sleep(1)
        player.mute()
        sim.sleep(1)
        player.mute(False)
        assert player.wait_idle(5)
        player.stop()
        assert tape.count(500) > 1800
        assert tape.count(1000) < 1100
        assert player.statistics().seconds == 4
        with pytest.raises(ValueError, match=r"volume must be from 0 to 1, not 1.5"):
            player.set_volume(1.5)

    explore(scenario, 5)


def test_the_urgent_goes_first_and_cuts_only_what_is_less_urgent():
    def scenario(sim):
        player, tape, log = playing(sim)
        player.play(0, Beep(1000, seconds=2), priority=1)
        player.play(1, Beep(2000, seconds=2), priority=2)
        player.play(2, Beep(3000, seconds=2), priority=1, cut=True)  # not more urgent: waits
        sim.sleep(1)
        player.play(3, Beep(4000, seconds=2), priority=0, cut=True)
        assert player.wait_idle(20)
        player.stop()
        faded = {1000, 2000, 3000, 4000}
        assert [v for v in tape.values() if v in faded] == [1000, 4000, 3000, 2000]
        assert (0, "interrupted") in log
        assert tape.count(4000) == tape.count(3000) == tape.count(2000) == 2000

    explore(scenario, 10)


def test_a_number_that_never_comes_is_given_up_after_patience(caplog):
    def scenario(sim):
        player, tape, _ = playing(sim, patience=3)
        player.play(0, Beep(1))
        player.play(2, Beep(3))
        player.play(5, Beep(6))
        assert player.wait_idle(20)
        began = [next(at for at, v in tape.heard if v == value) for value in (1, 3, 6)]
        assert 2.9 < began[1] - began[0] < 3.3
        assert 2.9 < began[2] - began[1] < 3.3
        assert not player.play(1, Beep(2))
        player.stop()
        statistics = player.statistics()
        assert (statistics.given_up, statistics.late, statistics.played) == (3, 1, 3)

    with caplog.at_level(logging.CRITICAL, "livebot.playback"):
        explore(scenario, 10)


def test_a_callback_that_raises_stops_nothing(caplog):
    def scenario(sim):
        def bad(*_):
            raise RuntimeError("as planned")

        tape = Tape(sim)
        player = AudioPlayer(tape, sample_rate=RATE, on_started=bad, on_played=bad, runtime=sim)
        player.start()
        player.play(0, Beep(1))
        player.play(1, Beep(2))
        assert player.wait_idle(5)
        player.stop()
        assert tape.values() == [1, 2]

    with caplog.at_level(logging.CRITICAL, "livebot.playback"):
        explore(scenario, 5)


def test_stop_tells_what_became_of_everything_and_takes_no_more():
    def scenario(sim):
        player, _, log = playing(sim)
        for seq in (0, 1, 3):
            player.play(seq, Beep(seq + 1, seconds=5))
        sim.sleep(1)
        player.stop()
        assert log == [(0, "speaking"), (0, "stopped"), (1, "stopped"), (3, "stopped")]
        assert player.wait_idle(0)
        assert not player.play(4, Beep(5))

    explore(scenario, 20)


def test_a_player_that_was_never_started_can_be_stopped():
    player = AudioPlayer(NullSink(), sample_rate=RATE)
    player.play(0, Beep(1))
    player.stop()
    assert player.statistics().cut == {"stopped": 1}


def test_another_device_can_be_chosen_in_the_middle_of_a_sound():
    def scenario(sim):
        player, first, log = playing(sim)
        player.play(0, Beep(1, seconds=4))
        sim.sleep(1.5)
        second = Tape(sim)
        second.name = "headphones"
        player.use(second)
        assert player.wait_idle(10)
        statistics = player.statistics()
        player.stop()
        assert (statistics.sink, statistics.losses) == ("headphones", 0)
        assert first.count(1) + second.count(1) == 4000
        assert second.count(1) > 2000
        assert log == [(0, "speaking"), (0, "spoken")]

    explore(scenario, 10)


def test_a_chosen_device_that_cannot_be_opened_is_waited_for(caplog):
    def scenario(sim):
        player, _, log = playing(sim)
        player.use(Tape(sim, refusals=2))
        player.play(0, Beep(1))
        assert player.wait_idle(10)
        sim.sleep(5)
        assert player.statistics().sink == "tape"
        player.stop()
        assert log == [(0, "speaking"), (0, "spoken")]

    with caplog.at_level(logging.CRITICAL, "livebot.playback"):
        explore(scenario, 5)


def test_nothing_is_opened_after_the_stop():
    class LateNews(Tape):
        def close(self):
            super().close()
            self.lose("it ended")

    def scenario(sim):
        player, tape, _ = playing(sim, LateNews(sim))
        other = Tape(sim)
        sim.sleep(1)
        player.stop()
        player.use(other)
        player._deliver_rest()
        assert (tape.opened, other.opened) == (1, 0)
        assert player.statistics().losses == 0

    explore(scenario, 10)


def test_a_lost_device_is_replaced_and_comes_back(caplog):
    def scenario(sim):
        player, tape, log = playing(sim)
        player.play(0, Beep(1, seconds=10))
        sim.sleep(1)
        tape.refusals = 3
        tape.lose("pulled out")
        sim.sleep(0.3)
        assert player.statistics().sink == "nowhere"  # the fallback cannot be opened either
        sim.sleep(10)
        statistics = player.statistics()
        assert (statistics.sink, statistics.losses, tape.opened) == ("tape", 1, 2)
        assert player.wait_idle(20)
        player.stop()
        # heard again from its beginning where it was lost in the middle
        assert log == [(0, "speaking"), (0, "spoken")]
        assert tape.count(1) >= 10000

    with caplog.at_level(logging.CRITICAL, "livebot.playback"):
        explore(scenario, 15)


def test_a_fallback_file_on_a_full_disk_is_not_opened_over_and_over(caplog, tmp_path, monkeypatch):
    written = []

    def refuse(self, block):
        written.append(self.name)
        if len(written) > 10:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sinks.WavSink, "_write", refuse)

    def scenario(sim):
        written.clear()
        tape = Tape(sim, 20)
        player = AudioPlayer(tape, sample_rate=RATE, fallback=tmp_path / "out.wav", runtime=sim)
        player.start()
        player.play(0, Beep(1, seconds=1))
        assert player.wait_idle(5)
        assert player.statistics().sink == "nowhere"
        assert player.statistics().losses == 1
        sim.sleep(200)
        assert player.statistics().sink == "tape"
        player.stop()

    with caplog.at_level(logging.CRITICAL, "livebot.playback"):
        explore(scenario, 5)


def test_a_device_that_comes_and_goes_holds_up_nothing(caplog):
    class Flapping(Tape):
        def open(self, fill, sample_rate, on_lost):
            super().open(fill, sample_rate, on_lost)
            on_lost("gone again")

    def scenario(sim):
        player, tape, log = playing(sim, Flapping(sim))
        player.play(0, Beep(1, seconds=4))
        assert player.wait_idle(30)
        sim.sleep(100)
        player.stop()
        assert log == [(0, "speaking"), (0, "spoken")]
        assert tape.opened < 30, "it is tried too often"

    with caplog.at_level(logging.CRITICAL, "livebot.playback"):
        explore(scenario, 10)


def test_a_number_that_is_refused_keeps_nobody_waiting():
    def scenario(sim):
        player, _, _ = playing(sim)
        player.play(0, None)
        late = sim.thread(player.play, args=(0, Beep(1)))
        late.start()
        began_at = sim.monotonic()
        assert player.wait_idle(1000)
        assert sim.monotonic() - began_at < 1000
        late.join()
        player.stop()

    explore(scenario, 100)


def test_a_pause_is_not_waited_for_when_all_is_to_be_heard():
    def scenario(sim):
        player, *_ = playing(sim)
        player.play(0, Beep(1, seconds=2))
        player.pause()
        began_at = sim.monotonic()
        assert not player.drain(deadline=began_at + 10)
        assert sim.monotonic() == began_at
        player.resume()
        assert player.drain(deadline=began_at + 10)
        player.stop()

    explore(scenario, 5)


class Hasty(Tape):
    """Runs dry at every block until it may hold 120 ms."""

    def __init__(self, sim):
        super().__init__(sim)
        self.latency = 0.03
        self.underflows = 0

    def widen(self):
        self.latency *= 2
        return True

    def _write(self, block):
        self.underflows += self.latency < 0.12


def test_a_device_that_runs_dry_holds_more_sound_until_it_does_not(caplog):
    def scenario(sim):
        player, tape, _ = playing(sim, Hasty(sim))
        for seq in range(20):
            player.play(seq, Beep(seq + 1, seconds=2))
        sim.sleep(9)
        assert tape.underflows > 3
        assert tape.opened == 1, "a stream that begins may run dry"
        assert player.wait_idle(60)
        statistics = player.statistics()
        player.stop()
        assert statistics.latency == tape.latency == 0.12
        assert (tape.opened, statistics.losses) == (3, 0)
        assert tape.values() == list(range(1, 21)), "nothing is lost or said twice"
        assert all(tape.count(value) == 2 * RATE for value in range(1, 21))

    with caplog.at_level(logging.WARNING, "livebot.playback"):
        explore(scenario, 10)
    assert "tape ran dry" in caplog.text
    assert "it holds 60 ms of sound from now on" in caplog.text


class Recovering(Tape):
    """Runs dry at every block with less than `needs(now)` seconds of sound to hold."""

    underflows = 0

    def __init__(self, sim, needs):
        super().__init__(sim)
        self.needs = needs
        self.latency = 0.03
        self.changes = []  # (instant, seconds to hold, what was being heard)
        self.player = None

    def widen(self):
        return self._change(2)

    def narrow(self):
        return self.latency > 0.03 and self._change(0.5)

    def _change(self, factor):
        self.latency *= factor
        speaking = self.player and self.player.statistics().speaking
        self.changes.append((self._runtime.monotonic(), self.latency, speaking))
        return True

    def _write(self, block):
        self.heard = self.heard[-1:]  # hours of it are not needed
        self.underflows += self.latency < self.needs(self._runtime.monotonic())


@pytest.fixture
def _long_blocks(monkeypatch):
    """Half a second at a time: an hour in few steps."""
    monkeypatch.setattr("livebot.playback.sinks._BLOCK", 0.5)


@pytest.mark.usefixtures("_long_blocks")
def test_a_device_that_was_calm_for_long_holds_less_again_but_not_while_it_speaks(caplog):
    def scenario(sim):
        began_at = sim.monotonic()
        tape = Recovering(sim, lambda now: 0.12 if now - began_at < 60 else 0.0)
        player, tape, log = playing(sim, tape)
        tape.player = player
        player.play(0, Beep(1, seconds=700))  # in its midst the device has been calm for 10 minutes
        sim.sleep(1500)
        player.stop()
        latencies = [latency for _, latency, _ in tape.changes]
        assert latencies == [0.06, 0.12, 0.06, 0.03]
        instants = [at - began_at for at, _, _ in tape.changes]
        assert instants[1] < 60
        assert 690 < instants[2] < 710, "as soon as nothing is heard"
        assert instants[3] - instants[2] >= 600, "one step at a time"
        assert [heard for _, _, heard in tape.changes] == ["beep 1", "beep 1", None, None]
        assert log == [(0, "speaking"), (0, "spoken")]

    with caplog.at_level(logging.INFO, "livebot.playback"):
        explore(scenario, 1, max_steps=400_000)
    assert "has not run dry for 10 minutes: it holds 30 ms of sound from now on" in caplog.text


@pytest.mark.usefixtures("_long_blocks")
def test_a_device_that_needs_its_sound_is_tried_ever_more_rarely():
    def scenario(sim):
        player, tape, _ = playing(sim, Recovering(sim, lambda _now: 0.05))
        sim.sleep(5000)
        other = Recovering(sim, lambda _now: 0.05)
        player.use(other)
        sim.sleep(700)
        player.stop()
        assert [latency for _, latency, _ in other.changes][:2] == [0.06, 0.03], "as if nothing was"
        narrowed = [at for at, latency, _ in tape.changes if latency == 0.03]
        pauses = [later - earlier for earlier, later in pairwise(narrowed)]
        assert len(narrowed) == 3, "after 10, 20 and 40 minutes"
        assert pauses[1] > 1.8 * pauses[0] > 1.8 * 1200

    explore(scenario, 1, max_steps=400_000)


def test_an_underflow_now_and_then_changes_nothing():
    class Fine(Hasty):
        def _write(self, block):
            self.underflows = int(self._runtime.monotonic() // 15)

    def scenario(sim):
        player, tape, _ = playing(sim, Fine(sim))
        for seq in range(60):
            player.play(seq, Beep(seq + 1, seconds=2))
        assert player.wait_idle(200)
        assert (tape.latency, tape.opened) == (0.03, 1)
        player.stop()

    explore(scenario, 3)


def test_a_device_that_silently_takes_no_sound_is_given_up(caplog):
    class Stuck(Tape):
        def _pull(self, fill, sample_rate):
            self._stopping.wait()

    def scenario(sim):
        tape = Stuck(sim)
        player, _, log = playing(sim, tape)
        player.play(0, Beep(1))
        assert player.wait_idle(30)
        assert player.statistics().losses == 1
        player.stop()
        assert log == [(0, "speaking"), (0, "spoken")]

    with caplog.at_level(logging.CRITICAL, "livebot.playback"):
        explore(scenario, 5)


def test_without_a_device_it_starts_in_the_file_and_says_so(caplog, tmp_path):
    def scenario(sim):
        path = tmp_path / "out.wav"
        player = AudioPlayer(Tape(sim, 99), sample_rate=RATE, fallback=path, runtime=sim)
        player.start()
        assert player.statistics().path == path
        player.play(0, Beep(1))
        assert player.wait_idle(5)
        player.stop()

    with caplog.at_level(logging.WARNING, "livebot.playback"):
        sim = SimRuntime(seed=1)
        sim.run(scenario, sim)
    assert "no device; playing into file" in caplog.text


def test_a_sink_and_a_file_at_once_are_refused():
    with pytest.raises(ValueError, match="give either sink or wav"):
        AudioPlayer(NullSink(), wav="x.wav")


def test_many_threads_give_sounds_and_each_is_heard_once():
    def scenario(sim):
        player, tape, log = playing(sim)

        def give(seqs):
            for seq in seqs:
                player.play(seq, Beep(seq + 1, seconds=0.02))

        threads = [sim.thread(give, args=(range(n, 12, 3),)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert player.wait_idle(5)
        player.stop()
        assert tape.values() == list(range(1, 13))
        assert len(log) == 24

    explore(scenario, 40)

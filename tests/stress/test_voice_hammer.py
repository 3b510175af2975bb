"""10,000 utterances through workers that hang, die and lie, onto a disk that is full."""

from __future__ import annotations

import errno
import logging
import os
import random
import signal
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest

from livebot.playback import AudioPlayer
from livebot.speech import Pyttsx3Process, SpeechError, SpeechService
from threadkit import DynamicThreadPool, FileTier, TieredCache, TTLCache

pytestmark = [pytest.mark.stress, pytest.mark.timeout(900)]

UTTERANCES = 10_000
WORKERS = 4
FAULTY_WORKER = Path(__file__).parents[1] / "livebot" / "audio" / "faulty_worker.py"
AHEAD = 200  # utterances that may be under way


class FastSink:
    """Pulls as fast as it can, so that hours of speech take seconds."""

    name, path, underflows, latency = "fast", None, 0, 0.0

    def open(self, fill, sample_rate, on_lost):
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(fill,))
        self._thread.start()

    def _run(self, fill):
        block = np.empty(8192, np.int16)
        while not self._closing.is_set():
            fill(block, 0.0)
            if not block.any():
                self._closing.wait(0.001)  # nothing to say: leave the processor to others

    def widen(self):
        return False

    def close(self):
        self._closing.set()
        self._thread.join()


class Diary:
    """What became of each number: the order and count of outcomes."""

    def __init__(self):
        self.spoken = []
        self.failed = Counter()
        self.ended = threading.Semaphore(AHEAD)

    def played(self, utterance, _first_sound_at):
        assert utterance.outcome == "spoken"
        self.spoken.append(utterance.seq)
        self.ended.release()


def say(service, player, diary, seq, text):
    try:
        speech = service.synthesize(text)
    except SpeechError as error:
        diary.failed[error.reason] += 1
        player.play(seq, None)
        diary.ended.release()
    else:
        player.play(seq, speech)


def kill_one(engines, chance):
    victim = chance.choice(engines).pid
    if victim is not None:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            pass
        else:
            return 1
    return 0


def footprint():
    process = psutil.Process()
    return process.memory_info().rss, process.num_fds(), len(process.children())


def fill_up_the_disk(monkeypatch, chance):
    really = FileTier._write_locked

    def write(self, *args):
        if chance.random() < 0.3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(self, *args)

    monkeypatch.setattr(FileTier, "_write_locked", write)


@pytest.fixture(autouse=True)
def _no_log():
    """Thousands of records with their tracebacks, kept by pytest, would look like a leak."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def run(count, engine, texts, monkeypatch, tmp_path):
    """Say `count` texts; the diary, what was killed, and the footprints at a fifth and the end."""
    chance = random.Random(1123)
    fill_up_the_disk(monkeypatch, chance)
    before = footprint()
    engines = []

    def make():
        engines.append(engine())
        return engines[-1]

    cache = TieredCache(TTLCache(50), FileTier(tmp_path / "cache", max_bytes=20_000_000))
    service = SpeechService(cache, engine=make, workers=WORKERS)
    diary, killed, prints = Diary(), 0, []
    player = AudioPlayer(FastSink(), sample_rate=8000, on_played=diary.played, fallback=os.devnull)
    player.start()
    with DynamicThreadPool(min_workers=WORKERS, max_workers=WORKERS) as pool:
        for seq in range(count):
            assert diary.ended.acquire(timeout=60), "stuck"
            pool.submit(say, service, player, diary, seq, texts(seq, chance))
            killed += kill_one(engines, chance) if chance.random() < 0.02 else 0
            if seq in (count // 5, count - 1):
                prints.append(footprint())
    assert player.wait_idle(60)
    player.stop()
    service.close()
    print(f"\nspoken {len(diary.spoken)}, failed {dict(diary.failed)}, killed {killed}")  # noqa: T201
    print(f"statistics {service.statistics()}\nfootprints {before} {prints} {footprint()}")  # noqa: T201
    return diary, killed, before, prints


def test_every_utterance_ends_spoken_or_failed_with_its_reason(monkeypatch, tmp_path):
    command = [sys.executable, "-I", "-S", str(FAULTY_WORKER), str(tmp_path)]

    def engine():
        return Pyttsx3Process(command=command, patience=0.3)

    def texts(seq, chance):  # a fifth are repeats, which the cache may serve
        return f"random {chance.randrange(seq + 1) if chance.random() < 0.2 else seq}"

    diary, killed, before, prints = run(UTTERANCES, engine, texts, monkeypatch, tmp_path)
    assert len(diary.spoken) + sum(diary.failed.values()) == UTTERANCES
    assert diary.spoken == sorted(diary.spoken)
    assert len(diary.spoken) > 0.8 * UTTERANCES
    assert set(diary.failed) <= {
        *("timeout", "worker died", "empty audio", "truncated audio", "implausible length"),
    }
    assert len(diary.failed) >= 4
    assert killed > 50
    nothing_left_behind(before, prints)


def test_the_real_engine_survives_being_killed(monkeypatch, tmp_path):
    count = UTTERANCES // 20
    texts = "谢谢小明送的{}个玫瑰花".format
    diary, killed, before, prints = run(
        count, Pyttsx3Process, lambda seq, _: texts(seq), monkeypatch, tmp_path
    )
    assert len(diary.spoken) + sum(diary.failed.values()) == count
    assert diary.spoken == sorted(diary.spoken)
    assert set(diary.failed) <= {"worker died"}
    assert len(diary.spoken) > 0.95 * count
    assert killed > 0
    nothing_left_behind(before, prints)


def nothing_left_behind(before, prints):
    (early, *_), (late, *_) = prints
    assert late - early < 30_000_000, "memory grows"
    _, descriptors, children = footprint()
    assert (descriptors, children) == before[1:]

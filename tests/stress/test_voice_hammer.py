"""10,000 utterances through workers that hang, die and lie, onto a disk that is full."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import gc
import logging
import os
import random
import signal
import sys
import threading
from array import array
from collections import Counter
from pathlib import Path
from typing import NamedTuple

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
CACHE_BYTES = 1_500_000  # on disk: full long before the first footprint


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

    def narrow(self):
        return False

    def close(self):
        self._closing.set()
        self._thread.join()


class Diary:
    """What became of each number: the order and count of outcomes."""

    def __init__(self):
        self.spoken = array("q")  # a list of numbers would look like a leak
        self.failed = Counter()
        self.ended = threading.Semaphore(AHEAD)

    def played(self, utterance, _first_sound_at):
        assert utterance.outcome == "spoken"
        self.spoken.append(utterance.seq)
        self.ended.release()

    def wait_for_all(self):
        """Wait until every utterance so far has ended."""
        for _ in range(AHEAD):
            assert self.ended.acquire(timeout=60), "stuck"
        self.ended.release(AHEAD)


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


class Footprint(NamedTuple):
    """What this process holds: bytes from the system, bytes from malloc, Python's blocks, ..."""

    resident: int
    allocated: int
    blocks: int
    descriptors: int
    children: int
    threads: int


# From the first footprint to the last, 8,000 and 1,600 utterances later. One object an utterance is
# over it, be it a block of Python's (512 bytes at most) or malloc's.
MOST_GROWTH = Footprint(10_000_000, 1_000_000, 800, 0, 0, 0)


class MallocInfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


LIBC = ctypes.CDLL(None)
LIBC.mallinfo2.restype = MallocInfo


def footprint():
    """Taken when nothing is under way, and without what malloc keeps for later.

    Each of malloc's arenas keeps the space of the longest answers it ever held, and each worker's
    reader is a new thread, on any arena: 10 to 20 MB more or less from one moment to the next. What
    is in use is counted to the byte, and a leak of one object an utterance is seen.
    """
    gc.collect()
    LIBC.malloc_trim(0)
    used, process = LIBC.mallinfo2(), psutil.Process()
    return Footprint(
        process.memory_info().rss,
        used.uordblks + used.hblkhd,
        sys.getallocatedblocks(),
        process.num_fds(),
        len(process.children()),
        threading.active_count(),
    )


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

    cache = TieredCache(TTLCache(50), FileTier(tmp_path / "cache", max_bytes=CACHE_BYTES))
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
                diary.wait_for_all()
                prints.append((footprint(), cache.statistics()))
    assert player.wait_idle(60)
    player.stop()
    service.close()
    print(f"\nspoken {len(diary.spoken)}, failed {dict(diary.failed)}, killed {killed}")  # noqa: T201
    told = dataclasses.replace(service.statistics(), synthesis=None)
    print(told, "before", before, "after", footprint(), sep="\n")  # noqa: T201
    for held, cached in prints:
        print(held, cached.memory.entries, cached.files, sep="\n")  # noqa: T201
    return diary, killed, before, prints


def test_every_utterance_ends_spoken_or_failed_with_its_reason(monkeypatch, tmp_path):
    command = [sys.executable, "-I", "-S", str(FAULTY_WORKER), str(tmp_path)]

    def engine():
        return Pyttsx3Process(command=command, patience=0.3)

    def texts(seq, chance):  # a fifth are repeats, which the cache may serve
        return f"random {chance.randrange(seq + 1) if chance.random() < 0.2 else seq}"

    diary, killed, before, prints = run(UTTERANCES, engine, texts, monkeypatch, tmp_path)
    assert len(diary.spoken) + sum(diary.failed.values()) == UTTERANCES
    assert list(diary.spoken) == sorted(diary.spoken)
    assert len(diary.spoken) > 0.8 * UTTERANCES
    assert set(diary.failed) <= {
        *("timeout", "worker died", "empty audio", "truncated audio", "implausible length"),
    }
    assert len(diary.failed) >= 4
    assert killed > 50
    nothing_left_behind(before, prints)


def test_the_real_engine_survives_being_killed(monkeypatch, tmp_path):
    count = UTTERANCES // 5

    def texts(seq, _chance):  # all as long, or the cache would weigh more in the end
        return f"谢谢小明送的{1000 + seq}个玫瑰花"

    diary, killed, before, prints = run(count, Pyttsx3Process, texts, monkeypatch, tmp_path)
    assert len(diary.spoken) + sum(diary.failed.values()) == count
    assert list(diary.spoken) == sorted(diary.spoken)
    assert set(diary.failed) <= {"worker died"}
    assert len(diary.spoken) > 0.95 * count
    assert killed > 0
    nothing_left_behind(before, prints)


def nothing_left_behind(before, prints):
    """Memory is flat once the cache is full, and all that was started has ended."""
    (early, cached), (late, _) = prints
    assert cached.files.evicted, "the cache must be full, or its filling looks like a leak"
    assert late.allocated - early.allocated < MOST_GROWTH.allocated, "memory leaks"
    assert late.blocks - early.blocks < MOST_GROWTH.blocks, "objects leak"
    assert late.resident - early.resident < MOST_GROWTH.resident, "memory grows"
    after = footprint()
    assert after[3:] == before[3:], "descriptors, processes or threads are left"

"""EspeakEngine: espeak-ng called in this process, one text at a time."""

from __future__ import annotations

import threading
import types

import numpy as np
import pytest

from livebot.speech import EspeakEngine, Pyttsx3Process, SpeechError, SpeechService, process
from livebot.speech.espeak import EspeakFiles, espeak_files, short_path


@pytest.fixture
def engine():
    engine = EspeakEngine()
    yield engine
    engine.close()


def test_it_says_the_same_as_the_process_in_a_fraction_of_the_time(engine):
    text = "谢谢小明送的玫瑰花"
    other = Pyttsx3Process()
    try:
        theirs = other.synthesize(text, "sit/cmn", 200, 1.0)
    finally:
        other.close()
    ours = engine.synthesize(text, "sit/cmn", 200, 1.0)
    assert ours.sample_rate == theirs.sample_rate == 22050
    # pyttsx3 asks for a pause at the end of each sentence, we do not
    assert 0 < theirs.seconds - ours.seconds < 0.5


def test_voices_rates_and_volumes_are_obeyed(engine):
    ids = {voice.id for voice in engine.voices()}
    assert {"sit/cmn", "gmw/en"} <= ids
    normal = engine.synthesize("你好，欢迎来到直播间", "sit/cmn", 200, 1.0)
    fast = engine.synthesize("你好，欢迎来到直播间", "sit/cmn", 350, 1.0)
    quiet = engine.synthesize("你好，欢迎来到直播间", "sit/cmn", 200, 0.3)
    assert fast.seconds < 0.8 * normal.seconds
    loudest = [np.abs(np.frombuffer(s.pcm, np.int16).astype(int)).max() for s in (quiet, normal)]
    assert loudest[0] < 0.6 * loudest[1]


def test_an_unknown_voice_is_told_and_the_next_text_is_spoken(engine):
    with pytest.raises(SpeechError, match="refuses the voice 'nobody'") as caught:
        engine.synthesize("你好", "nobody", 200, 1.0)
    assert caught.value.reason == "engine error"
    assert engine.synthesize("你好", "sit/cmn", 200, 1.0).seconds > 0.2


def test_a_text_that_takes_too_long_is_given_up():
    times = iter(range(100))
    clock = types.SimpleNamespace(monotonic=lambda: next(times) / 10)
    engine = EspeakEngine(patience=0.3, patience_per_character=0, runtime=clock)
    with pytest.raises(SpeechError) as caught:
        engine.synthesize("你好" * 100, "sit/cmn", 200, 1.0)
    assert caught.value.reason == "timeout"


def test_a_closed_engine_speaks_no_more(engine):
    engine.close()
    with pytest.raises(SpeechError) as caught:
        engine.synthesize("你好", "sit/cmn", 200, 1.0)
    assert caught.value.reason == "closed"


def test_many_threads_take_turns():
    service = SpeechService(engine=EspeakEngine, workers=4)
    texts = [f"第{n}位观众你好" + "啊" * (n % 3) for n in range(40)]
    lengths = {}

    def call(mine):
        for text in mine:
            lengths[text] = service.synthesize(text).seconds

    threads = [threading.Thread(target=call, args=(texts[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    alone = {text: service.synthesize(text).seconds for text in texts}
    assert lengths == pytest.approx(alone, rel=0.1)
    service.close()


def test_a_path_too_long_for_espeak_is_shortened(tmp_path, monkeypatch):
    files = espeak_files()
    assert short_path(files.data) == files.data
    deep = tmp_path / ("deep" * 40)
    deep.mkdir()
    (deep / "espeak-ng-data").symlink_to(files.data)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    long = EspeakFiles(files.library, short_path(str(deep / "espeak-ng-data")))
    assert len(long.data) < 140
    monkeypatch.setattr(process, "espeak_files", lambda: long)
    engine = Pyttsx3Process()
    try:
        assert engine.synthesize("你好", "sit/cmn", 200, 1.0).seconds > 0.2
    finally:
        engine.close()

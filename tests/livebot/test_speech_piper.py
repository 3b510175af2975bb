"""PiperEngine, with a stand-in for the package; tests/stress has the real one."""

from __future__ import annotations

import json
import sys
import threading
import types

import numpy as np
import pytest

from livebot.speech import PiperEngine, SpeechError, SpeechService

SAMPLES = np.full(11025, 3000, np.int16)


class FakePiper(types.ModuleType):
    """As much of the package `piper` as is used."""

    def __init__(self):
        super().__init__("piper")
        self.SynthesisConfig = types.SimpleNamespace
        self.PiperVoice = types.SimpleNamespace(load=self.load)
        self.loads = []
        self.settings = []
        self.between_sentences = lambda: None

    def load(self, path):
        self.loads.append(path.name)
        if path.read_bytes() == b"broken":
            raise ValueError("protobuf parsing failed")
        config = types.SimpleNamespace(sample_rate=22050, length_scale=1.0)
        return types.SimpleNamespace(config=config, synthesize=self.synthesize)

    def synthesize(self, text, syn_config):
        self.settings.append(syn_config)
        for sentence in text.split("."):
            if sentence == "bad":
                raise RuntimeError("no such phoneme")
            yield types.SimpleNamespace(audio_int16_bytes=SAMPLES.tobytes())
            self.between_sentences()


@pytest.fixture
def piper(monkeypatch):
    fake = FakePiper()
    monkeypatch.setitem(sys.modules, "piper", fake)
    return fake


@pytest.fixture
def folder(tmp_path):
    for name, code in (("en_US-joe-medium", "en_US"), ("zh_CN-huayan-medium", None)):
        (tmp_path / f"{name}.onnx").write_bytes(b"model")
        facts = {"language": {"code": code}} if code else {}
        (tmp_path / f"{name}.onnx.json").write_text(json.dumps(facts))
    return tmp_path


def test_voices_are_chosen_by_language_and_loaded_once(piper, folder):
    service = SpeechService(engine=lambda: PiperEngine(folder), workers=1, rate=250)
    for text in ("hello", "你好", "good morning"):
        assert service.synthesize(text).seconds == pytest.approx(0.5)
    assert piper.loads == ["en_US-joe-medium.onnx", "zh_CN-huayan-medium.onnx"]
    assert piper.settings[0].length_scale == pytest.approx(0.8)
    service.close()


def test_sentences_are_joined(piper, folder):
    speech = PiperEngine(folder).synthesize("one.two.three", "en_US-joe-medium", 200, 0.5)
    assert speech.seconds == 1.5
    assert piper.settings[0].volume == 0.5


@pytest.mark.parametrize(
    ("text", "voice", "told"),
    [
        ("hello", "nobody", "there is no"),
        ("bad", "en_US-joe-medium", "no such phoneme"),
        ("hello", "broken", "protobuf parsing failed"),
    ],
)
def test_what_goes_wrong_is_told(piper, folder, text, voice, told):
    (folder / "broken.onnx").write_bytes(b"broken")
    with pytest.raises(SpeechError, match=told) as caught:
        PiperEngine(folder).synthesize(text, voice, 200, 1.0)
    assert caught.value.reason == "engine error"


def test_without_the_package_the_mend_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "piper", None)
    with pytest.raises(SpeechError, match=r"pip install 'threadkit\[piper\]'"):
        PiperEngine(folder).synthesize("hello", "en_US-joe-medium", 200, 1.0)


def test_close_ends_a_text_after_its_sentence(piper, folder):
    engine = PiperEngine(folder)
    at_a_pause, closed = threading.Event(), threading.Event()

    def pause():
        at_a_pause.set()
        closed.wait(10)

    piper.between_sentences = pause
    reasons = []

    def call():
        with pytest.raises(SpeechError) as caught:
            engine.synthesize("one.two", "en_US-joe-medium", 200, 1.0)
        reasons.append(caught.value.reason)

    thread = threading.Thread(target=call)
    thread.start()
    assert at_a_pause.wait(10)
    engine.close()
    closed.set()
    thread.join(10)
    assert reasons == ["closed"]


def test_a_text_that_takes_too_long_is_given_up(piper, folder):
    times = iter((0.0, 1.0, 9.0))
    clock = types.SimpleNamespace(monotonic=lambda: next(times))
    engine = PiperEngine(folder, patience=5, patience_per_character=0, runtime=clock)
    with pytest.raises(SpeechError) as caught:
        engine.synthesize("one.two.three", "en_US-joe-medium", 200, 1.0)
    assert caught.value.reason == "timeout"

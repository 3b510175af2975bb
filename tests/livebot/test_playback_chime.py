"""A chime is mixed into whatever is heard, whatever state the player is in."""

import numpy as np
import pytest

from livebot.playback import Tone
from livebot.playback.programme import Programme, Sounding
from threadkit import REAL

BLOCK = 1000


@pytest.fixture
def programme():
    return Programme(22050, 0, lambda sounding, what: None, runtime=REAL)


def block(programme):
    out = np.empty(BLOCK, np.int16)
    programme.fill(out, 0.0)
    return out


def sound(loudness):
    samples = np.full(4 * BLOCK, loudness, np.int16)
    return Sounding(0, samples, "text", 0, None, 0.0, None)


def test_a_chime_is_heard_at_once_and_ends(programme):
    tone = np.frombuffer(Tone().pcm, np.int16)
    programme.chime(tone)
    heard = np.concatenate([block(programme) for _ in range(8)])
    assert np.array_equal(heard[: len(tone)], tone)
    assert not heard[len(tone) :].any()


def test_a_chime_takes_nothing_from_the_sound_below_it(programme):
    programme.put(0, sound(100), 0, cut=False)
    programme.chime(np.full(BLOCK // 2, 7, np.int16))
    out = block(programme)
    assert (out[: BLOCK // 2] == 107).all()
    assert (out[BLOCK // 2 :] == 100).all()


def test_a_chime_is_heard_in_a_pause_that_stands_still(programme):
    programme.put(0, sound(100), 0, cut=False)
    programme.pause(paused=True)
    programme.chime(np.full(BLOCK, 7, np.int16))
    assert (block(programme) == 7).all()
    assert not block(programme).any()
    assert programme.samples_spoken == 0


def test_what_gets_too_loud_is_cut_and_does_not_wrap(programme):
    programme.put(0, sound(30000), 0, cut=False)
    programme.chime(np.full(BLOCK, 30000, np.int16))
    assert (block(programme) == 32767).all()


def test_a_chime_is_as_loud_as_the_volume_says(programme):
    programme.set_gain(muted=True)
    block(programme)  # the gain slides
    programme.chime(np.full(BLOCK, 7000, np.int16))
    assert not block(programme).any()

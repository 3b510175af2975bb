"""What the audience hears: sounds in strict order on one output that never closes.

* `order`: which sound comes next.
* `programme`: what is heard sample by sample; pause, skip, volume.
* `sinks`: a sound device, a WAV file, or nowhere, each at the speed of sound.
* `output`: the wanted device, another place while it is away, and the way back.
* `pace`: a speaking rate that rises with the backlog.
* `subtitles`: the sentence that is heard, in a file for OBS.
* `tone`: something to hear whether there is sound.
* `player`: AudioPlayer, the component that ties these together.
"""

from livebot.playback.pace import Pace
from livebot.playback.player import AudioPlayer, PlayerStatistics, Sound, Utterance
from livebot.playback.sinks import (
    NullSink,
    PortAudioSink,
    Sink,
    SinkError,
    WavSink,
    output_devices,
)
from livebot.playback.tone import Tone

__all__ = [
    "AudioPlayer",
    "NullSink",
    "Pace",
    "PlayerStatistics",
    "PortAudioSink",
    "Sink",
    "SinkError",
    "Sound",
    "Tone",
    "Utterance",
    "WavSink",
    "output_devices",
]

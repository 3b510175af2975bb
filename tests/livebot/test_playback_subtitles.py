"""SubtitleFile, alone and kept by a player."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from livebot.playback import AudioPlayer, NullSink
from livebot.playback.subtitles import SubtitleFile
from threadkit.testing import explore


def test_the_file_holds_what_is_shown(tmp_path):
    path = tmp_path / "subtitles.txt"
    subtitles = SubtitleFile(path)
    subtitles.show("谢谢小明")
    assert path.read_text("utf-8") == "谢谢小明"
    subtitles.clear()
    assert path.read_text("utf-8") == ""
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_that_keeps_the_file_open_does_not_stop_it(tmp_path, monkeypatch):
    def refuse(self, target):
        raise PermissionError("in use")

    monkeypatch.setattr(Path, "replace", refuse)
    path = tmp_path / "subtitles.txt"
    SubtitleFile(path).show("你好")
    assert path.read_text("utf-8") == "你好"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_is_told_once(tmp_path, caplog):
    subtitles = SubtitleFile(tmp_path / "missing" / "subtitles.txt")
    with caplog.at_level(logging.WARNING):
        subtitles.show("一")
        subtitles.show("二")
    assert caplog.text.count("no subtitles: cannot write") == 1


def test_half_a_character_is_shown_as_a_question_mark(tmp_path):
    path = tmp_path / "subtitles.txt"
    SubtitleFile(path).show("你\ud83d好")
    assert path.read_text("utf-8") == "你?好"


def test_a_player_shows_each_sentence_while_it_is_heard(tmp_path):
    path = tmp_path / "subtitles.txt"

    class Beep:
        sample_rate = 1000
        pcm = np.ones(1000, np.int16).tobytes()

        def __init__(self, text):
            self.text = text

    def scenario(sim):
        player = AudioPlayer(NullSink(runtime=sim), sample_rate=1000, subtitles=path, runtime=sim)
        player.start()
        player.play(0, Beep("一"))
        player.play(1, Beep("二"))
        shown = []
        for _ in range(3):
            sim.sleep(0.7)
            shown.append(path.read_text("utf-8"))
            sim.sleep(0.3)
        player.stop()
        assert shown == ["一", "二", ""]

    explore(scenario, 5)

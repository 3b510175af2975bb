"""SpeechService: engines lent one caller at a time, sounds checked, trimmed and cached."""

from __future__ import annotations

import contextlib
import errno
import threading

import numpy as np
import pytest

from livebot.speech import Speech, SpeechError, SpeechService, Voice
from threadkit import FileTier, TieredCache, TTLCache
from threadkit.testing import explore

RATE = 1000
VOICES = (Voice("sit/cmn", "Chinese", ("cmn",)), Voice("gmw/en", "English", ("en-gb",)))


class ScriptedEngine:
    """Speaks at once; a text that is a key of `faults` raises or waits instead."""

    name = "scripted"

    def __init__(self, faults=None, silence=0):
        self.faults = faults or {}
        self.silence = silence
        self.requests = []
        self.closed = False
        self.users = 0

    def voices(self):
        return VOICES

    def synthesize(self, text, voice, rate, volume):
        self.users += 1
        assert self.users == 1, "two callers share an engine"
        try:
            self.requests.append((text, voice, rate, volume))
            fault = self.faults.get(text)
            if callable(fault):
                fault()
            elif fault is not None:
                raise SpeechError(fault, text=text)
            quiet = np.zeros(self.silence, np.int16)
            sound = np.full(400, 5000, np.int16)
            return Speech(np.concatenate([quiet, sound, quiet]).tobytes(), RATE, text)
        finally:
            self.users -= 1

    def close(self):
        self.closed = True


def test_a_text_is_normalised_and_read_by_a_voice_of_its_language():
    engine = ScriptedEngine()
    service = SpeechService(engine=lambda: engine, rate=220)
    for text in ("你好[玫瑰]", "hello 😀"):
        assert service.synthesize(text).text == text
    assert engine.requests == [("你好", "sit/cmn", 220, 1.0), ("hello", "gmw/en", 220, 1.0)]


def test_a_voice_can_be_chosen_for_a_language():
    engine = ScriptedEngine()
    SpeechService(engine=lambda: engine, voices={"zh": "mine"}).synthesize("你好")
    assert engine.requests[0][1] == "mine"


def test_a_language_without_a_voice_is_told():
    engine = ScriptedEngine()
    service = SpeechService(engine=lambda: engine)
    with pytest.raises(SpeechError, match="none of 2 speaks ko") as caught:
        service.synthesize("안녕하세요")
    assert caught.value.reason == "no voice"


def test_silence_round_the_speech_is_removed():
    engine = ScriptedEngine(silence=500)
    speech = SpeechService(engine=lambda: engine).synthesize("你好")
    assert len(speech.pcm) // 2 == 10 + 400 + 30  # at 1,000 samples a second


def test_a_repeated_text_is_not_spoken_again():
    engine = ScriptedEngine()
    service = SpeechService(TTLCache(100), engine=lambda: engine)
    first, second = service.synthesize("你好"), service.synthesize(" 你好😀")
    assert (first.cached, second.cached) == (False, True)
    assert first.pcm == second.pcm
    assert second.text == " 你好😀"
    assert len(engine.requests) == 1
    assert service.statistics().cached == 1


def test_callers_of_one_text_share_one_synthesis():
    def scenario(sim):
        engine = ScriptedEngine(faults={"慢": lambda: sim.sleep(5)})
        cache = TTLCache(100, runtime=sim)
        service = SpeechService(cache, engine=lambda: engine, workers=3, runtime=sim)
        sounds = []
        threads = [sim.thread(lambda: sounds.append(service.synthesize("慢"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        sim.sleep(1)
        with pytest.raises(SpeechError) as caught:
            service.synthesize("慢", deadline=sim.monotonic() + 1)
        assert caught.value.reason == "busy"
        for thread in threads:
            thread.join()
        assert len(engine.requests) == 1
        assert sorted(sound.cached for sound in sounds) == [False, True, True]

    explore(scenario, 30)


def test_audio_outlives_the_service_in_files(tmp_path):
    engines = [ScriptedEngine(), ScriptedEngine()]
    for engine in engines:
        cache = TieredCache(TTLCache(10), FileTier(tmp_path, max_bytes=1_000_000))
        service = SpeechService(cache, engine=lambda engine=engine: engine)
        speech = service.synthesize("你好")
        assert (speech.sample_rate, len(speech.pcm)) == (RATE, 800)
    assert [len(engine.requests) for engine in engines] == [1, 0]


def test_a_full_disk_costs_the_files_and_no_sentence(tmp_path, monkeypatch, caplog):
    def write(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FileTier, "_write_locked", write)
    cache = TieredCache(TTLCache(10), FileTier(tmp_path, max_bytes=1_000_000))
    service = SpeechService(cache, engine=ScriptedEngine)
    assert [service.synthesize(text).cached for text in ("一", "二", "一")] == [False, False, True]
    assert cache.statistics().storage_failures == 2
    assert service.statistics().failed == {}
    [line] = [record.getMessage() for record in caplog.records]
    assert "No space left on device" in line
    assert line.endswith("going on without files")


def test_the_rate_of_the_moment_is_used_and_kept_apart_in_the_cache():
    rates = iter([200, 300, 200])
    engine = ScriptedEngine()
    service = SpeechService(TTLCache(100), engine=lambda: engine, rate=lambda: next(rates))
    cached = [service.synthesize("你好").cached for _ in range(3)]
    assert cached == [False, False, True]
    assert [request[2] for request in engine.requests] == [200, 300]


def test_failures_are_counted_by_reason_and_not_cached():
    engine = ScriptedEngine(faults={"坏": "timeout"})
    cache = TTLCache(100)
    service = SpeechService(cache, engine=lambda: engine)
    for text in ("坏", "坏", "!!!"):
        with pytest.raises(SpeechError, match=text):
            service.synthesize(text)
    service.synthesize("好")
    statistics = service.statistics()
    assert statistics.failed == {"timeout": 2, "nothing to say": 1}
    assert (statistics.synthesized, len(cache)) == (1, 1)


def test_audio_an_engine_should_not_have_returned_is_refused():
    class Broken(ScriptedEngine):
        def synthesize(self, text, voice, rate, volume):
            return Speech({"空": b"", "静": bytes(800)}.get(text, b"\1\1"), RATE, text)

    service = SpeechService(engine=Broken)
    reasons = []
    for text in ("空", "静", "短"):
        with pytest.raises(SpeechError) as caught:
            service.synthesize(text)
        reasons.append(caught.value.reason)
    assert reasons == ["empty audio", "empty audio", "implausible length"]


def test_engines_are_lent_to_one_caller_each_and_never_too_many():
    def scenario(sim):
        engines = []

        def make():
            engine = ScriptedEngine(faults={"慢": lambda: sim.sleep(0.1)})
            engines.append(engine)
            return engine

        service = SpeechService(engine=make, workers=2, runtime=sim)
        threads = [sim.thread(service.synthesize, args=("慢",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(engines) <= 2
        assert sum(len(engine.requests) for engine in engines) == 4
        statistics = service.statistics()
        assert (statistics.busy, statistics.engines) == (0, len(engines))
        service.close()
        assert all(engine.closed for engine in engines)

    explore(scenario, 60)


def test_a_caller_does_not_wait_for_an_engine_beyond_its_deadline():
    def scenario(sim):
        engine = ScriptedEngine(faults={"慢": lambda: sim.sleep(10)})
        service = SpeechService(engine=lambda: engine, workers=1, runtime=sim)
        slow = sim.thread(service.synthesize, args=("慢",))
        slow.start()
        sim.sleep(1)
        with pytest.raises(SpeechError) as caught:
            service.synthesize("好", deadline=sim.monotonic() + 2)
        assert caught.value.reason == "busy"
        assert sim.monotonic() < 9
        slow.join()

    explore(scenario, 10)


def test_close_wakes_those_who_wait_for_an_engine():
    def scenario(sim):
        engine = ScriptedEngine(faults={"慢": lambda: sim.sleep(10)})
        service = SpeechService(engine=lambda: engine, workers=1, runtime=sim)
        reasons = []

        def call(text):
            try:
                service.synthesize(text)
            except SpeechError as error:
                reasons.append(error.reason)

        threads = [sim.thread(call, args=(text,)) for text in ("慢", "好")]
        for thread in threads:
            thread.start()
            sim.sleep(1)
        service.close()
        with pytest.raises(SpeechError):
            service.synthesize("好")
        for thread in threads:
            thread.join()
        assert reasons == ["closed"]
        assert engine.closed

    explore(scenario, 40)


def test_fewer_than_one_worker_is_refused():
    with pytest.raises(ValueError, match="workers must be at least 1, not 0"):
        SpeechService(engine=ScriptedEngine, workers=0)


def test_threads_share_real_workers_and_close_ends_them(faulty_engine, is_alive):
    engines = []

    def make():
        engines.append(faulty_engine())
        return engines[-1]

    service = SpeechService(engine=make, workers=2)
    barrier = threading.Barrier(4)
    sounds = []

    def call(text):
        barrier.wait(10)
        sounds.append(service.synthesize(text))

    threads = [threading.Thread(target=call, args=(f"text {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(sound.text for sound in sounds) == [f"text {n}" for n in range(4)]
    pids = [engine.pid for engine in engines if engine.pid]
    assert 1 <= len(pids) <= 2
    service.close()
    assert not any(map(is_alive, pids))


def test_a_batch_comes_back_in_order_with_each_failure_in_its_place():
    def scenario(sim):
        def broken():
            raise OSError("disk on fire")

        faults = {"慢": lambda: sim.sleep(1), "坏": "engine error", "怪": broken}
        service = SpeechService(
            engine=lambda: ScriptedEngine(faults=faults), workers=2, runtime=sim
        )
        texts = ["慢", "一", "坏", "", "怪", "慢", "二"]
        results = service.synthesize_batch(texts, timeout=60)
        told = [r.reason if isinstance(r, SpeechError) else r.text for r in results]
        assert told == ["慢", "一", "engine error", "nothing to say", "engine error", "慢", "二"]
        assert "disk on fire" in str(results[4])
        assert service.synthesize_batch([]) == []

    explore(scenario, 30)


@pytest.mark.parametrize("texts", ["你好", ["一", None], [b"x"]])
def test_a_batch_of_anything_but_strings_is_refused(texts):
    with pytest.raises(TypeError, match="texts must be"):
        SpeechService(engine=ScriptedEngine).synthesize_batch(texts, timeout=5)


def test_what_a_batch_has_not_done_in_time_fails_in_its_place():
    def scenario(sim):
        faults = {"慢": lambda: sim.sleep(100)}
        service = SpeechService(
            engine=lambda: ScriptedEngine(faults=faults), workers=1, runtime=sim
        )
        began_at = sim.monotonic()
        results = service.synthesize_batch(["一", "慢", "二"], timeout=5)
        assert sim.monotonic() - began_at < 6
        assert isinstance(results[0], Speech)
        assert [r.reason for r in results[1:]] == ["timeout", "timeout"]

    explore(scenario, 20)


def test_prefetched_texts_come_from_the_cache():
    engine = ScriptedEngine(faults={"坏": "timeout"})
    service = SpeechService(TTLCache(10), engine=lambda: engine)
    assert service.prefetch(["感谢关注", "坏", "感谢分享"]) == 2
    assert service.synthesize("感谢分享").cached
    with pytest.raises(ValueError, match="needs a cache"):
        SpeechService(engine=ScriptedEngine).prefetch([])


def test_prefetching_ends_when_the_service_is_closed():
    engine = ScriptedEngine()
    service = SpeechService(TTLCache(10), engine=lambda: engine)
    service.close()
    assert service.prefetch(["一", "二"]) == 0
    assert service.statistics().failed == {"closed": 1}


# -- engines that fail --------------------------------------------------------------------------


class Second(ScriptedEngine):
    name = "second"


def failing(reason, *texts):
    return ScriptedEngine(faults=dict.fromkeys(texts, reason))


def test_what_one_engine_cannot_speak_is_spoken_by_the_next():
    first, second = failing("engine error", "一", "三"), Second()
    service = SpeechService(engine=lambda: first, fallbacks=[lambda: second])
    for text in ("一", "二", "三", "四"):
        assert service.synthesize(text).pcm
    assert [request[0] for request in second.requests] == ["一", "三"]
    seen = service.statistics()
    assert (seen.engine, seen.fallbacks, seen.given_up, seen.failed) == ("scripted", 2, {}, {})


def test_an_engine_that_fails_for_good_is_given_up_and_that_is_said_once(caplog):
    first, second = failing("worker died", *"一二三四"), Second()
    service = SpeechService(
        TTLCache(100), engine=lambda: first, fallbacks=[lambda: second], failures=3
    )
    for text in "一二三四":
        assert service.synthesize(text).pcm
    assert len(first.requests) == 3
    assert first.closed
    seen = service.statistics()
    assert (seen.engine, seen.fallbacks, seen.given_up) == (
        "second",
        3,
        {"scripted": "worker died"},
    )
    [line] = [record.getMessage() for record in caplog.records]
    assert line == ("scripted failed 3 times in a row (worker died): second speaks from now on")


def test_a_language_without_a_voice_goes_to_the_next_engine_but_costs_no_trust():
    class Korean(Second):
        def voices(self):
            return (Voice("ko", "Korean", ("ko",)),)

    service = SpeechService(engine=ScriptedEngine, fallbacks=[Korean], failures=1)
    for _ in range(3):
        assert service.synthesize("안녕하세요").pcm
    assert (service.statistics().engine, service.statistics().fallbacks) == ("scripted", 3)


def test_when_no_engine_can_speak_a_text_the_last_one_says_why():
    first, second = failing("timeout", "一"), Second(faults={"一": "engine error"})
    service = SpeechService(engine=lambda: first, fallbacks=[lambda: second], failures=1)
    with pytest.raises(SpeechError) as caught:
        service.synthesize("一")
    assert caught.value.reason == "engine error"
    assert service.statistics().failed == {"engine error": 1}
    assert service.synthesize("二").pcm


@pytest.mark.parametrize("reason", ["empty audio", "implausible length"])
def test_viewers_cannot_take_an_engine_away_with_letters_that_no_voice_can_read(reason):
    unreadable = "ㄅㄆㄇ"
    first = ScriptedEngine(faults=dict.fromkeys((*unreadable, "一"), reason))
    second = Second(faults=dict.fromkeys(unreadable, reason))
    service = SpeechService(engine=lambda: first, fallbacks=[lambda: second], failures=3)
    for text in unreadable:
        with pytest.raises(SpeechError, match=reason):
            service.synthesize(text)
    assert service.statistics().engine == "scripted"
    for _ in range(3):  # what the next one can speak is the engine's own fault
        service.synthesize("一")
    assert service.statistics().engine == "second"


class Manager:
    final = False


def test_a_restart_makes_new_engines_and_gives_the_first_kind_another_chance():
    engines = []

    def make():
        engines.append(ScriptedEngine(faults={} if len(engines) > 1 else {"一": "worker died"}))
        return engines[-1]

    service = SpeechService(engine=make, fallbacks=[Second], failures=1)
    service.synthesize("一")
    assert service.statistics().engine == "second"
    service.stop(Manager())
    service.start(Manager())
    service.synthesize("二")
    assert service.statistics().engine == "scripted"
    assert [engine.closed for engine in engines] == [True, False]


def test_a_text_under_way_in_a_restart_is_spoken_by_the_new_engine():
    service = None

    class Restarted(ScriptedEngine):
        def synthesize(self, text, *args):
            if not service.statistics().synthesized and text == "一":
                service.synthesize("二")
                service.stop(Manager())
                raise SpeechError("closed", text=text)
            return super().synthesize(text, *args)

    service = SpeechService(engine=Restarted, workers=2)
    assert service.synthesize("一").pcm
    assert service.statistics().failed == {}


def test_retries_and_new_processes_are_counted_over_the_life_of_the_service():
    class Busy(ScriptedEngine):
        spawned, retried, killed, died = 4, 2, 1, 2

    service = SpeechService(engine=Busy)
    service.synthesize("一")
    service.stop(Manager())
    service.synthesize("二")
    seen = service.statistics()
    assert (seen.retried, seen.respawned, seen.killed, seen.died) == (4, 6, 2, 4)


class Odd:
    """An engine that fails without a word of what went wrong, or answers with rubbish."""

    name = "odd"

    def __init__(self, pcm=b"", sample_rate=8000):
        self._answer = (pcm, sample_rate)

    def voices(self):
        return [Voice("zh", "zh", ("zh",))]

    def synthesize(self, text, voice, rate, volume):
        if not self._answer[0]:
            raise OSError("the library is gone")
        return Speech(*self._answer, text)

    def close(self):
        pass


@pytest.mark.parametrize("answer", [(), (b"\1" * 8001,), (b"\1\1" * 4000, 0)])
def test_whatever_an_engine_fails_of_the_next_one_speaks(answer):
    with contextlib.closing(
        SpeechService(
            engine=lambda: Odd(*answer), fallbacks=[lambda: Odd(b"\1\1" * 4000)], failures=1
        )
    ) as service:
        assert service.synthesize("你好").seconds == 0.5
        assert service.statistics().fallbacks == 1
        assert "Error(" in service.statistics().given_up["odd"]

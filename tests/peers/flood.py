"""A crowd that sends twenty thousand events a second for half a minute, and who serves it."""

import contextlib
import subprocess
import sys
from types import SimpleNamespace

CROWD = {"rate": 20_000, "seconds": 30, "seed": 3}
EVENTS = CROWD["rate"] * CROWD["seconds"]
TREASURE = "1000"  # the gift id of what is worth 3,000 diamonds

_SERVER = f"""
import sys
from livebot.sources import Crowd, Simulator
simulator = Simulator(Crowd(**{CROWD}))
print(simulator.start(), flush=True)
sys.stdin.readline()
served = simulator.statistics()
print(served.pongs, served.slowest_pong, flush=True)
simulator.stop()
"""  # a process of its own, as a real server is


@contextlib.contextmanager
def flood():
    """The crowd's `url`; afterwards also `pongs`, and the `slowest_pong` in seconds."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        served = SimpleNamespace(url=server.stdout.readline().strip())
        try:
            yield served
        finally:
            answer, _ = server.communicate("enough\n", timeout=30)
        pongs, slowest_pong = answer.split()
        served.pongs, served.slowest_pong = int(pongs), float(slowest_pong)

"""How many workers a pool should have: policies, each a pure rule over a snapshot of the pool.

A policy starts no thread and reads no clock; the same object sizes a real pool, a simulated one,
or a test's.

>>> from threadkit.sizing import KeepAlive, PoolSnapshot
>>> snapshot = PoolSnapshot(
...     now=1.0, interval=0.1, min_workers=2, max_workers=8, workers=2, busy=2, queued=3
... )
>>> KeepAlive().decide(snapshot)
Decision(size=5, reason='3 tasks without a worker', recheck=None)
"""

from threadkit.sizing._adaptive import Adaptive
from threadkit.sizing._combinators import Clamped, GilAware, Stabilised, Vetoed
from threadkit.sizing._demand import LittlesLaw, QueueDelay
from threadkit.sizing._hill import HillClimbing
from threadkit.sizing._limits import Aimd, Gradient, Vegas
from threadkit.sizing._names import POLICIES, policy
from threadkit.sizing._simple import Fixed, KeepAlive, QueueThreshold
from threadkit.sizing._snapshot import Decision, PoolSnapshot, SizingPolicy
from threadkit.sizing._stall import StallAware

__all__ = [
    "POLICIES",
    "Adaptive",
    "Aimd",
    "Clamped",
    "Decision",
    "Fixed",
    "GilAware",
    "Gradient",
    "HillClimbing",
    "KeepAlive",
    "LittlesLaw",
    "PoolSnapshot",
    "QueueDelay",
    "QueueThreshold",
    "SizingPolicy",
    "Stabilised",
    "StallAware",
    "Vegas",
    "Vetoed",
    "policy",
]

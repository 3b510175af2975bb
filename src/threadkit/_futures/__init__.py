"""The light future: a `concurrent.futures.Future` that costs a tenth of the standard one.

`_future` is the future with its races, `_watch` the condition it makes when it is watched,
`_origin` what it knows of its pool, `_kinds` the future as pools make it, for each runtime.
"""

from threadkit._futures._future import UNSET, Future
from threadkit._futures._kinds import GIL, fork_lock, future_type
from threadkit._futures._origin import Origin, here
from threadkit._futures._watch import Condition

__all__ = ["GIL", "UNSET", "Condition", "Future", "Origin", "fork_lock", "future_type", "here"]

"""The light future: a `concurrent.futures.Future` that costs a tenth of the standard one.

`_future` is the future with its races, `_watch` the condition it makes when it is watched,
`_kinds` the future as pools make it, for each runtime.
"""

from threadkit._futures._future import GIL, UNSET, Future, Origin, here
from threadkit._futures._kinds import fork_lock, future_type
from threadkit._futures._watch import Condition

__all__ = ["GIL", "UNSET", "Condition", "Future", "Origin", "fork_lock", "future_type", "here"]

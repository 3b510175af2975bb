"""DynamicThreadPool: a `concurrent.futures.Executor` whose number of threads follows the work.

* `_executor`: the pool as its users hold it, and its views with options.
* `_crew`: where tasks and workers meet: who is woken for what.
* `_roster`: the workers: how many there are and may be, and who stands in for whom.
* `_pauses`: standing still, and waiting for it.
* `_endings`: closing, shutdown, the interpreter's exit, forks; `_lifetimes` says when.
* `_worker`: the loop that runs tasks, and what a task may ask about itself.
* `_supervisor`: the thread that waits for deadlines, and asks the sizing policy.
* `_deadlines`: what becomes of a task whose time is over.
* `_intake`: the long way in: bounds, levels, keys. `_coroutines`: the way in from there.
* `_backlog`: where tasks wait: FIFO, or levels with ageing.
* `_options`: what a task was submitted with.
* `_records`, `_ledger`, `_histogram`, `_statistics`: what is counted, and how it is shown.
* `_mapping`: `map`.
"""

from threadkit._pool._executor import DynamicThreadPool, PoolView
from threadkit._pool._histogram import Histogram
from threadkit._pool._statistics import PoolStatistics, RunningTask, ShutdownReport, SizeChange
from threadkit._pool._worker import Task, current_task

__all__ = [
    "DynamicThreadPool",
    "Histogram",
    "PoolStatistics",
    "PoolView",
    "RunningTask",
    "ShutdownReport",
    "SizeChange",
    "Task",
    "current_task",
]

"""DynamicThreadPool: a `concurrent.futures.Executor` whose number of threads follows the work.

* `_executor`: the pool as its users hold it, and its views with options.
* `_crew`: the workers: how many, who is woken, how it all ends.
* `_worker`: the loop that runs tasks, and what a task may ask about itself.
* `_supervisor`: deadlines, and the sizing policy's looks.
* `_backlog`: where tasks wait: FIFO, or levels with ageing.
* `_options`: what a task was submitted with.
* `_records`, `_histogram`, `_statistics`: what is counted, and how it is shown.
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

"""Failures: graded, grouped, and carried across threads with their story.

* `_grading`: how bad any exception is, and whether to try again.
* `_failure`: an exception with where it came from, safe to raise anywhere, any number of times.
* `_fingerprints`: what failures of one origin have in common.
* `_groups`: counts, rates and one story per fingerprint.
* `_sinks`: logging, JSON lines, any callable; `_delivery` feeds each from a queue and a thread.
* `_hooks`: threading's, sys's and asyncio's last resorts, chained.
* `_log`: `ErrorLog`, the one place all of it comes to; `_ledger` keeps its books.
"""

from threadkit._failures._failure import Failure, Site, UnreadFailure, submit_site, submit_stack
from threadkit._failures._grading import Verdict, classify, register_verdict
from threadkit._failures._groups import FailureGroup
from threadkit._failures._ledger import ErrorLogStatistics
from threadkit._failures._log import ErrorLog
from threadkit._failures._sinks import FailureEvent, JsonLinesSink, LoggingSink, SinkStatistics

__all__ = [
    "ErrorLog",
    "ErrorLogStatistics",
    "Failure",
    "FailureEvent",
    "FailureGroup",
    "JsonLinesSink",
    "LoggingSink",
    "SinkStatistics",
    "Site",
    "UnreadFailure",
    "Verdict",
    "classify",
    "register_verdict",
    "submit_site",
    "submit_stack",
]

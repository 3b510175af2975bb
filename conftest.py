"""What every test run has: leaked threads fail, and the examples in prose and docstrings run."""

from __future__ import annotations

import gc
import os
import threading

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

_documents = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["*.md"],
    excludes=["docs/decisions/*.md"],
)
_docstrings = Sybil(
    parsers=[DocTestParser()], patterns=["src/threadkit/**/*.py", "src/livebot/**/*.py"]
)
pytest_collect_file = (_documents + _docstrings).pytest()


@pytest.fixture(autouse=True)
def _no_leaked_threads(request: pytest.FixtureRequest):
    """Fail a test that leaves a thread behind. Daemons shared by the whole process are named."""
    before = set(threading.enumerate())
    yield
    leaked = _threads_since(before)
    if leaked:
        gc.collect()  # a pool that was only dropped retires its workers when it is collected
        for thread in leaked:
            thread.join(2)
        leaked = _threads_since(before)
    assert not leaked, f"{request.node.nodeid} left threads behind: {leaked}"


def _threads_since(before: set[threading.Thread]) -> list[threading.Thread]:
    shared = ("threadkit-shared-",)  # process-wide daemons that live as long as the process
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread.is_alive() and not thread.name.startswith(shared)
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """On CI a test that misses something of the system fails: a skip would hide it."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        if "needs" in str(reason):
            report.outcome = "failed"
            report.longrepr = f"skipped on CI: {reason}"
    return report

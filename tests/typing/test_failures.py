"""Checked by mypy and pyright, not run."""

import asyncio
from collections.abc import Callable, Mapping

from typing_extensions import assert_type

from threadkit import (
    ErrorLog,
    Failure,
    FailureEvent,
    FailureGroup,
    JsonLinesSink,
    LoggingSink,
    Retry,
    Severity,
    Verdict,
    classify,
    register_verdict,
)


class Quota(Exception):
    left: int


def a_rule_sees_the_registered_type() -> None:
    def rule(exc: Quota) -> Verdict | None:
        assert_type(exc.left, int)
        return None

    assert_type(register_verdict(Quota, rule), Callable[[], None])
    register_verdict(OSError, rule)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(classify(Quota()), Verdict)
    assert_type(classify(Quota()).retry, Retry)


def a_failure_is_raised_and_does_not_return(failure: Failure) -> int:
    assert_type(failure.restored(), BaseException)
    assert_type(failure.submitted_at, str | None)
    failure.reraise()  # so no return is missing


def sinks_are_functions_of_an_event(errors: ErrorLog, loop: asyncio.AbstractEventLoop) -> None:
    def sink(event: FailureEvent) -> None:
        assert_type(event.severity, Severity)
        assert_type(event.failure, Failure | None)
        assert_type(event.group, FailureGroup)

    def wrong(event: str) -> None: ...

    errors.add_sink(sink, limit=None)
    errors.add_sink(LoggingSink())
    errors.add_sink(JsonLinesSink("failures.jsonl"))
    errors.add_sink(wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    errors.install(loop)


def answers_are_typed(errors: ErrorLog) -> None:
    assert_type(errors.record(ValueError()), str)
    assert_type(errors.groups(top=3, by="rate"), list[FailureGroup])
    errors.groups(by="size")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(errors.rate("x"), float)
    assert_type(errors.statistics().by_severity, Mapping[Severity, int])
    assert_type(errors.close(), bool)

"""Pre-emption between the lines (or bytecodes) of chosen code, through `sys.settrace`.

Most races of code without locks sit between two plain statements, where there is no operation for
the scheduler to hook on. In the code chosen here every line is a scheduling point. To keep that
cheap the schedule says beforehand after how many lines it wants to be asked again, so a line costs
a count-down.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any, TypeAlias

from threadkit.testing._scheduler import Scheduler

__all__ = ["Preempt", "Preemption"]

Preempt: TypeAlias = "str | ModuleType | type | Callable[..., object]"
Trace = Callable[[FrameType, str, Any], Any]


class Preemption:
    """The code chosen for pre-emption; called, it is the context manager that turns it on."""

    def __init__(self, scheduler: Scheduler, chosen: Iterable[Preempt], *, opcodes: bool) -> None:
        self._files: set[str] = set()
        self._folders: tuple[str, ...] = ()
        self._codes: set[CodeType] = set()
        for choice in chosen:
            self._add(choice)
        self._active = bool(self._files or self._folders or self._codes)
        # By id, since hashing a code object walks it; `_seen` keeps the ids from being used again.
        self._seen = list(self._codes)
        verdicts = {id(code): True for code in self._codes}
        self._trace = _tracer(scheduler, verdicts, self._wants, opcodes=opcodes)

    def _add(self, choice: Preempt) -> None:
        if isinstance(choice, str) and choice.endswith(".py"):
            self._files.add(_real_path(choice))
        elif isinstance(choice, (str, ModuleType)):
            self._add_module(choice)
        elif isinstance(choice, type):
            for member in vars(choice).values():
                self._add_member(member)
        else:
            self._add_function(choice)

    def _add_module(self, choice: str | ModuleType) -> None:
        module = importlib.import_module(choice) if isinstance(choice, str) else choice
        file = getattr(module, "__file__", None)
        if file is None:
            raise ValueError(f"preempt: {module.__name__} has no source file")
        path = _real_path(file)
        if hasattr(module, "__path__"):
            self._folders += (f"{Path(path).parent}{os.sep}",)
        else:
            self._files.add(path)

    def _add_member(self, member: object) -> None:
        for function in (
            member,
            getattr(member, "__func__", None),
            getattr(member, "fget", None),
            getattr(member, "fset", None),
        ):
            if isinstance(function, FunctionType):
                self._add_code(function.__code__)

    def _add_function(self, choice: Any) -> None:
        if isinstance(choice, MethodType):
            choice = choice.__func__
        code = getattr(choice, "__code__", None)
        if not isinstance(code, CodeType):
            raise TypeError(
                f"preempt takes modules, dotted names, .py paths, classes and functions: {choice!r}"
            )
        self._add_code(code)

    def _add_code(self, code: CodeType) -> None:
        self._codes.add(code)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._add_code(constant)

    def _wants(self, code: CodeType) -> bool:
        self._seen.append(code)
        path = _real_path(code.co_filename)
        return path in self._files or path.startswith(self._folders)

    @contextlib.contextmanager
    def __call__(self) -> Generator[None]:
        """Pre-empt the calling thread in the chosen code."""
        before = sys.gettrace()
        if self._active:
            sys.settrace(self._trace)
        try:
            yield
        finally:
            if self._active:
                sys.settrace(before)


@functools.cache
def _real_path(path: str) -> str:
    """Asked for the file of every function of every run, and costs as much as a hundred lines."""
    return os.path.realpath(path)


class _Place:
    """Where a thread was pre-empted, for the report."""

    __slots__ = ("_code", "_line")

    def __init__(self, frame: FrameType) -> None:
        self._code = frame.f_code
        self._line = frame.f_lineno

    def label(self) -> str:
        name = self._code.co_filename.rpartition("/")[2]
        return f"before {name}:{self._line} in {self._code.co_name}"


def _tracer(
    scheduler: Scheduler,
    verdicts: dict[int, bool],
    wants: Callable[[CodeType], bool],
    *,
    opcodes: bool,
) -> Trace:
    """The trace function of all threads of a run. A closure: it is called for every line."""
    countdown = scheduler.chooser.lines()
    gap = countdown
    wanted_event = "opcode" if opcodes else "line"

    def trace_lines(frame: FrameType, event: str, _arg: object) -> Trace:
        nonlocal countdown, gap
        if event == wanted_event:
            countdown -= 1
            if countdown <= 0:
                chosen = scheduler.preempted(gap)
                countdown = gap = scheduler.chooser.lines()  # others count on it meanwhile
                if chosen is not None:
                    scheduler.pass_turn(chosen, _Place(frame))
        return trace_lines

    def trace_calls(frame: FrameType, _event: str, _arg: object) -> Trace | None:
        code = frame.f_code
        wanted = verdicts.get(id(code))
        if wanted is None:
            wanted = verdicts[id(code)] = wants(code)
        if not wanted:
            return None
        if opcodes:
            frame.f_trace_opcodes = True
        return trace_lines

    return trace_calls

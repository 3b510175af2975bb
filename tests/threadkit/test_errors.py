"""The hierarchy: every error keeps its facts, wherever it is sent."""

import concurrent.futures
import copy
import inspect
import pickle
import queue
import sys

import pytest

import threadkit
from threadkit import Retry, Severity, ThreadkitError

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

# What a constructor's parameter is given, by its annotation. A new kind of fact fails here first.
BY_ANNOTATION = {
    "str": "voices",
    "str | None": "greet",
    "object": ("zh", 1),
    "int": 3,
    "float": 2.5,
    "float | None": 1.5,
    "Sequence[str]": ["a", "b", "a"],
    "Sequence[object]": ["a", 2, "a"],
}


def hierarchy(base=ThreadkitError):
    classes = {base}
    for cls in base.__subclasses__():
        if cls.__module__.startswith("threadkit"):
            classes |= hierarchy(cls)
    return classes


CLASSES = sorted(hierarchy(), key=lambda cls: cls.__name__)


def given(cls):
    """Every argument of the constructor, by its name."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: BY_ANNOTATION[p.annotation] for p in parameters if p.name != "self"}


def sample(cls):
    if cls is threadkit.StartupError:
        return cls.of("app", {"audio": OSError(19, "no device"), "web": ValueError("port")})
    arguments = given(cls)
    message = arguments.pop("message", None)
    if message is not None and "metric" not in arguments:
        return cls(message, **arguments)
    return cls(**arguments, **({"message": message} if message is not None else {}))


def facts(exc):
    """The facts, with exceptions, which compare by identity, made comparable."""
    return {
        name: repr(value) if name in {"failed", "_exceptions"} else value
        for name, value in vars(exc).items()
    }


@pytest.fixture(params=CLASSES, ids=lambda cls: cls.__name__)
def error(request):
    return sample(request.param)


class TestEveryError:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickling_keeps_its_facts(self, error, protocol):
        back = pickle.loads(pickle.dumps(error, protocol))
        assert type(back) is type(error)
        assert str(back) == str(error)
        assert facts(back) == facts(error)
        assert (back.severity, back.retry) == (error.severity, error.retry)

    @pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
    def test_copying_keeps_its_facts(self, error, copier):
        back = copier(error)
        assert type(back) is type(error)
        assert facts(back) == facts(error)

    def test_a_note_travels_with_it(self, error):
        error.__notes__ = ["submitted at app.py:3 in main"]
        assert pickle.loads(pickle.dumps(error)).__notes__ == error.__notes__

    def test_it_keeps_what_its_constructor_was_given(self, error):
        if isinstance(error, threadkit.StartupError):
            return  # has tests of its own
        for name, value in given(type(error)).items():
            if name not in {"message", "cause"}:
                kept = getattr(error, name)
                assert kept == (tuple(value) if isinstance(value, list) else value)

    def test_it_has_the_common_facts(self, error):
        assert isinstance(error.severity, Severity)
        assert isinstance(error.retry, Retry)
        assert error.component is None or isinstance(error.component, str)
        assert error.task is None or isinstance(error.task, str)
        assert error.retry_after is None or isinstance(error.retry_after, float)

    def test_its_docstring_says_when_it_is_raised_or_what_it_is_the_base_of(self, error):
        assert inspect.getdoc(type(error)).startswith(("Raised ", "Base of "))

    def test_it_is_public(self, error):
        assert getattr(threadkit, type(error).__name__) is type(error)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("PoolClosed", RuntimeError),
        ("WorkerLost", concurrent.futures.BrokenExecutor),
        ("TaskTimeout", TimeoutError),
        ("TaskStale", TimeoutError),
        ("TaskCancelled", concurrent.futures.CancelledError),
        ("QueueFull", queue.Full),
        ("QueueEmpty", queue.Empty),
        ("QueueClosed", queue.Full),
        ("QueueClosed", queue.Empty),
        ("LoadCycle", RuntimeError),
        ("StartupError", BaseExceptionGroup),
        ("StopTimeout", TimeoutError),
        ("DependencyCycle", ValueError),
    ],
)
def test_code_that_catches_the_builtin_catches_it(name, builtin):
    assert issubclass(getattr(threadkit, name), builtin)


def test_a_user_subclass_with_its_own_constructor_pickles_too():
    error = MicrophoneLost("usb", attempts=3)
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.device, back.attempts) == ("usb is gone", "usb", 3)


class MicrophoneLost(threadkit.LifecycleError):
    def __init__(self, device, *, attempts):
        super().__init__(f"{device} is gone", component="audio")
        self.device = device
        self.attempts = attempts


class TestStartupError:
    def test_it_can_be_split_by_cause(self):
        error = sample(threadkit.StartupError)
        broken, rest = error.split(OSError)
        assert [type(exc) for exc in broken.exceptions] == [OSError]
        assert [type(exc) for exc in rest.exceptions] == [ValueError]

    def test_its_sentence_names_every_component_and_cause(self):
        text = str(sample(threadkit.StartupError))
        assert "audio: [Errno 19] no device" in text
        assert "web: port" in text

    def test_its_causes_pickle_with_it(self):
        back = pickle.loads(pickle.dumps(sample(threadkit.StartupError)))
        assert back.failed["audio"].errno == 19
        assert [type(exc) for exc in back.exceptions] == [OSError, ValueError]
        assert back.failed["audio"] is back.exceptions[0]

"""livebot as a user starts it: a program of its own, in a folder of its own."""

import contextlib
import subprocess
import sys

_COMMAND = (sys.executable, "-u", "-m", "livebot")
_TEXT = {"text": True, "encoding": "utf-8"}


def livebot(folder, *arguments, given=None):
    """Call it and wait for its end, `given` as its input."""
    return subprocess.run(
        [*_COMMAND, *arguments],
        cwd=folder,
        input=given,
        capture_output=True,
        timeout=60,
        check=False,
        **_TEXT,
    )


@contextlib.contextmanager
def running(folder, *arguments):
    """A call that goes on until it is told to end; it must have ended in the end."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*_COMMAND, *arguments], cwd=folder, **pipes, **_TEXT) as program:
        try:
            yield program
        finally:
            if program.poll() is None:
                program.kill()


def line_with(stream, part):
    """The next line that holds `part`."""
    for line in stream:
        if part in line:
            return line
    raise AssertionError(f"it ended without saying {part!r}")

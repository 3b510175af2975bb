"""Where a feed is reached: an address with headers, fixed or printed by the user's own command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote, urlsplit

__all__ = ["Endpoint", "EndpointCommand", "with_query"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to connect to.

    Args:
        url: Begins with ws:// or wss://.
        headers: Sent with the handshake: Cookie, User-Agent, Origin and so on.

    Raises:
        ValueError: The URL is none of a WebSocket, or a header holds a line break.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("ws", "wss") or not urlsplit(self.url).hostname:
            raise ValueError(f"url must begin with ws:// or wss:// and a host, not {self.shown!r}")
        for name, value in self.headers.items():
            if any(mark in name + value for mark in "\r\n\0"):
                raise ValueError(f"header {name!r} must be one line")

    @property
    def shown(self) -> str:
        """The address without its query and user part, which may hold secrets: for logs."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


class EndpointCommand:
    """Asks a command of the user's for the address: signed addresses expire, so each time anew.

    The command prints either a JSON object, ``{"url": "wss://...", "headers": {"Cookie": "..."}}``,
    or the URL on its first line and one ``Name: value`` header on each line after it.

    >>> import sys
    >>> EndpointCommand([sys.executable, "-c", "print('ws://h/')"])()
    Endpoint(url='ws://h/', headers={})

    Thread safety: one thread calls it, any thread may cancel.

    Lifetime: the command has ended, or was killed, when the call returns.

    Args:
        command: Program and arguments; no shell is involved.
        timeout: Seconds after which the command is killed.

    Raises:
        ValueError: The command is empty, or `timeout` is not above 0.
    """

    def __init__(self, command: Sequence[str], *, timeout: float = 30.0) -> None:
        if not command or isinstance(command, str):
            raise ValueError(f"command must be a program and its arguments, not {command!r}")
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0, not {timeout}")
        self._command = list(command)
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None  # of the call that runs, if one does

    def __call__(self) -> Endpoint:
        """What the command prints.

        Blocks: until the command ends, `timeout` seconds at most.

        Raises:
            ValueError: The command fails, takes too long, or prints something else. The message
                holds the end of what it wrote to its standard error, and nothing it printed: that
                may be secret.
        """
        program = self._command[0]
        code, output, errors = self._run(program)
        if code:
            said = errors.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no message"]
            raise ValueError(f"{program} failed with code {code}: {said[0][:200]}")
        return _printed(program, output.decode("utf-8", "replace").strip())

    def cancel(self) -> None:
        """Kill the command if it runs now: nobody waits for the address any more."""
        process = self._process
        if process is not None:
            process.kill()

    def _run(self, program: str) -> tuple[int, bytes, bytes]:
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(  # noqa: S603 - running the user's own command is the purpose
                self._command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
            )
        except OSError as exc:
            raise ValueError(f"{program} cannot be run: {exc.strerror}") from None
        with process:
            self._process = process
            try:
                output, errors = process.communicate(timeout=self._timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise ValueError(f"{program} took longer than {self._timeout:g} s") from None
            finally:
                self._process = None
        return process.returncode, output, errors


def _printed(program: str, output: str) -> Endpoint:
    if output.startswith("{"):
        return _printed_json(program, output)
    url, *lines = output.splitlines() or [""]
    headers: dict[str, str] = {}
    for line in filter(str.strip, lines):
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f"{program} printed a line that is no 'Name: value' header")
        headers[name.strip()] = value.strip()
    return Endpoint(url.strip(), headers)


def _printed_json(program: str, output: str) -> Endpoint:
    try:
        value = cast("dict[str, Any]", json.loads(output))
    except ValueError:
        raise ValueError(f"{program} printed broken JSON") from None
    url, headers = value.get("url"), value.get("headers", {})
    if not isinstance(url, str) or not isinstance(headers, dict):
        raise ValueError(  # noqa: TRY004 - a wrong program, not a wrong call
            f"{program} must print an object with url and headers"
        )
    pairs = cast("dict[str, Any]", headers)
    return Endpoint(url, {name: str(header) for name, header in pairs.items()})


def with_query(url: str, **values: str) -> str:
    """`url` with these query parameters set; every other byte stays, for it may be signed.

    >>> with_query("ws://h/p?a=1&cursor=&b=%20", cursor="d-1", internal_ext="x|y")
    'ws://h/p?a=1&cursor=d-1&b=%20&internal_ext=x%7Cy'
    """
    address, _, query = url.partition("?")
    left = dict(values)
    pairs: list[str] = []
    for pair in query.split("&") if query else ():
        name = pair.partition("=")[0]
        pairs.append(f"{name}={quote(left.pop(name), safe='')}" if name in left else pair)
    pairs += [f"{name}={quote(value, safe='')}" for name, value in left.items()]
    return f"{address}?{'&'.join(pairs)}"

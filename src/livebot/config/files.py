"""Settings from TOML files, read again when a file changes."""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import SecretStr, ValidationError

from livebot.config.settings import ConfigError, Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["SettingsFile", "commented", "load"]

logger = logging.getLogger("livebot")


def load(path: Path) -> Settings:
    """The settings in a TOML file; what it leaves out has its default.

    Raises:
        ConfigError: The file cannot be read, is not UTF-8 or not TOML, or a key is wrong; names all
            that are.
    """
    try:
        return Settings.model_validate(_read(path))
    except ValidationError as exc:
        lines = "\n".join(f"  {_told(error)}" for error in exc.errors())
        raise ConfigError(f"{path} cannot be used:\n{lines}") from exc


def _read(path: Path) -> dict[str, Any]:
    try:
        # Editors on Windows begin a file with a mark, which TOML does not know.
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8: save it as UTF-8") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path} is not TOML: {exc}") from exc


def _told(error: Any) -> str:
    """One mistake: its key, what is wrong, and what may stand there."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        given = "" if key in _SECRET else f", not {error['input']!r}"
        return f"{key}: {error['msg']}{given}"
    section: Any = Settings
    for part in error["loc"][:-1]:
        section = section.model_fields[part].annotation
    return f"{key}: there is no such key; there are {', '.join(sorted(section.model_fields))}"


_SECRET = {"web.token"}  # keys whose values are not repeated


def commented() -> str:
    """Every setting with its meaning and its default, as a TOML file to start from."""
    document = tomlkit.document()
    document.add(tomlkit.comment("livebot's settings. What is left out has the value shown here."))
    for name, section in Settings.model_fields.items():
        model: Any = section.annotation
        table = tomlkit.table()
        table.comment(" ".join((model.__doc__ or "").split()))
        for key, field in model.model_fields.items():
            for line in textwrap.wrap(field.description or "", 90):
                table.add(tomlkit.comment(line))
            table.add(*_default(key, field))
        document.add(name, table)
    return tomlkit.dumps(document)


def _default(key: str, field: Any) -> tuple[Any, ...]:
    """What to add to a table: key and value, or a comment where TOML has no word for None."""
    value: Any = field.default
    if value is None:
        return (tomlkit.comment(f"{key} ="),)
    if isinstance(value, dict):
        return key, tomlkit.inline_table()
    if isinstance(value, SecretStr):
        return key, value.get_secret_value()
    return key, [*value] if type(value) is tuple else value


class SettingsFile:
    """A settings file that is read again when it changes: a component.

    A change that cannot be used is reported and changes nothing. Sections that are fixed while the
    bot runs take effect with its next start.

    Thread safety: `current` from any thread.

    Args:
        path: The TOML file.
        on_change: Told the new settings, on the watching thread; refuses them with a `ValueError`.
        on_error: Told a `ConfigError`, on the watching thread.

    Raises:
        ConfigError: The file cannot be used now.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_change: Callable[[Settings], object],
        on_error: Callable[[ConfigError], object],
    ) -> None:
        self._path = path
        self._on_change = on_change
        self._on_error = on_error
        self._observer: Any = None
        self._news: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True: touched; False: stop
        self._thread: Any = None
        self.current = load(path)

    def start(self, ctx: object = None) -> None:
        """Begin to watch the file."""
        from watchdog.observers import Observer  # noqa: PLC0415 - only a running bot watches

        self._observer = Observer()
        # The folder, not the file: editors replace files, and a replaced file is another one.
        changed = _Changed(self._path, lambda: self._news.put(True))
        self._observer.schedule(changed, str(self._path.resolve().parent))
        self._observer.start()
        self._news.put(True)  # it may have changed since it was loaded
        self._thread = threading.Thread(target=self._read_when_quiet, name="livebot-settings")
        self._thread.start()

    def stop(self, ctx: object = None) -> None:
        """Watch it no more."""
        self._observer.stop()
        self._observer.join()
        self._news.put(False)
        self._thread.join()

    def _read_when_quiet(self) -> None:
        """An editor empties a file before it writes it: so wait until nothing more happens."""
        while self._news.get():
            with contextlib.suppress(queue.Empty):
                while True:
                    if not self._news.get(timeout=_QUIET):
                        return
            try:
                self.reload()
            except Exception:  # the next change may be one that can be used
                logger.exception("%s was not taken over", self._path)

    def reload(self) -> None:
        """Read the file now; `current` changes when `on_change` has accepted it."""
        try:
            fresh = load(self._path)
            if fresh != self.current:
                self._change_to(fresh)
        except ConfigError as exc:
            self._on_error(exc)

    def _change_to(self, fresh: Settings) -> None:
        try:
            self._on_change(fresh)
        except ValueError as exc:
            raise ConfigError(f"{self._path} cannot be used: {exc}") from exc
        self.current = fresh


_QUIET = 0.2  # seconds without a change after which a file counts as written


class _Changed:
    """What watchdog tells about a folder: calls back when one file in it has new contents."""

    def __init__(self, path: Path, call: Callable[[], None]) -> None:
        self._name = path.resolve().name
        self._call = call

    def dispatch(self, event: Any) -> None:
        touched = {Path(str(path)).name for path in (event.src_path, event.dest_path) if path}
        if self._name in touched and event.event_type in {"modified", "created", "moved", "closed"}:
            self._call()

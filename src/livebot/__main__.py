"""The command line. Parts are imported where they are used, so that `--help` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from livebot.commands import make_parser

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code; see `livebot --help`."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 2
    try:
        code: int = arguments.command(arguments)
    except ModuleNotFoundError as exc:
        if (exc.name or "").split(".")[0] in {"livebot", "threadkit"}:
            raise
        return _complain(f"livebot needs {exc.name}: python -m pip install 'threadkit[livebot]'")
    except (OSError, ValueError) as exc:
        return _complain(f"livebot: {exc}")
    except KeyboardInterrupt:
        return 130  # as a shell says of a program that Ctrl-C ended
    except Exception as exc:  # noqa: BLE001 - looked at below, where it may be imported
        return _complain_of_start(exc)
    return code


def _complain(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


def _complain_of_start(exc: Exception) -> int:
    """A part that does not start has said why; anything else is a defect, and shows itself."""
    from threadkit import StartupError  # noqa: PLC0415 - see the module's docstring

    if not isinstance(exc, StartupError):
        raise exc
    return _complain(f"livebot: {exc.args[0]}")


if __name__ == "__main__":
    sys.exit(main())

"""Run every benchmark, each in a process of its own, and write one HTML report.

    python -m benchmarks [--quick] [--out FOLDER] [NAME ...]

The report holds each benchmark's question, command, table and plot, and stands alone.
"""

from __future__ import annotations

import argparse
import base64
import html
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NOT_ASKED = {
    "__init__",
    "__main__",
    "ceiling",
    "harness",
    "simulator",
    "workloads",
}  # no question of their own
COLUMNS = ("metric", "workload", "contender", "median", "unit", "ratio", "spread", "repeats")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse } td, th { padding: .1em .8em .1em 0; text-align: left }
td.figure { text-align: right; font-variant-numeric: tabular-nums } img { max-width: 100% }
pre { white-space: pre-wrap }
"""


def main() -> int:
    """Run what was asked for; 0 when every benchmark came to its end."""
    names = _names()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="smaller workloads")
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="FOLDER")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(names)}")
    options = parser.parse_args()
    unknown = set(options.names) - set(names)
    if unknown:
        parser.error(
            f"no benchmark named {', '.join(sorted(unknown))}; there are {', '.join(names)}"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    failed = [name for name in options.names or names if not _run(name, options)]
    report = options.out / "benchmarks.html"
    report.write_text(_report(options.names or names, failed, options.out), encoding="utf-8")
    print(f"\nreport: {report}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _names() -> list[str]:
    """Every file here that asks a question and prints a table."""
    stems = {path.stem for path in HERE.glob("*.py")} - NOT_ASKED
    return sorted(stem for stem in stems if not stem.startswith("test_"))


def _files(name: str, out: Path) -> tuple[Path, Path]:
    return out / f"{name}.json", out / f"{name}.png"


def _run(name: str, options: argparse.Namespace) -> bool:
    data, plot = _files(name, options.out)
    for left in (data, plot):  # by an earlier run, whose figures are not this one's
        left.unlink(missing_ok=True)
    quick = ["--quick"] if options.quick else []
    print(f"\n== {name}", flush=True)
    command = [
        sys.executable,
        "-m",
        f"benchmarks.{name}",
        *quick,
        f"--json={data}",
        f"--plot={plot}",
    ]
    return subprocess.run(command, check=False).returncode == 0


def _report(names: list[str], failed: list[str], out: Path) -> str:
    body = "".join(_section(name, out, failed=name in failed) for name in names)
    machine = html.escape(f"Python {platform.python_version()} on {platform.platform()}")
    return (
        f"<!doctype html><meta charset=utf-8><title>threadkit benchmarks</title>"
        f"<style>{STYLE}</style><h1>threadkit benchmarks</h1><p>{machine}</p>{body}"
    )


def _section(name: str, out: Path, *, failed: bool) -> str:
    question = html.escape(_docstring(name))
    data, plot = _files(name, out)
    ending = "<p>failed" if failed else ""
    table = _table(json.loads(data.read_text(encoding="utf-8"))) if data.exists() else ""
    picture = ""
    if plot.exists():
        encoded = base64.b64encode(plot.read_bytes()).decode()
        picture = f'<p><img alt="{name}" src="data:image/png;base64,{encoded}">'
    return f"<h2>{name}</h2><pre>{question}</pre>{ending}{table}{picture}"


def _docstring(name: str) -> str:
    source = (HERE / f"{name}.py").read_text(encoding="utf-8")
    return source.split('"""')[1].strip()


def _table(result: dict[str, Any]) -> str:
    head = "".join(f"<th>{column}" for column in COLUMNS)
    rows = "".join(f"<tr>{_cells(row)}" for row in result["rows"])
    return f"<p>ratio to {html.escape(result['baseline'])}<table><tr>{head}{rows}</table>"


def _cells(row: dict[str, Any]) -> str:
    return "".join(
        f"<td{' class=figure' if isinstance(row.get(column), (int, float)) else ''}>"
        f"{html.escape(_shown(row.get(column)))}"
        for column in COLUMNS
    )


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.4g}"
        case list():
            return " .. ".join(f"{number:.4g}" for number in value)
        case _:
            return str(value)


if __name__ == "__main__":
    sys.exit(main())

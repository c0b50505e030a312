"""One measuring process: one contender in one row, in an interpreter of its own.

The standard pool imports this module again in its workers, as it would any main program: it
imports nothing heavy before it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def echo(value: Any) -> Any:
    """Do nothing; this one lives in ``__main__``, so that it may have to travel by value."""
    return value


def main() -> None:
    """Run the case named on the command line, and end without waiting for threads or children."""
    parser = argparse.ArgumentParser()
    parser.add_argument("benchmark")
    parser.add_argument("row")
    parser.add_argument("contender")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--samples", type=Path, default=None)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    status = 0
    try:
        measure(arguments)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Some peers never let a broken interpreter end, and some loops leave threads that never do;
    # what they leave behind is killed from outside.
    os._exit(status)


def measure(arguments: argparse.Namespace) -> None:
    """Put the row to the contender; what it leaves to run, runs on the standard loop."""
    from bench.harness.rows import Case

    benchmark = f"bench.{arguments.benchmark}"
    row = importlib.import_module(f"{benchmark}.rows").ROWS[arguments.row]
    contender = importlib.import_module(f"{benchmark}.contenders").CONTENDERS[arguments.contender]
    words = tuple(arguments.words)
    rest = row.run(Case(contender, arguments.quick, arguments.samples, words))
    if rest is not None:
        asyncio.run(rest)


if __name__ == "__main__":
    main()

"""One measuring process: one peer in one scenario, in an interpreter of its own.

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
    """Run the case named on the command line, and end without waiting for anybody."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario")
    parser.add_argument("peer")
    parser.add_argument("output", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    status = 0
    try:
        measure(arguments.scenario, arguments.peer, arguments.output, quick=arguments.quick)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Some peers never let a broken interpreter end; what they leave behind is killed from outside.
    os._exit(status)


def measure(scenario_name: str, peer_name: str, output: Path, *, quick: bool) -> None:
    """Run one scenario against one peer on the standard loop."""
    from bench.peers import PEERS
    from bench.results import Case
    from bench.scenarios import SCENARIOS

    # Imported before the clock runs, like the packages of the peers.
    importlib.import_module("bench.work")
    case = Case(PEERS[peer_name](), output, quick=quick)
    asyncio.run(SCENARIOS[scenario_name].run(case))


if __name__ == "__main__":
    main()

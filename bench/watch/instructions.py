"""What the watch, and the views, add to a request: instructions of the server outside the kernel.

    python -m bench.watch.instructions

It needs valgrind. Each server answers 400 and 2,400 requests of 20 connections; the difference is
what 2,000 requests take. No stall reaches the watch's threshold: under valgrind all is slow. The
views are those of ``offloop run --page --trace FILE``: the live page, `offloop top`'s socket, and a
trace, with the watch.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import offloop
from bench.watch.servers import LOOPS, SERVERS, ask

REQUESTS = (400, 2_400)
THRESHOLD_S = 1_000.0
MODULE = "bench.watch.instructions"


def serve(name: str, loop: str, watched: str, requests: str) -> None:
    """Answer so many requests, and end."""

    async def load(port: int) -> None:
        words = ("-m", MODULE, "ask", str(port), requests)
        client = await asyncio.create_subprocess_exec(sys.executable, *words)
        if await client.wait() != 0:
            raise SystemExit("the client has failed")

    async def main() -> None:
        if watched == "with the watch":
            offloop.watch(THRESHOLD_S)
        await SERVERS[name](load)

    LOOPS[loop](main())


def instructions_of(name: str, loop: str, watched: str, requests: int) -> int:
    """What the process of a server executes, its children left out."""
    words = ("serve", name, loop, watched, str(requests))
    with tempfile.TemporaryDirectory() as folder:
        out = f"--callgrind-out-file={Path(folder) / 'out'}"
        under: tuple[str, ...] = ()
        if watched == "with views":
            under = ("-m", "offloop", "run", "--no-report", "--loop", loop)
            under += ("--threshold", str(THRESHOLD_S), "--page", "--trace", f"{folder}/trace.json")
        command = ["valgrind", "--tool=callgrind", out, sys.executable, *under, "-m", MODULE]
        # The same order of each dictionary's keys in all of them.
        variables = {**os.environ, "PYTHONHASHSEED": "0"}
        ended = subprocess.run(
            [*command, *words], capture_output=True, text=True, check=True, env=variables
        )
    found = re.search(r"Collected : (\d+)", ended.stderr)
    assert found is not None, ended.stderr
    return int(found.group(1))


def taken_by(name: str, loop: str, watched: str) -> float:
    """What a request takes."""
    few, many = (instructions_of(name, loop, watched, requests) for requests in REQUESTS)
    return (many - few) / (REQUESTS[1] - REQUESTS[0])


def measure() -> None:
    """Print what a request takes without the watch, with it, and with the views."""
    for name, loop in itertools.product(SERVERS, LOOPS):
        plain = taken_by(name, loop, "without")
        print(f"{name} on {loop}: {plain:,.0f} instructions a request", end="", flush=True)
        for watched in ("with the watch", "with views"):
            added = taken_by(name, loop, watched) - plain
            print(f", {added:+,.0f} {watched} ({added / plain:+.1%})", end="", flush=True)
        print(flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", name, loop, watched, requests]:
            serve(name, loop, watched, requests)
        case ["ask", port, requests]:
            ask(int(port), int(requests))
        case _:
            measure()

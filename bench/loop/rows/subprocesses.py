"""Starting subprocesses, one after the other, beside vfork, exec and wait in C."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from bench.harness.goals import ratio
from bench.harness.rows import Case, Metric
from bench.loop.contenders import FLOOR, LOOPS
from bench.loop.rows.base import LoopRow
from bench.loop.rows.running import run_on, say

Start = Callable[[], Coroutine[Any, Any, None]]

EACH = Metric("us", "each", "us")

_COUNT = 100
_TRUE = "/bin/true"
_ECHO = ("/bin/echo", "hello")


async def spawn() -> None:
    """A program that does nothing is started and waited for."""
    process = await asyncio.create_subprocess_exec(_TRUE)
    if await process.wait() != 0:
        raise AssertionError(f"{_TRUE} failed")


async def spawn_with_pipe() -> None:
    """A program is started, what it writes is read through a pipe, and it is waited for."""
    process = await asyncio.create_subprocess_exec(*_ECHO, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if output != b"hello\n" or process.returncode != 0:
        raise AssertionError(f"{_ECHO[0]} wrote {output!r}")


def _timing(start: Start) -> Callable[[Case], None]:
    async def measure(count: int) -> None:
        await start()
        began = time.perf_counter()
        for _ in range(count):
            await start()
        say(us=(time.perf_counter() - began) * 1e6 / count)

    def run(case: Case) -> None:
        run_on(case, measure(case.pick(_COUNT, _COUNT // 2)))

    return run


def _row(name: str, title: str, start: Start, program: tuple[str, ...]) -> LoopRow:
    return LoopRow(
        name=name,
        title=title,
        about=start.__doc__ or "",
        metrics=(EACH,),
        goals=(ratio(title, EACH, 0.9),),
        run=_timing(start),
        contenders=(*LOOPS, FLOOR),
        program=program,
    )


ROWS = (
    _row("spawn", "subprocess", spawn, ("spawn", str(_COUNT), _TRUE)),
    _row(
        "spawn-pipe",
        "subprocess with a pipe",
        spawn_with_pipe,
        ("spawn", "--pipe", str(_COUNT), *_ECHO),
    ),
)

"""Reading files from the page cache: many small ones, and the gap that a large one leaves."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.harness.goals import limit
from bench.harness.rows import Case, Metric
from bench.loop.contenders import READERS
from bench.loop.rows.base import LoopRow
from bench.loop.rows.running import run_on, say

RATE = Metric("files_per_s", "files", "k/s", higher_is_better=True)
GAP = Metric("gap_ms", "worst gap", "ms")

Reader = Callable[[Path], Awaitable[bytes]]

_SMALL_BYTES = 4096
_SMALL_COUNT = 10_000
_LARGE_BYTES = 1_000_000_000
_TICK_S = 0.001
_BLOCK = bytes(range(256)) * 4096


async def _blocking(path: Path) -> bytes:
    return path.read_bytes()


async def _to_thread(path: Path) -> bytes:
    return await asyncio.to_thread(path.read_bytes)


async def _anyio(path: Path) -> bytes:
    import anyio

    return await anyio.Path(path).read_bytes()


async def _aiofiles(path: Path) -> bytes:
    import aiofiles

    async with aiofiles.open(path, "rb") as file:
        content: bytes = await file.read()
    return content


def _offloop() -> Reader:
    import offloop

    return offloop.read_file


def _reader(case: Case) -> Reader:
    if case.contender.name == "offloop":
        return _offloop()
    readers: dict[str, Reader] = {
        "blocking": _blocking,
        "to_thread": _to_thread,
        "anyio": _anyio,
        "aiofiles": _aiofiles,
    }
    return readers[case.contender.name]


async def _read_small(read: Reader, count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="offloop-bench-") as folder:
        paths = [Path(folder, f"{number}.bin") for number in range(count)]
        for number, path in enumerate(paths):
            path.write_bytes(number.to_bytes(8, "little") * (_SMALL_BYTES // 8))
        await read(paths[0])
        began = time.perf_counter()
        for number, path in enumerate(paths):
            content = await read(path)
            if len(content) != _SMALL_BYTES or content[:8] != number.to_bytes(8, "little"):
                raise AssertionError(f"{path} has other bytes")
        seconds = time.perf_counter() - began
    say(files_per_s=count / seconds / 1000)


async def _read_large(read: Reader) -> None:
    with tempfile.NamedTemporaryFile(prefix="offloop-bench-") as file:
        left = _LARGE_BYTES
        while left:
            left -= file.write(_BLOCK[:left])
        file.flush()
        gap = await _worst_gap(read, Path(file.name))
    say(gap_ms=gap * 1000)


async def _worst_gap(read: Reader, path: Path) -> float:
    """Return the longest wait of a ticker while the file is read, its own pause included."""
    worst = 0.0
    ticked = asyncio.Event()

    async def tick() -> None:
        nonlocal worst
        last = time.perf_counter()
        while True:
            ticked.set()
            await asyncio.sleep(_TICK_S)
            now = time.perf_counter()
            worst, last = max(worst, now - last), now

    ticker = asyncio.create_task(tick())
    await ticked.wait()
    content = await read(path)
    # The gap that is open at the end counts, so the ticker comes once more.
    ticked.clear()
    await ticked.wait()
    ticker.cancel()
    if len(content) != _LARGE_BYTES:
        raise AssertionError(f"{len(content)} bytes came")
    return worst


def _run_small(case: Case) -> None:
    run_on(case, _read_small(_reader(case), case.pick(_SMALL_COUNT, _SMALL_COUNT // 4)))


def _run_large(case: Case) -> None:
    run_on(case, _read_large(_reader(case)))


ROWS = (
    LoopRow(
        name="files-small",
        title="small warm files",
        about=f"{_SMALL_COUNT} files of {_SMALL_BYTES} bytes, one after the other (a quarter of "
        "them in the quick form).",
        metrics=(RATE,),
        goals=(limit("small warm files, one after the other", RATE, 40),),
        run=_run_small,
        contenders=READERS,
    ),
    LoopRow(
        name="files-gap",
        title="a warm file of 1 GB",
        about="The longest wait of a ticker of 1 ms while it is read.",
        metrics=(GAP,),
        goals=(limit("a file of 1 GB: worst gap of a 1 ms ticker", GAP, 3),),
        run=_run_large,
        contenders=READERS,
        rounds=(4, 1),
    ),
)

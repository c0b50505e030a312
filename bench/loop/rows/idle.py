"""Idle connections: what they cost the work that is ready, and in memory."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
from collections.abc import Callable, Coroutine
from typing import Any

from bench.harness.accounts import resident_bytes
from bench.harness.goals import beside, limit, ratio
from bench.harness.rows import Case, Metric
from bench.loop.rows.base import Load, LoopRow
from bench.loop.rows.callbacks import NS, chain
from bench.loop.rows.echo import listening_socket
from bench.loop.rows.running import nanoseconds_each, run_on, say, serve_forever

SLOWDOWN = Metric("slowdown", "with them, against without", "x")
MEMORY = Metric("kib", "memory of each", "KiB")

_FEW = 1_000
_MANY = 10_000
#: Beside its connections a process has a few other descriptors.
_SPARE_DESCRIPTORS = 200
_CHAIN = 100_000


class Guest(asyncio.Protocol):
    """A connection that is greeted with one byte and says nothing more."""

    def __init__(self, arrive: Callable[[], None]) -> None:
        self._arrive = arrive

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, as a server would, and count."""
        self._transport = transport
        transport.write(b".")  # type: ignore[attr-defined]
        self._arrive()


async def _receive_guests(count: int) -> None:
    """Name a port, and return when so many connections are there."""
    loop = asyncio.get_running_loop()
    complete = loop.create_future()
    left = count

    def arrive() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            complete.set_result(None)

    listener, port = listening_socket()
    await loop.create_server(lambda: Guest(arrive), sock=listener)
    say(port=port)
    await complete
    # What the arrivals have scheduled is none of what is measured.
    for _ in range(10):
        await asyncio.sleep(0)


async def _measure_ready_work() -> None:
    # The shortest passes are compared: a slowdown by idle connections would be in all of them.
    alone, *_ = await nanoseconds_each(_CHAIN, chain)
    await _receive_guests(_FEW)
    beside_them, *_ = await nanoseconds_each(_CHAIN, chain)
    say(ns=beside_them, slowdown=beside_them / alone)
    await serve_forever()


async def _measure_memory() -> None:
    gc.collect()
    before = resident_bytes(os.getpid())
    await _receive_guests(_MANY)
    gc.collect()
    say(kib=(resident_bytes(os.getpid()) - before) / _MANY / 1024)
    await serve_forever()


def _hosting(measure: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[Case], None]:
    def run(case: Case) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < _MANY + _SPARE_DESCRIPTORS:
            raise RuntimeError(f"needs 10,200 descriptors; the hard limit is {hard} (ulimit -Hn)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        run_on(case, measure())

    return run


ROWS = (
    LoopRow(
        name="idle-ready-work",
        title="ready work beside 1,000 idle connections",
        about="The chain of call_soon again, once without and once with idle connections.",
        metrics=(NS, SLOWDOWN),
        goals=(
            limit("call_soon chain beside 1,000 idle connections", SLOWDOWN, 1.05),
            beside("the same, each link", NS),
        ),
        run=_hosting(_measure_ready_work),
        load=Load("idle", _FEW, answered_by_server=True),
    ),
    LoopRow(
        name="idle-memory",
        title="10,000 idle connections",
        about="Resident memory of the server's process for each of them.",
        metrics=(MEMORY,),
        goals=(ratio("10,000 idle connections: memory of each", MEMORY, 1.0),),
        run=_hosting(_measure_memory),
        load=Load("idle", _MANY, answered_by_server=True),
        rounds=(2, 1),
    ),
)

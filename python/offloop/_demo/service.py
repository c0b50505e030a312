"""The demo's web service: an aiohttp application that does its work in one of four ways.

Run as ``python -m offloop._demo.service WAY``.  It prints one line of JSON with its port, serves
until its standard input closes, and then prints one line of JSON with what it recorded.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from aiohttp import web

import offloop
from offloop._demo import work
from offloop._demo.record import BEAT_SECONDS, Kind, ServiceRecord, Span, Way

Answer = tuple[bytes, Span]
Work = Callable[[int], Answer]


async def on_the_loop(function: Work, index: int) -> Answer:
    """Call it here and now."""
    return function(index)


async def in_threads(function: Work, index: int) -> Answer:
    """Call it in a thread."""
    return await asyncio.to_thread(function, index)


async def in_pool_per_request(function: Work, index: int) -> Answer:
    """Make a standard pool for this one request, as many services do."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor() as pool:
        return await loop.run_in_executor(pool, function, index)


async def in_offloop(function: Work, index: int) -> Answer:
    """Call it in one of offloop's processes."""
    return await offloop.to_process(function, index)


WAYS = {
    Way.LOOP: on_the_loop,
    Way.THREADS: in_threads,
    Way.POOL: in_pool_per_request,
    Way.OFFLOOP: in_offloop,
}


class Service:
    """The application and what it records."""

    def __init__(self, way: Way) -> None:
        self._call = WAYS[way]
        self._numbers = itertools.count()
        self.spans: list[Span] = []
        self.beats: list[float] = []

    async def beat(self) -> None:
        """The heartbeat: note the time, over and over."""
        while True:
            self.beats.append(time.monotonic())
            await asyncio.sleep(BEAT_SECONDS)

    async def handle_work(self, request: web.Request) -> web.Response:
        """Answer a request that needs computation."""
        function = work.FUNCTIONS[Kind(request.match_info["kind"])]
        body, span = await self._call(function, next(self._numbers))
        self.spans.append(span)
        is_picture = span.kind is Kind.THUMBNAIL
        return web.Response(body=body, content_type="image/jpeg" if is_picture else "text/plain")

    async def handle_health(self, request: web.Request) -> web.Response:
        """Answer a request that needs nothing."""
        return web.Response(text="ok")

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application()
        application.router.add_get("/work/{kind}", self.handle_work)
        application.router.add_get("/health", self.handle_health)
        return application


async def serve(way: Way) -> None:
    """Serve on loopback until standard input closes."""
    service = Service(way)
    runner = web.AppRunner(service.application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await warm_up(way)
    if way is Way.LOOP:
        offloop.watch(words=False, losses=False)
    heart = asyncio.create_task(service.beat())
    tell({"port": runner.addresses[0][1]})
    await stdin_closed()
    heart.cancel()
    ids = os.getpid(), threading.get_native_id()
    record = ServiceRecord(*ids, service.beats, service.spans, blamed_lines())
    tell(dataclasses.asdict(record))
    await runner.cleanup()


def blamed_lines() -> list[str]:
    """What the watch says of each line that blocked the loop, the longest time first."""
    lines = []
    for culprit in offloop.watch.statistics().culprits:
        if culprit.entry is not None:
            entry, blocked = culprit.entry, culprit.blocked
            place = f"{os.path.basename(entry.filename)}:{entry.lineno} in {entry.function}"
            count = "once" if blocked.count == 1 else f"{blocked.count} times"
            times = f"{count}, {blocked.total_seconds:.1f} s"
            lines.append(f"{place} ({culprit.cause}): {times}")
    return lines


async def warm_up(way: Way) -> None:
    """Let every way import and open what it needs before the clock starts."""
    workers = os.cpu_count() or 1
    for function in work.FUNCTIONS.values():
        await asyncio.gather(*(WAYS[way](function, index) for index in range(workers)))


async def stdin_closed() -> None:
    """Wait for the end of standard input."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def tell(message: dict[str, object]) -> None:
    """Print one line of JSON for the parent."""
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(Way(sys.argv[1])))

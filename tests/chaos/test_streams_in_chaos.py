"""Seeded chaos for streams: what comes is a beginning of what was sent, in order; then one end.

Streams of all widths end, raise, crash, hang, time out, and are left, closed or cancelled by their
consumers, beside calls and while a tormentor stops and kills workers.
"""

import asyncio
import collections
import contextlib
import os
import random
from concurrent.futures.process import BrokenProcessPool

import pytest
from torment import Tormentor

import calls
import fates
import offloop

STREAMS = 120
AT_ONCE = 12
SEEDS = [int(os.environ["OFFLOOP_CHAOS_SEED"])] if "OFFLOOP_CHAOS_SEED" in os.environ else range(4)
ENDS = (*[None] * 6, fates.raise_value_error, fates.segfault, fates.hang, fates.refuse)

pytestmark = pytest.mark.timeout(150)


class Consumer:
    """One stream, and what became of it."""

    def __init__(self, pool: offloop.ProcessPool, number: int, chance: random.Random, log: str):
        self.number = number
        self.items = chance.choice([0, 1, 5, 300, 1500])
        self.taken = 0
        self.outcome = ""
        self._leaves_after = chance.choice([None, None, 0, 3, 400])
        self._closes = chance.random() < 0.5
        width = chance.choice([0, 0, 900, 16_000, 100_000])
        function = chance.choice([fates.stream, fates.stream, fates.stream_later])
        end = chance.choice(ENDS)
        # A stream that would never end has a limit.
        limit = chance.uniform(0.2, 1.0) if end in (fates.hang, fates.refuse) else 60.0
        view = pool.options(run_timeout=limit)
        self._stream = view.stream(function, log, number, self.items, width, end)

    async def run(self) -> None:
        """Take what comes, as the seed says; every way to end is noted."""
        try:
            await self._take()
        except (ValueError, BrokenProcessPool, offloop.DeadlineExceeded) as error:
            self.outcome = type(error).__name__
        if self._closes:
            await self._stream.aclose()
        del self._stream

    async def _take(self) -> None:
        async for number, index, filling in self._stream:
            assert (number, index, any(filling)) == (self.number, self.taken, False)
            self.taken += 1
            if self.taken == self._leaves_after:
                self.outcome = "left"
                return
        self.outcome = "end"
        assert self.taken == self.items


async def consume_all(pool, chance: random.Random, log: str) -> list[Consumer]:
    """Consume all streams, some at a time, and cancel some; nothing may hang."""
    consumers = [Consumer(pool, number, chance, log) for number in range(STREAMS)]
    places = asyncio.Semaphore(AT_ONCE)

    async def one(consumer: Consumer) -> None:
        async with places:
            task = asyncio.create_task(consumer.run())
            if chance.random() < 0.1:
                await asyncio.wait([task], timeout=chance.uniform(0, 0.05))
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            if task.cancelled():
                consumer.outcome = "cancelled"
            assert await pool.options(retries=100).run(calls.echo, 1) == 1

    async with asyncio.timeout(110), asyncio.TaskGroup() as group:
        for consumer in consumers:
            group.create_task(one(consumer))
    return consumers


@pytest.mark.parametrize("seed", SEEDS)
def test_streams_are_whole_up_to_their_end_whatever_happens_to_the_workers(seed, run, tmp_path):
    chance = random.Random(seed)
    log = str(tmp_path / "starts")

    async def main():
        async with offloop.ProcessPool(3, grace=0.05, preload=["fates"]) as pool:
            assert await pool.run(calls.echo, 1) == 1
            tormentor = Tormentor(seed)
            tormentor.start()
            try:
                consumers = await consume_all(pool, chance, log)
            finally:
                await asyncio.to_thread(tormentor.stop)
            assert await pool.run(calls.echo, "alive") == "alive"
        outcomes = collections.Counter(consumer.outcome for consumer in consumers)
        assert outcomes[""] == 0, f"seed {seed}: {outcomes}"
        missing = {"end", "left", "cancelled", "WorkerCrashed"} - set(outcomes)
        assert not missing, f"seed {seed}: {outcomes}"

    run(main())
    with open(log) as lines:
        starts = collections.Counter(lines.read().split())
    twice = {number: count for number, count in starts.items() if count > 1}
    assert not twice, f"seed {seed}: started more than once: {twice}"

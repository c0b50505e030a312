"""The demo's client: several users that ask again as soon as they are answered, and one user that
only asks whether the service is alive.

Run as ``python -m offloop._demo.client PORT SECONDS``; prints one line of JSON at its end.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import sys
import time

import aiohttp

from offloop._demo.record import ClientRecord, Kind

USERS = 8
"""More than any laptop's share of cores, so that requests have to wait their turn."""
HEALTH_SECONDS = 0.050


class Client:
    """Asks, and counts the answers."""

    def __init__(self, session: aiohttp.ClientSession, end: float) -> None:
        self._session = session
        self._end = end
        self.served = 0
        self.failed = 0
        self.health_seconds: list[float] = []

    async def user(self, number: int) -> None:
        """Ask for one piece of work after the other."""
        kinds = itertools.cycle(Kind)
        for kind in itertools.islice(kinds, number % len(Kind), None):
            if time.monotonic() >= self._end:
                return
            if await self._ask(f"/work/{kind}"):
                self.served += time.monotonic() <= self._end
            else:
                self.failed += 1

    async def doctor(self) -> None:
        """Ask for the health of the service, and note how long that takes."""
        while time.monotonic() < self._end:
            begin = time.monotonic()
            await self._ask("/health")
            self.health_seconds.append(time.monotonic() - begin)
            await asyncio.sleep(HEALTH_SECONDS)

    async def _ask(self, path: str) -> bool:
        try:
            async with self._session.get(path) as response:
                await response.read()
                return response.status == 200
        except aiohttp.ClientError:
            return False


async def ask(port: int, seconds: float) -> ClientRecord:
    """Put the service on ``port`` under load for ``seconds``."""
    connector = aiohttp.TCPConnector(limit=0)
    base = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession(base, connector=connector) as session:
        begin = time.monotonic()
        client = Client(session, begin + seconds)
        async with asyncio.TaskGroup() as group:
            group.create_task(client.doctor())
            for number in range(USERS):
                group.create_task(client.user(number))
    return ClientRecord(begin, begin + seconds, client.served, client.failed, client.health_seconds)


if __name__ == "__main__":
    record = asyncio.run(ask(int(sys.argv[1]), float(sys.argv[2])))
    print(json.dumps(dataclasses.asdict(record)))

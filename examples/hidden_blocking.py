"""A shop in FastAPI in which every page stands still for another reason, none of them in sight.

    python examples/hidden_blocking.py                 # says which pages stopped the loop
    offloop run examples/hidden_blocking.py            # the same program, unchanged

Each handler is a coroutine of one or two lines. What stops the loop is in the modules of ``shop``:
a client that waits for its server, a retry that sleeps, a slow disk, a lock that a thread has, and
more. The program visits each page once, says for how long the loop stood still, and ends.
"""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from shop import (
    catalogue,
    customers,
    labels,
    neighbours,
    orders,
    posters,
    prices,
    recommendations,
    search,
    sessions,
    stock,
)

TICK_SECONDS = 0.005

PAGES = {
    "/price": "waits for a socket, in an HTTP client",
    "/order": "sleeps, between two attempts",
    "/catalogue": "waits for a file on a slow disk",
    "/stock": "waits for a lock that a thread has",
    "/label": "waits for a child process",
    "/customer": "computes in C without the GIL, a password's hash",
    "/poster": "computes in C without the GIL, a picture",
    "/search": "computes in C and keeps the GIL, a regular expression",
    "/recommendation": "computes in Python",
    "/invoice": "waits for the GIL, which another thread keeps",
    "/goodbye": "collects garbage",
}
"""Every page, and what it does to the loop."""

app = FastAPI()


@app.get("/price")
async def price() -> float:
    """Tell a price in another currency."""
    return prices.in_euros(100.0)


@app.get("/order")
async def order() -> str:
    """Take an order."""
    return orders.place("tea")


@app.get("/catalogue")
async def whole_catalogue() -> list[str]:
    """Tell what there is."""
    return catalogue.everything()


@app.get("/stock")
async def in_stock() -> int:
    """Tell how much of it there is."""
    return stock.count("tea")


@app.get("/label")
async def label() -> str:
    """Print the label of a parcel."""
    return labels.printed("tea")


@app.get("/customer")
async def customer() -> bool:
    """Let a customer in."""
    return customers.may_enter("ada", "correct horse")


@app.get("/poster")
async def poster() -> tuple[int, int]:
    """Make a picture large."""
    return posters.of("tea")


@app.get("/search")
async def find() -> str:
    """Tidy up what was searched for."""
    return search.tidy("tea" + " " * 10_000 + "pot")


@app.get("/recommendation")
async def recommendation() -> str:
    """Recommend what is written like it."""
    return recommendations.nearest("teapot")


@app.get("/invoice")
async def invoice() -> int:
    """Write an invoice, while a thread, as it should be, sees to the ranking."""
    orders.rank_in_background()
    return len(orders.invoice())


@app.get("/goodbye")
async def goodbye() -> int:
    """Forget the customer's sessions."""
    return sessions.forget()


class Ticker:
    """Remembers the longest time for which the loop did not turn."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            self.longest = max(self.longest, now - last - TICK_SECONDS)
            last = now


def visit(port: int, page: str) -> bytes:
    """Ask for one page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}") as answer:
        body: bytes = answer.read()
        return body


async def visit_all(port: int) -> None:
    """Ask for every page, one after the other, from a thread, and tell of each."""
    ticker = Ticker()
    for page, reason in PAGES.items():
        ticker.longest = 0.0
        await asyncio.to_thread(visit, port, page)
        # The ticker notices a pause when it is over.
        await asyncio.sleep(2 * TICK_SECONDS)
        stop = f"stopped the loop for {ticker.longest:.2f} s"
        print(f"{page:<16} {stop}: it {reason}", flush=True)


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Listen on a free port of the loopback address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


async def main(listener: socket.socket) -> None:
    """Serve until every page was visited."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await visit_all(listener.getsockname()[1])
    server.should_exit = True
    await serving


if __name__ == "__main__":
    with neighbours.at_work(), listening() as socket_of_shop:
        asyncio.run(main(socket_of_shop))

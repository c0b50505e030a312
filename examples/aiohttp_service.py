"""An aiohttp service whose computations stop when the client hangs up.

    python examples/aiohttp_service.py --port 8080
    curl 'http://127.0.0.1:8080/primes?below=2000000'
    curl 'http://127.0.0.1:8080/health'

``handler_cancellation`` makes aiohttp cancel the handler of a closed connection, and cancelling
``to_process`` stops the call in its process: nothing is computed for a client that has left. Each
answer says in ``Server-Timing`` how long its computation took (``curl -i``).
"""

from __future__ import annotations

import argparse

from aiohttp import web

import offloop
from offloop.integrations.aiohttp import setup


def count_primes(below: int) -> int:
    """Count the primes below a number, by trial division in plain Python."""
    count = 0
    for number in range(2, below):
        divisor = 2
        while divisor * divisor <= number and number % divisor:
            divisor += 1
        count += divisor * divisor > number
    return count


class Primes:
    """The handlers, and how many computations are under way."""

    def __init__(self) -> None:
        self.active = 0
        self.stopped = 0

    async def primes(self, request: web.Request) -> web.Response:
        """Answer ``/primes?below=N``."""
        below = int(request.query.get("below", "1000"))
        self.active += 1
        try:
            count = await offloop.to_process(count_primes, below)
        except BaseException:
            # A cancelled call raises only when its process has really stopped computing.
            self.stopped += 1
            raise
        finally:
            self.active -= 1
        return web.json_response({"below": below, "primes": count})

    async def health(self, request: web.Request) -> web.Response:
        """Answer at once, whatever is being computed."""
        return web.json_response({"active": self.active, "stopped": self.stopped})


def make_application() -> web.Application:
    """The routes."""
    handlers = Primes()
    application = web.Application()
    application.router.add_get("/primes", handlers.primes)
    application.router.add_get("/health", handlers.health)
    setup(application)
    return application


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8080)
    web.run_app(
        make_application(),
        host="127.0.0.1",
        port=parser.parse_args().port,
        handler_cancellation=True,
    )

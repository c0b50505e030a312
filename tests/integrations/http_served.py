"""Applications served over real HTTP on the loopback, and a client that reads whole answers."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn

import offloop
from gates import PATIENCE_SECONDS

THRESHOLD_SECONDS = 0.05
ATTEMPTS_MAX = 10


class Told:
    """Stalls as a callback hears them. A handler that calls `wait` blocks its loop until then."""

    def __init__(self) -> None:
        self.stalls: list[offloop.Stall] = []
        self._changed = threading.Condition()
        self._found: dict[str, threading.Event] = {}

    def __call__(self, stall: offloop.Stall) -> None:
        with self._changed:
            self.stalls.append(stall)
            self._changed.notify_all()
            for function, found in self._found.items():
                if self.of(function):
                    found.set()

    def found(self, function: str) -> threading.Event:
        """Set when a stall of a function is told; the function waits for it in its own line."""
        with self._changed:
            return self._found.setdefault(function, threading.Event())

    def of(self, function: str) -> list[offloop.Stall]:
        """What was told so far of the stalls in which a function of this name ran."""
        found = [
            stall.number
            for stall in self.stalls
            if any(entry.function.endswith(function) for entry in stall.stack)
        ]
        return [stall for stall in self.stalls if stall.number in found]

    def wait(self, function: str, is_over: bool = False) -> offloop.Stall:
        """Block until the stall of a function is told, and once more when it is over."""

        def wanted() -> list[offloop.Stall]:
            return [stall for stall in self.of(function) if (stall.duration is not None) is is_over]

        with self._changed:
            if not self._changed.wait_for(wanted, PATIENCE_SECONDS):
                raise AssertionError(f"only these stalls were told: {self.stalls}")
            return wanted()[-1]


def with_culprit(block: Callable[[], offloop.Stall]) -> offloop.Stall:
    """A stall that has a culprit: on a busy machine the system may be to blame, a few times."""
    for _ in range(ATTEMPTS_MAX):
        stall = block()
        if stall.culprit is not None:
            return stall
    raise AssertionError("no stall had a culprit")


@contextlib.asynccontextmanager
async def served(application: Any, **options: Any) -> AsyncIterator[int]:
    """Serve an ASGI application by uvicorn; its port."""
    settings = {"port": 0, "log_level": "critical", "http": "h11", "lifespan": "off", **options}
    server = uvicorn.Server(uvicorn.Config(application, **settings))
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.001)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving


class Answer:
    """Status, headers with lower-case names, body, and whether the body came to its end."""

    def __init__(self, received: bytes) -> None:
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        pairs = [line.split(": ", 1) for line in lines]
        self.headers = [(name.lower(), value) for name, value in pairs]
        self.body, self.is_whole = body, True
        if self.all("transfer-encoding") == ["chunked"]:
            self.body, self.is_whole = _joined(body)

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for found, value in self.headers if found == name]

    @property
    def timing(self) -> dict[str, tuple[float, str]]:
        """Metrics of ``Server-Timing``: milliseconds and description."""
        metrics = [
            metric.split(";") for value in self.all("server-timing") for metric in value.split(", ")
        ]
        return {
            name: (float(duration.removeprefix("dur=")), text.removeprefix("desc=").strip('"'))
            for name, duration, text in metrics
        }


def _joined(chunks: bytes) -> tuple[bytes, bool]:
    """A body that was sent in chunks, and whether the last one has come."""
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return body, True
        body, chunks = body + chunks[:length], chunks[length + 2 :]
    return body, False


async def ask(port: int, target: str, method: str = "GET") -> Answer:
    """Send a request and read the answer to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return Answer(received)


def plain(act: Callable[[dict], Any]) -> Callable:
    """An ASGI application of no framework that does something and answers with two pieces."""

    async def application(scope, receive, send):
        await act(scope)
        headers = [(b"content-type", b"text/plain"), (b"server-timing", b'db;dur=1.5;desc="q"')]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"one ", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    return application

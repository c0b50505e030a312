"""Echo servers: protocols, streams and plain sockets, without and with TLS, beside C.

Ten connections, each with one request under way. Server and client have a core each.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from bench.harness.goals import Against, Goal, beside, ratio
from bench.harness.rows import Case, Metric
from bench.loop.contenders import FLOOR, LOOPS, TLS_LOOPS, WRITING_LOOPS
from bench.loop.rows.base import HEAPS, C, Load, LoopRow
from bench.loop.rows.running import run_on, say, serve_forever

RATE = Metric("requests_per_s", "requests", "k/s", higher_is_better=True)
CPU = Metric("server_cpu_us", "server CPU per request", "us")
#: What the client tells besides; it has no number to reach, and is kept in the results' JSON.
_BESIDES = (
    Metric("p50_us", "latency p50", "us"),
    Metric("p99_us", "latency p99", "us"),
    Metric("client_cpu_us", "client CPU per request", "us"),
)
SERVED = (RATE, CPU, *_BESIDES)

CONNECTIONS = 10
KIB = 1024
#: What the server reads at a time, where it says so itself.
_RECEIVE_BYTES = 256 * KIB
_CERTIFICATE = Path(__file__).resolve().parents[3] / "tests" / "loop" / "localhost.pem"

#: The best at TLS, on its own loop and on the standard one.
_AIOFASTNET = Against("aiofastnet", ("aiofastnet", "aiofastnet-asyncio"))


class Echo(asyncio.Protocol):
    """Send back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport's write method, as protocols that care do."""
        self._write = transport.write  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Write it back."""
        self._write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """Send back what comes, from memory of its own."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray(_RECEIVE_BYTES))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport's write method."""
        self._write = transport.write  # type: ignore[attr-defined]

    def get_buffer(self, _hint: int) -> memoryview:
        """Lend the memory."""
        return self._memory

    def buffer_updated(self, count: int) -> None:
        """Write back what came."""
        self._write(self._memory[:count])


def listening_socket() -> tuple[socket.socket, int]:
    """Return a nonblocking listening socket of the loopback address, and its port.

    It says that it speaks TCP: where a listening socket has protocol 0, the standard loop leaves
    TCP_NODELAY off, and its answers in two parts wait 40 ms. The port is asked for here, for some
    loops take the descriptor away from the socket object.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    listener.setblocking(False)
    return listener, listener.getsockname()[1]


def _context() -> ssl.SSLContext:
    """Make the server's side of TLS; on the loop, for some loops watch how it is made."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_CERTIFICATE)
    return context


async def _serve_protocol(tls: bool, make: type[asyncio.BaseProtocol] = Echo) -> None:
    loop = asyncio.get_running_loop()
    listener, port = listening_socket()
    await loop.create_server(make, sock=listener, ssl=_context() if tls else None)
    say(port=port)
    await serve_forever()


async def _serve_buffered(tls: bool) -> None:
    await _serve_protocol(tls, BufferedEcho)


async def _serve_streams(tls: bool) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_RECEIVE_BYTES):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            # The client goes when its time is up, with a request under way.
            pass
        finally:
            writer.close()

    listener, port = listening_socket()
    server = await asyncio.start_server(answer, sock=listener, ssl=_context() if tls else None)
    say(port=port)
    await serve_forever(server)


async def _serve_sockets(_tls: bool) -> None:
    loop = asyncio.get_running_loop()

    async def answer(connection: socket.socket) -> None:
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := await loop.sock_recv(connection, _RECEIVE_BYTES):
                await loop.sock_sendall(connection, data)

    listener, port = listening_socket()
    say(port=port)
    tasks = set()
    while True:
        connection, _ = await loop.sock_accept(listener)
        connection.setblocking(False)
        tasks.add(loop.create_task(answer(connection)))


_SERVERS = {
    "protocol": _serve_protocol,
    "buffered": _serve_buffered,
    "streams": _serve_streams,
    "sock": _serve_sockets,
}


def _serving(kind: str, *, tls: bool) -> Callable[[Case], None]:
    def run(case: Case) -> None:
        run_on(case, _SERVERS[kind](tls))

    return run


def _plain(kind: str, kib: int, heap: str, rate: float, *, judge_cpu: bool = False) -> LoopRow:
    title = f"{_TITLES[kind]} echo, {kib} KiB, {heap} heap"
    cpu = f"{title}: CPU"
    goals = (
        ratio(title, RATE, rate, C),
        ratio(cpu, CPU, 1.10, C) if judge_cpu else beside(cpu, CPU),
    )
    return LoopRow(
        name=f"echo-{kind}-{kib}k-{heap}",
        title=title,
        about=f"{CONNECTIONS} connections, against a bare epoll server in C.",
        metrics=SERVED,
        goals=goals,
        run=_serving(kind, tls=False),
        contenders=(*(LOOPS if kind == "sock" else WRITING_LOOPS), FLOOR),
        load=Load("echo", CONNECTIONS, kib * KIB),
        program=("echo",),
        environment=HEAPS[heap],
        bound_s=30,
    )


def _tls(kind: str, kib: int, goals: Callable[[str], tuple[Goal, ...]]) -> LoopRow:
    title = f"TLS {_TITLES[kind]} echo, {kib} KiB"
    return LoopRow(
        name=f"tls-{kind}-{kib}k",
        title=title,
        about=f"{CONNECTIONS} connections, against an epoll server in C with OpenSSL.",
        metrics=SERVED,
        goals=goals(title),
        run=_serving(kind, tls=True),
        contenders=(*TLS_LOOPS, FLOOR),
        load=Load("echo", CONNECTIONS, kib * KIB, tls=True),
        program=("tls_echo", str(_CERTIFICATE)),
        environment=HEAPS["warm"],
        bound_s=30,
        full_only=("aiofastnet-asyncio",),
        without={"rloop": "has no TLS"},
    )


def _protocol_goals(title: str) -> tuple[Goal, ...]:
    return (beside(title, RATE), ratio(f"{title}: CPU", CPU, 1.0, _AIOFASTNET))


def _streams_goals(title: str) -> tuple[Goal, ...]:
    return (ratio(title, RATE, 0.95, C), ratio(f"{title}: CPU", CPU, 1.0, _AIOFASTNET))


_TITLES = {
    "protocol": "protocol",
    "buffered": "buffered protocol",
    "streams": "streams",
    "sock": "sock_recv, sock_sendall",
}

ROWS = (
    *(
        _plain("protocol", kib, heap, 0.95, judge_cpu=True)
        for kib in (1, 100)
        for heap in ("warm", "cold")
    ),
    *(_plain("protocol", 10, heap, 0.95) for heap in ("warm", "cold")),
    *(_plain("buffered", kib, "warm", 0.95) for kib in (1, 10, 100)),
    *(
        _plain("streams", kib, heap, rate)
        for kib, rate in ((1, 0.85), (100, 0.80))
        for heap in ("warm", "cold")
    ),
    *(_plain("sock", 1, heap, 0.80) for heap in ("warm", "cold")),
    *(_tls("protocol", kib, _protocol_goals) for kib in (1, 10, 100)),
    *(_tls("streams", kib, _streams_goals) for kib in (1, 10, 100)),
)

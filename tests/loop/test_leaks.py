"""Nothing is left of ten thousand cycles: no memory, native memory included, no descriptor.

Each case runs a while first, so that caches and tables have their size. What Python has allocated
is counted by tracemalloc, which sees every object; what our native half and OpenSSL have allocated
by the C library's own count of what is in use.
"""

import asyncio
import contextlib
import ctypes
import gc
import socket
import ssl
import tracemalloc

import pytest

import offloop
from gates import open_descriptors
from tls_ends import client_context, server_context

CYCLES = 10_000
WARM_UP = 1_000
AT_ONCE = 50
MUCH = bytes(1 << 18)
"""More than a socket takes at once."""

LEFT_MAX_BYTES = CYCLES * 4
"""Less than a pointer for each cycle."""


class InUse(ctypes.Structure):
    """The C library's `struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = InUse


def measured() -> tuple[int, int, int]:
    """Bytes of Python's objects, bytes of the C library's, open descriptors."""
    gc.collect()
    native = mallinfo2()
    traced = tracemalloc.get_traced_memory()[0]
    return traced, native.uordblks + native.hblkhd, open_descriptors()


async def reset_connection(state):
    """A connection that its peer resets while there is something to send."""
    ours, theirs = socket.socketpair()
    transport, protocol = await asyncio.get_running_loop().create_connection(Lost, sock=ours)
    transport.write(MUCH)
    theirs.close()
    assert await protocol.lost is not None


async def refused_data(state):
    """A connection whose protocol fails at what it gets."""
    ours, theirs = socket.socketpair()
    _, protocol = await asyncio.get_running_loop().create_connection(Failing, sock=ours)
    theirs.send(b"data")
    assert type(await protocol.lost) is ValueError
    theirs.close()


async def cancelled_waits(state):
    """Calls on sockets that are given up."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    for call in (loop.sock_recv(ours, 9), loop.sock_sendall(ours, MUCH)):
        task = asyncio.create_task(call)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    ours.close()
    theirs.close()


async def watched_descriptors(state):
    """Readers and writers that are replaced, called and removed."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    called = loop.create_future()
    loop.add_reader(ours, print, ours)
    loop.add_reader(ours, lambda: called.done() or called.set_result(ours.recv(1)))
    loop.add_writer(ours, loop.remove_writer, ours)
    theirs.send(b"x")
    assert await called == b"x"
    loop.remove_reader(ours)
    ours.close()
    theirs.close()


async def streams(state):
    """A conversation over streams, with limits reached."""
    ours, theirs = socket.socketpair()
    (reader, writer), (peer, answers) = await asyncio.gather(
        asyncio.open_connection(sock=ours, limit=64), asyncio.open_connection(sock=theirs)
    )
    writer.writelines([b"line\n", bytearray(3000), memoryview(b"end\n")])
    assert await peer.readuntil(b"end\n")
    answers.write(b"x" * 200 + b"\n")
    with contextlib.suppress(ValueError):
        await reader.readline()
    for each in (writer, answers):
        each.close()
        await each.wait_closed()


async def timers_and_wake_ups(state):
    """Timers, timeouts and calls from a thread."""
    loop = asyncio.get_running_loop()
    loop.call_later(60, print, "never").cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):
            await loop.create_future()
    called = loop.create_future()
    loop.call_soon_threadsafe(called.set_result, None)
    await called


async def failing_callbacks(state):
    """Callbacks that raise."""
    loop = asyncio.get_running_loop()
    loop.call_soon(int, "no number")
    loop.call_later(0, int, "no number")
    await asyncio.sleep(0)


async def secure_connection(state):
    """A handshake, an exchange, and the end of it."""
    server_side, client_side = state
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    serving = loop.create_task(
        loop.connect_accepted_socket(lambda: Lost(echo=True), theirs, ssl=server_side)
    )
    reader, writer = await asyncio.open_connection(
        sock=ours, ssl=client_side, server_hostname="localhost"
    )
    _, server = await serving
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    await writer.wait_closed()
    await server.lost


async def refused_certificate(state):
    """A handshake that the client breaks off."""
    server_side, _ = state
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    serving = loop.create_task(loop.connect_accepted_socket(Lost, theirs, ssl=server_side))
    with contextlib.suppress(ssl.SSLCertVerificationError):
        await asyncio.open_connection(sock=ours, ssl=DISTRUSTFUL, server_hostname="localhost")
    await asyncio.wait([serving])
    assert isinstance(serving.exception(), (ssl.SSLError, ConnectionError))


DISTRUSTFUL = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Lost(asyncio.Protocol):
    """Tells when its connection is lost, and why."""

    def __init__(self, echo=False) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self.echo = echo

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if self.echo:
            self.transport.write(data)

    def connection_lost(self, exc):
        if not self.lost.done():
            self.lost.set_result(exc)


class Failing(Lost):
    """Fails at what it gets."""

    def data_received(self, data):
        raise ValueError("wrong")


@pytest.fixture
def state():
    """The two contexts of TLS."""
    return server_context(), client_context()


CASES = {
    reset_connection: CYCLES,
    refused_data: CYCLES,
    cancelled_waits: CYCLES,
    watched_descriptors: CYCLES,
    streams: CYCLES,
    timers_and_wake_ups: CYCLES,
    failing_callbacks: CYCLES,
    secure_connection: CYCLES // 10,
    refused_certificate: CYCLES // 10,
}
"""How often each runs; a handshake takes long enough for fewer."""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("cycle", CASES, ids=lambda cycle: cycle.__name__)
def test_nothing_is_left_of_many_cycles(cycle, state):
    async def repeat(times):
        for _ in range(times // AT_ONCE):
            await asyncio.gather(*(cycle(state) for _ in range(AT_ONCE)))
        # What a connection leaves behind in its last moment.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    cycles = CASES[cycle]
    tracemalloc.start()
    try:
        with asyncio.Runner(loop_factory=offloop.new_event_loop) as runner:
            runner.get_loop().set_exception_handler(lambda loop, about: None)
            runner.run(repeat(WARM_UP))
            before = measured()
            runner.run(repeat(cycles))
            after = measured()
    finally:
        tracemalloc.stop()
    objects, native, descriptors = (now - then for then, now in zip(before, after, strict=True))
    assert descriptors <= 0
    assert objects < LEFT_MAX_BYTES
    assert native < 2 * LEFT_MAX_BYTES

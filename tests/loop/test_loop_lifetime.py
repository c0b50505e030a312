"""A closed loop is freed by reference counts alone, as the standard one is.

The collector is off. Each scenario uses one kind of what a loop offers, some to its end and some
left open, and nothing refers to the loop once it is closed. Where the standard loop needs the
collector itself, ours may need it as well.
"""

import asyncio
import gc
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
import weakref

import pytest

import offloop
from tls_ends import client_context, server_context


class Plain(asyncio.Protocol):
    """Keeps nothing, so that it is in no cycle."""


class Buffered(asyncio.BufferedProtocol):
    """Keeps nothing but its memory."""

    def __init__(self):
        self.memory = bytearray(10)

    def get_buffer(self, sizehint):
        return self.memory


class Datagrams(asyncio.DatagramProtocol):
    """Keeps nothing."""


OPEN = []
"""What a scenario leaves to the test to close."""


def pair(kind=socket.SOCK_STREAM):
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.setblocking(False)
    OPEN.append(theirs)
    return ours, theirs


async def nothing():
    """The loop has run."""


async def callbacks_and_timers():
    loop = asyncio.get_running_loop()
    loop.call_later(60, print, loop)
    loop.call_soon(print, loop).cancel()
    loop.call_soon_threadsafe(str, 1)
    loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
    loop.set_exception_handler(lambda loop, context: None)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)


async def executor():
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, str, 1)
    await loop.getaddrinfo("127.0.0.1", 80)


async def generators():
    async def numbers():
        yield 1
        yield 2

    async for _ in numbers():
        break


async def server():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Plain, "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.close()
        await writer.wait_closed()


async def open_server():
    loop = asyncio.get_running_loop()
    await loop.create_server(Plain, "127.0.0.1", 0)


async def unix_server():
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        server = await loop.create_unix_server(Plain, folder + "/socket")
        server.close()
        await server.wait_closed()


async def closed_streams():
    ours, theirs = pair()
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(b"x" * 10)
    theirs.send(b"answer\n")
    await reader.readline()
    writer.close()
    await writer.wait_closed()


async def open_connection():
    ours, theirs = pair()
    await asyncio.get_running_loop().create_connection(Plain, sock=ours)
    theirs.send(b"x")
    await asyncio.sleep(0)


async def open_connections_of_a_server():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Plain, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()):
        await asyncio.sleep(0.01)
    server.close()


async def open_buffered_connection():
    ours, _ = pair()
    await asyncio.get_running_loop().create_connection(Buffered, sock=ours)


async def connection_that_is_full():
    ours, _ = pair()
    transport, _ = await asyncio.get_running_loop().create_connection(Plain, sock=ours)
    transport.write(bytes(1 << 22))
    transport.pause_reading()
    await asyncio.sleep(0)


async def connection_that_is_closing():
    ours, _ = pair()
    transport, _ = await asyncio.get_running_loop().create_connection(Plain, sock=ours)
    transport.write(bytes(1 << 22))
    transport.close()


async def aborted_connection():
    ours, _ = pair()
    transport, _ = await asyncio.get_running_loop().create_connection(Plain, sock=ours)
    transport.abort()


async def failed_connection():
    ours, theirs = pair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(Plain, sock=ours)
    theirs.close()
    transport.write(b"x")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(OSError):
        await loop.create_connection(Plain, "127.0.0.1", 1)


async def secure_connection(close=True):
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    serving = loop.create_task(loop.connect_accepted_socket(Plain, theirs, ssl=server_context()))
    transport, _ = await loop.create_connection(
        Plain, sock=ours, ssl=client_context(), server_hostname="localhost"
    )
    other, _ = await serving
    transport.write(b"hello")
    if close:
        for each in (transport, other):
            each.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def open_secure_connection():
    await secure_connection(close=False)


async def secure_server():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Plain, "127.0.0.1", 0, ssl=server_context())
    server.close()
    await server.wait_closed()


async def datagrams():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    await asyncio.sleep(0)
    transport.close()
    await asyncio.sleep(0)


async def open_datagrams():
    await asyncio.get_running_loop().create_datagram_endpoint(
        Datagrams, local_addr=("127.0.0.1", 0)
    )


async def pipes(close=True):
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    reader, _ = await loop.connect_read_pipe(Plain, io.FileIO(reading))
    writer, _ = await loop.connect_write_pipe(Plain, io.FileIO(writing, "w"))
    writer.write(b"x")
    await asyncio.sleep(0)
    if close:
        reader.close()
        writer.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def open_pipes():
    await pipes(close=False)


async def child():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", "print(1)", stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    await process.communicate(b"")


async def signals():
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGUSR1):
        loop.add_signal_handler(number, print, loop)
    loop.remove_signal_handler(signal.SIGUSR1)


async def watched_sockets():
    loop = asyncio.get_running_loop()
    ours, _ = pair()
    loop.add_reader(ours, print, loop)
    loop.add_writer(ours.fileno(), print, loop)
    OPEN.append(ours)


async def calls_on_sockets():
    loop = asyncio.get_running_loop()
    ours, theirs = pair()
    waiting = loop.create_task(loop.sock_recv(ours, 9))
    await asyncio.sleep(0)
    theirs.send(b"x")
    await waiting
    waiting = loop.create_task(loop.sock_recv(ours, 9))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    OPEN.append(ours)


async def what_is_asked_for():
    loop = asyncio.get_running_loop()
    loop.time, loop.call_soon, loop.get_debug()
    len(loop._transports), loop._selector.get_map(), loop._ready, loop._scheduled
    loop.set_debug(True)
    loop.call_soon(str)
    await asyncio.sleep(0)


SCENARIOS = [
    nothing,
    callbacks_and_timers,
    executor,
    generators,
    server,
    open_server,
    unix_server,
    closed_streams,
    open_connection,
    open_connections_of_a_server,
    open_buffered_connection,
    connection_that_is_full,
    connection_that_is_closing,
    aborted_connection,
    failed_connection,
    secure_connection,
    open_secure_connection,
    secure_server,
    datagrams,
    open_datagrams,
    pipes,
    open_pipes,
    child,
    signals,
    watched_sockets,
    calls_on_sockets,
    what_is_asked_for,
]


def outlives(make_loop, scenario) -> bool:
    """Whether a loop is still there after it was closed and let go of."""
    with warnings.catch_warnings():
        # What a scenario leaves open warns as it goes.
        warnings.simplefilter("ignore", ResourceWarning)
        loop = make_loop()
        loop.run_until_complete(scenario())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        gone = weakref.ref(loop)
        del loop
        left = gone() is not None
        while OPEN:
            OPEN.pop().close()
        gc.collect()
        assert gone() is None
    return left


@pytest.fixture
def without_collector():
    """Only reference counts free anything."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_closed_loop_is_gone_with_its_last_reference(scenario, without_collector):
    standard = outlives(asyncio.SelectorEventLoop, scenario)
    assert outlives(offloop.EventLoop, scenario) <= standard


def test_runners_with_servers_leave_nothing(make_loop, without_collector):
    gone = []

    async def main():
        loop = asyncio.get_running_loop()
        gone.append(weakref.ref(loop))
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b"answer"
            writer.close()
            await writer.wait_closed()

    async def answer(reader, writer):
        writer.write(b"answer")
        writer.close()

    for _ in range(20):
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(main())
        del runner
    assert [reference() for reference in gone] == [None] * 20


def test_transport_that_is_left_open_goes_with_its_loop(without_collector):
    # The standard transport is in a cycle of its own.
    loop = offloop.EventLoop()
    loop.run_until_complete(open_buffered_connection())
    theirs = OPEN.pop()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        loop.close()
    assert theirs.recv(1) == b""
    theirs.close()


def test_transport_of_a_closed_loop_is_whole_for_a_program_that_keeps_it(make_loop):
    loop = make_loop()
    ours, theirs = pair()
    transport, protocol = loop.run_until_complete(loop.create_connection(Plain, sock=ours))
    loop.close()
    assert transport.get_protocol() is protocol
    assert transport.get_extra_info("socket").fileno() == ours.fileno()
    assert not transport.is_closing()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.abort()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del transport
        gc.collect()
    OPEN.remove(theirs)
    theirs.close()
    ours.close()

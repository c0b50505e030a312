"""Which TLS connections our loop takes over, how they change hands, and that nothing is left."""

import asyncio
import gc
import os
import ssl
import subprocess
import sys
import tracemalloc
import weakref
from collections import Counter

import pytest

import offloop
from _offloop_worker._offloop import Tls
from gates import PATIENCE_SECONDS, open_descriptors
from offloop._loop.tls import SSLTransport, TlsProtocol
from offloop._loop.transports import StreamTransport
from tls_ends import LIBRARY_IS_SHARED, client_context, echo, server_context

CONNECTIONS = 1000


async def ask(address, context, question=b"question"):
    """Have a question echoed on a new connection; return its transport."""
    reader, writer = await asyncio.open_connection(
        *address, ssl=context, server_hostname="localhost"
    )
    writer.write(question)
    assert await reader.readexactly(len(question)) == question
    transport = writer.transport
    taken = transport._tls.taken
    writer.close()
    await writer.wait_closed()
    return taken


def run(main, *, debug=False):
    """Run a coroutine to its end on our loop."""
    with asyncio.Runner(loop_factory=offloop.new_event_loop, debug=debug) as runner:
        return runner.run(main)


def asked(context):
    """Whether a client with this context has its connection taken over; it works in any case."""

    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context()) as server:
            return await ask(server.sockets[0].getsockname(), context)

    return run(main())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_usual_connection_is_taken_over(version):
    context = client_context()
    context.maximum_version = context.minimum_version = version
    assert asked(context) == LIBRARY_IS_SHARED


def test_connection_in_debug_mode_is_taken_over_and_works():
    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context()) as server:
            return await ask(server.sockets[0].getsockname(), client_context(), b"q" * 300_000)

    assert run(main(), debug=True) == LIBRARY_IS_SHARED


def test_connection_with_a_log_of_keys_is_left_to_python(tmp_path):
    context = client_context()
    context.keylog_filename = str(tmp_path / "keys")
    assert not asked(context)
    assert (tmp_path / "keys").read_text().count("TRAFFIC_SECRET") >= 4


def test_connection_with_a_message_callback_is_left_to_python():
    context, messages = client_context(), []
    context._msg_callback = lambda *message: messages.append(message)
    assert not asked(context)
    assert messages


def test_connection_of_a_class_of_the_programs_own_is_left_to_python():
    read = []

    class Counting(ssl.SSLObject):
        def read(self, *arguments):
            read.append(arguments)
            return super().read(*arguments)

    context = client_context()
    context.sslobject_class = Counting
    assert not asked(context)
    assert read


def test_context_may_be_anything_that_makes_connections():
    class Reloading:
        """As a context that reads certificates anew for each connection."""

        def wrap_bio(self, *arguments, **keywords):
            return server_context().wrap_bio(*arguments, **keywords)

    taken = []

    async def answer(reader, writer):
        taken.append(writer.transport._tls.taken)
        await echo(reader, writer)

    async def main():
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=Reloading()) as server:
            await ask(server.sockets[0].getsockname(), client_context())

    run(main())
    assert taken == [LIBRARY_IS_SHARED]


UNFAMILIAR = """
import _ssl, ssl
{change}
import test_tls_lifetime
assert not test_tls_lifetime.asked(test_tls_lifetime.client_context())
"""


@pytest.mark.parametrize(
    "change",
    [
        "_ssl.__file__ = None",
        "_ssl.MemoryBIO = None",
        "ssl.SSLObject = None",
        "ssl.SSLObject = ssl.SSLContext.sslobject_class = type('Own', (ssl.SSLObject,), {})",
    ],
)
def test_ssl_of_the_interpreter_that_was_changed_is_left_to_python(change):
    done = subprocess.run(
        [sys.executable, "-c", UNFAMILIAR.format(change=change)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_plain_protocol_may_have_the_name_of_our_native_half():
    class Named(asyncio.Protocol):
        @property
        def _tls(self):
            raise RuntimeError("there is none here")

        def data_received(self, data):
            arrived.set_result(data)

    async def main():
        nonlocal arrived
        loop = asyncio.get_running_loop()
        arrived = loop.create_future()
        server = await loop.create_server(Named, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"plain")
        async with asyncio.timeout(PATIENCE_SECONDS):
            data = await arrived
        writer.close()
        server.close()
        return data

    arrived = None
    assert run(main()) == b"plain"


def test_what_the_program_puts_before_the_tls_protocol_is_called():
    counts = []

    class Counting(asyncio.BufferedProtocol):
        def __init__(self, protocol):
            self.protocol = protocol

        def __getattr__(self, name):
            return getattr(self.protocol, name)

        def get_buffer(self, hint):
            return self.protocol.get_buffer(hint)

        def buffer_updated(self, count):
            counts.append(count)
            self.protocol.buffer_updated(count)

        def eof_received(self):
            return self.protocol.eof_received()

        def connection_lost(self, error):
            self.protocol.connection_lost(error)

    async def serve(reader, writer):
        protocol = writer.transport._ssl_protocol
        protocol._transport.set_protocol(Counting(protocol))
        await echo(reader, writer)

    async def main():
        async with await asyncio.start_server(
            serve, "127.0.0.1", 0, ssl=server_context()
        ) as server:
            await ask(server.sockets[0].getsockname(), client_context())

    run(main())
    assert sum(counts) > len(b"question")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_server_that_chooses_its_context_by_name_serves_it(version):
    chosen = server_context()
    names, taken = [], []

    def choose(ssl_object, name, context):
        names.append(name)
        ssl_object.context = chosen

    async def answer(reader, writer):
        taken.append(writer.transport._tls.taken)
        assert writer.get_extra_info("ssl_object").context is chosen
        await echo(reader, writer)

    async def main():
        context = server_context()
        context.sni_callback = choose
        client = client_context()
        client.maximum_version = version
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
            await ask(server.sockets[0].getsockname(), client)

    run(main())
    assert names == ["localhost"]
    # The chosen context has no callback of its own.
    assert taken == [LIBRARY_IS_SHARED and version is ssl.TLSVersion.TLSv1_3]


def test_tls_inside_tls_works_and_only_the_outer_is_taken_over():
    async def serve(reader, writer):
        writer.write(b"inside")
        await writer.start_tls(server_context())
        await echo(reader, writer)

    async def main():
        async with await asyncio.start_server(
            serve, "127.0.0.1", 0, ssl=server_context()
        ) as server:
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
            )
            assert await reader.readexactly(6) == b"inside"
            outer = writer.transport
            await writer.start_tls(client_context(), server_hostname="localhost")
            writer.write(b"twice" * 50_000)
            data = await reader.readexactly(250_000)
            taken = outer._tls.taken, writer.transport._tls.taken
            writer.close()
            await writer.wait_closed()
            return data == b"twice" * 50_000, taken

    assert run(main()) == (True, (LIBRARY_IS_SHARED, False))


def test_another_protocol_gets_what_comes_after_it_was_set():
    class Collecting(asyncio.Protocol):
        def __init__(self):
            self.data = b""
            self.enough = asyncio.get_running_loop().create_future()

        def data_received(self, data):
            self.data += data
            if len(self.data) == 5:
                self.enough.set_result(self.data)

    async def main():
        loop = asyncio.get_running_loop()
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context()) as server:
            transport, first = await loop.create_connection(
                Collecting,
                *server.sockets[0].getsockname(),
                ssl=client_context(),
                server_hostname="localhost",
            )
            transport.write(b"first")
            before = await first.enough
            second = Collecting()
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            transport.write(b"other")
            after = await second.enough
            transport.abort()
            return before, after

    assert run(main()) == (b"first", b"other")


def test_extra_info_is_that_of_the_standard_library():
    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context()) as server:
            address, context = server.sockets[0].getsockname(), client_context()
            _, writer = await asyncio.open_connection(
                *address, ssl=context, server_hostname="localhost"
            )
            info = writer.get_extra_info
            tls = info("ssl_object")
            assert type(tls) is ssl.SSLObject
            assert info("sslcontext") is context is tls.context
            assert info("peercert") == tls.getpeercert()
            assert info("cipher") == tls.cipher()
            assert info("compression") is None
            assert info("peername") == address
            assert tls.version() == "TLSv1.3"
            assert tls.get_channel_binding("tls-unique")
            assert tls.pending() == 0
            session = tls.session
            writer.close()
            await writer.wait_closed()
            return session is not None

    assert run(main())


def test_connection_is_freed_when_it_is_over_without_the_collector():
    async def main():
        seen = []

        class Watched(asyncio.Protocol):
            def connection_made(self, transport):
                protocol = transport._ssl_protocol
                seen.append([weakref.ref(one) for one in (transport, protocol, self)])

        loop = asyncio.get_running_loop()
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context()) as server:
            transport, protocol = await loop.create_connection(
                Watched,
                *server.sockets[0].getsockname(),
                ssl=client_context(),
                server_hostname="localhost",
            )
            transport.close()
            while transport._ssl_protocol._transport is not None:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            del transport, protocol
            await asyncio.sleep(0)
            return [reference() for reference in seen[0]]

    gc.collect()
    gc.disable()
    try:
        assert run(main()) == [None, None, None]
    finally:
        gc.enable()


def alive():
    """How many objects there are of the kinds that a connection has."""
    kinds = (TlsProtocol, SSLTransport, StreamTransport, Tls, ssl.SSLObject, asyncio.StreamReader)
    return Counter(kind.__name__ for kind in map(type, gc.get_objects()) if kind in kinds)


def test_thousand_connections_leave_nothing_behind():
    server_side, client_side = server_context(), client_context()

    async def some(count):
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_side) as server:
            address = server.sockets[0].getsockname()
            for _ in range(count // 10):
                await asyncio.gather(*(ask(address, client_side) for _ in range(10)))
        # The other ends of the last connections end in their own time.
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    async def main():
        await some(50)
        gc.collect()
        objects, files = alive(), open_descriptors()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await some(CONNECTIONS)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        return alive() - objects, open_descriptors() - files, grown / CONNECTIONS

    objects, files, bytes_each = run(main())
    assert objects == Counter()
    # Fewer, if what tests before this one have left is closed meanwhile.
    assert files <= 0
    # What stays is the interpreter's cache of methods, which is bounded and keeps their names.
    assert bytes_each < 150

"""TLS where something fails, spoiled records or little memory: which connections fail, which not.

Each test runs on the standard loop too, which is the measure, unless it says why not.
"""

import asyncio
import ctypes
import re
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

import offloop
from gates import PATIENCE_SECONDS
from tls_by_hand import Filling, Pair, Told
from tls_ends import CERTIFICATE, LIBRARY_IS_SHARED, server_context

SMALL, LARGE = 4, 150_000
SPOILED = r"BAD_RECORD_MAC|RECORD_LAYER_FAILURE"
"""What it is called depends on the version of OpenSSL."""
ACTIONS = ["pause", "abort", "raise", "go on"]


class Acting:
    """A protocol that does something to its connection as soon as it gets data."""

    action: str

    def data_received(self, data):
        super().data_received(data)
        if self.action == "pause":
            self.transport.pause_reading()
        elif self.action == "abort":
            self.transport.abort()
        elif self.action == "raise":
            raise ValueError("on purpose")


class ActingTold(Acting, Told):
    """With `data_received`."""


class ActingFilling(Acting, Filling):
    """With a buffer, which a record of the small size leaves room in."""

    def buffer_updated(self, count):
        self.data_received(bytes(self.buffer[:count]))

    def get_buffer(self, hint):
        # All that can wait.
        self.buffer = bytearray(1 << 19)
        return self.buffer


def acting(kind, action):
    """A protocol's class for one action."""
    return type("Protocol", (kind,), {"action": action})


def spoiled(client, good):
    """The records of some data, with a spoiled record after them."""
    whole, record = client.records(good), bytearray(client.records(b"spoiled"))
    record[-1] ^= 1
    return whole + record


async def good_bye(client):
    """Have the peer say that it has no more data."""
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    await client.send(client.outgoing.read())


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("kind", [ActingTold, ActingFilling])
@pytest.mark.parametrize("action", ACTIONS)
def test_spoiled_record_behind_good_ones_ends_its_own_connection_and_no_other(
    run, kind, action, size
):
    async def main():
        async with Pair() as innocent, Pair(protocol=acting(kind, action)) as attacked:
            transport = attacked.protocol.transport
            # So that all of it is there when the protocol begins to read.
            transport.pause_reading()
            packet = spoiled(attacked.client, b"g" * size)
            await attacked.client.send(packet)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while transport.get_read_buffer_size() < len(packet):
                    await asyncio.sleep(0)
                transport.resume_reading()
                await attacked.protocol.over
            await good_bye(innocent.client)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await innocent.protocol.over
            return attacked.protocol.events, innocent.protocol.events

    attacked, innocent = run(main())
    assert attacked[0] == ("made",)
    assert [(event[0], event[1]) for event in attacked[1:]] == [("lost", ssl.SSLError)]
    assert re.search(SPOILED, attacked[1][2])
    assert innocent == [("made",), ("end",), ("lost", type(None), None)]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_reader_gets_the_error_and_not_the_data_before_it(run, size):
    async def main():
        made = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            writer.transport.pause_reading()
            made.set_result((reader, writer))

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
        client = Pair().client
        await client.connect(server.sockets[0].getsockname())
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await made
            packet = spoiled(client, b"g" * size)
            await client.send(packet)
            while writer.transport.get_read_buffer_size() < len(packet):
                await asyncio.sleep(0)
            writer.transport.resume_reading()
            with pytest.raises(ssl.SSLError) as failed:
                await reader.read(10)
            writer.close()
            with pytest.raises(ssl.SSLError):
                await writer.wait_closed()
        client.socket.close()
        server.close()
        return type(failed.value), bytes(reader._buffer)

    assert run(main()) == (ssl.SSLError, b"")


def test_connection_whose_error_the_program_has_met_itself_ends_all_the_same(run):
    async def main():
        async with Pair() as pair:
            transport = pair.protocol.transport
            transport.pause_reading()
            await pair.client.send(spoiled(pair.client, b""))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not transport.get_read_buffer_size():
                    await asyncio.sleep(0)
                with pytest.raises(ssl.SSLError, match=SPOILED):
                    transport.get_extra_info("ssl_object").read(1)
                transport.resume_reading()
                # For the versions that read again only when something comes.
                await pair.client.send(pair.client.records(b"more"))
                await pair.protocol.over
            return pair.protocol.events[-1][:2], pair.protocol.received()

    assert run(main()) == (("lost", ssl.SSLEOFError), b"")


def leave_an_error():
    """Put an error into the thread's queue, as a careless user of the same library would."""
    maps = Path("/proc/self/maps").read_text()
    library = ctypes.CDLL(re.search(r"/\S*libcrypto\S*", maps)[0])
    library.ERR_new()
    library.ERR_set_error(ctypes.c_int(20), ctypes.c_int(1), None)
    assert library.ERR_peek_error()


def test_error_that_others_have_left_in_the_thread_is_not_taken_for_our_own():
    # The standard loop takes it for one of the connection's.
    async def main():
        async with Pair() as pair:
            with pytest.raises(ssl.SSLWantReadError):
                pair.client.tls.unwrap()
            farewell = pair.client.outgoing.read()
            if LIBRARY_IS_SHARED:
                leave_an_error()
            await pair.client.send(farewell)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await pair.protocol.over
            return pair.protocol.events

    with asyncio.Runner(loop_factory=offloop.new_event_loop) as runner:
        assert runner.run(main()) == [("made",), ("end",), ("lost", type(None), None)]


LITTLE_MEMORY = """
import asyncio, resource, ssl, sys
import offloop

class Protocol(asyncio.Protocol):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, error):
        self.lost.set_result(type(error).__name__)

async def main():
    loop = asyncio.get_running_loop()
    reports = []
    loop.set_exception_handler(lambda _, report: reports.append(report))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    client = ssl.create_default_context(cafile=sys.argv[1])
    server = await loop.create_server(Protocol, "127.0.0.1", 0, ssl=context)
    transport, protocol = await loop.create_connection(
        Protocol, *server.sockets[0].getsockname(), ssl=client, server_hostname="localhost"
    )
    data = bytes(300 << 20)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),) * 2)
    transport.write(data)
    assert await protocol.lost == "MemoryError"
    (report,) = reports
    assert report["message"] == "Fatal error on SSL protocol", report
    assert type(report["exception"]) is MemoryError, report
    server.close()

offloop.run(main())
print("alive")
"""


def test_write_that_memory_is_short_for_ends_the_connection_and_not_the_process():
    # The standard loop has no memory left to report it with.
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, CERTIFICATE],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if LIBRARY_IS_SHARED:
        assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr

"""TLS records on three paths: the standard loop, ours, and ours where it leaves records to Python.

The other side is a client that the test drives by hand, so that each record can be held back, cut
or spoiled. What is asserted is what the program's protocol and the loop's log are told.
"""

import asyncio
import os
import random
import socket
import ssl
from asyncio import sslproto

import pytest

import offloop
from offloop._loop.tls import TlsProtocol
from tls_by_hand import Filling, Pair, Told
from tls_ends import CERTIFICATE, LIBRARY_IS_SHARED, client_context, server_context

TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
SIZES = [1, 1000, 16384, 16385, 100_000, 1_000_000]


@pytest.fixture(params=["asyncio", "offloop", "offloop without OpenSSL"])
def path(request, monkeypatch):
    """Which code handles records; the last is what a loop does with an OpenSSL it cannot use."""
    if request.param == "offloop without OpenSSL":
        standard = sslproto.SSLProtocol._on_handshake_complete
        monkeypatch.setattr(TlsProtocol, "_on_handshake_complete", standard)
    return request.param


@pytest.fixture
def run(path):
    """Run a coroutine to its end on that path."""
    factory = asyncio.SelectorEventLoop if path == "asyncio" else offloop.new_event_loop

    def run_coroutine(main, *, debug=False):
        with asyncio.Runner(loop_factory=factory, debug=debug) as runner:
            return runner.run(main)

    return run_coroutine


def is_native(transport):
    """Whether records are done by the native half."""
    return transport._tls.taken


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
@pytest.mark.parametrize("kind", [Told, Filling])
def test_data_of_every_size_arrives_and_returns(run, path, version, kind):
    async def main():
        async with Pair(server_context(version), kind) as pair:
            if path != "asyncio":
                expected = path == "offloop" and LIBRARY_IS_SHARED
                assert is_native(pair.protocol.transport) == expected
            sent, protocol = bytearray(), pair.protocol
            for size in SIZES:
                data = random.Random(size).randbytes(size)
                sending = asyncio.ensure_future(pair.client.send(pair.client.records(data)))
                sent.extend(data)
                await protocol.until(lambda: protocol.received() == sent)
                await sending
                pair.protocol.transport.write(data)
                assert await pair.client.read(size) == data
            return pair.reports

    assert run(main()) == []


def test_record_that_comes_byte_by_byte_is_delivered_once_it_is_whole(run):
    async def main():
        async with Pair() as pair:
            record = pair.client.records(b"slowly")
            loop = asyncio.get_running_loop()
            for byte in record[:-1]:
                await loop.sock_sendall(pair.client.socket, bytes([byte]))
                await asyncio.sleep(0)
            before = pair.protocol.received()
            await pair.client.send(record[-1:] + pair.client.records(b" but surely"))
            await pair.protocol.until(lambda: len(pair.protocol.received()) == 17)
            return before, pair.protocol.received()

    assert run(main()) == (b"", b"slowly but surely")


@pytest.mark.parametrize(
    "data",
    [b"bytes", bytearray(b"changes"), memoryview(b"view"), memoryview(b"words---").cast("Q")],
    ids=["bytes", "bytearray", "memoryview", "words"],
)
def test_everything_that_is_bytes_can_be_written(run, data):
    async def main():
        async with Pair() as pair:
            pair.protocol.transport.write(data)
            plain = bytes(data)
            if isinstance(data, bytearray):
                data[:] = b"another"
            return await pair.client.read(len(plain)) == plain

    assert run(main())


def test_several_writes_of_a_round_arrive_in_their_order(run):
    async def main():
        async with Pair() as pair:
            transport = pair.protocol.transport
            transport.write(b"1")
            transport.writelines([b"2", bytearray(b"3"), b"4"])
            transport.writelines([b"5" * 10, b"6" * 20_000])
            transport.writelines(iter([b"7", b"8"]))
            transport.writelines([])
            transport.write(b"")
            transport.write(data=b"9")
            expected = b"1234" + b"5" * 10 + b"6" * 20_000 + b"789"
            return await pair.client.read(len(expected)) == expected

    assert run(main())


@pytest.mark.parametrize("data", ["text", 1, None, [1]])
def test_what_is_not_bytes_is_refused_with_the_standard_text(run, data):
    async def main():
        async with Pair() as pair:
            with pytest.raises(TypeError) as refused:
                pair.protocol.transport.write(data)
            return str(refused.value)

    assert run(main()) == f"data: expecting a bytes-like instance, got {type(data).__name__}"


def test_close_sends_what_was_written_and_says_goodbye(run):
    async def main():
        async with Pair() as pair:
            pair.protocol.transport.write(b"last words")
            pair.protocol.transport.close()
            assert pair.protocol.transport.is_closing()
            words = await pair.client.read(10)
            goodbye = await pair.client.repeated(pair.client.tls.read, 10)
            await pair.client.repeated(pair.client.tls.unwrap)
            await pair.protocol.over
            pair.protocol.transport.write(b"too late")
            return words, goodbye, pair.protocol.events[-1], pair.reports

    assert run(main()) == (b"last words", b"", ("lost", type(None), None), [])


def test_goodbye_of_the_peer_comes_after_its_data_and_ends_the_connection(run):
    async def main():
        async with Pair() as pair:
            records = pair.client.records(b"data")
            with pytest.raises(ssl.SSLWantReadError):
                pair.client.tls.unwrap()
            await pair.client.send(records + pair.client.outgoing.read())
            await pair.protocol.over
            return pair.protocol.events, pair.reports

    told = [("made",), ("data", b"data"), ("end",), ("lost", type(None), None)]
    assert run(main()) == (told, [])


@pytest.mark.parametrize("cut", [0, 3, 20])
def test_peer_that_leaves_without_goodbye_is_told_as_by_the_standard_loop(run, cut):
    async def main():
        async with Pair() as pair:
            whole, record = pair.client.records(b"data"), pair.client.records(b"x" * 100)
            await pair.client.send(whole + record[:cut])
            await pair.protocol.until(lambda: pair.protocol.received() == b"data")
            pair.client.socket.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(20):
                await pair.protocol.over
            return pair.protocol.events, [report["message"] for report in pair.reports]

    told, reports = run(main())
    assert told[:2] == [("made",), ("data", b"data")]
    assert told[-1][0] == "lost"
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as standard:
        assert (told, reports) == standard.run(main())


def test_peer_that_never_says_goodbye_is_left_at_the_time_limit(run):
    async def main():
        async with Pair(ssl_shutdown_timeout=0.05) as pair:
            pair.protocol.transport.close()
            await pair.protocol.over
            return pair.protocol.events[-1]

    assert run(main()) == ("lost", TimeoutError, "SSL shutdown timed out")


def test_abort_ends_at_once(run):
    async def main():
        async with Pair() as pair:
            pair.protocol.transport.write(b"never sent")
            pair.protocol.transport.abort()
            assert pair.protocol.transport.is_closing()
            await pair.protocol.over
            return pair.protocol.events

    assert run(main()) == [("made",), ("lost", type(None), None)]


def test_paused_connection_delivers_nothing_until_it_is_resumed(run):
    async def main():
        async with Pair() as pair:
            transport = pair.protocol.transport
            transport.pause_reading()
            assert not transport.is_reading()
            data = os.urandom(16_000_000)
            sending = asyncio.ensure_future(pair.client.send(pair.client.records(data)))
            # More than the connection takes in while it is paused.
            async with asyncio.timeout(20):
                while not transport._ssl_protocol._ssl_reading_paused:
                    await asyncio.sleep(0)
            assert pair.protocol.received() == b""
            assert not sending.done()
            waiting = transport.get_read_buffer_size()
            assert waiting >= transport.get_read_buffer_limits()[1]
            transport.resume_reading()
            await sending
            await pair.protocol.until(lambda: len(pair.protocol.received()) == len(data))
            return pair.protocol.received() == data, transport.get_read_buffer_size()

    assert run(main()) == (True, 0)


def test_what_has_waited_is_delivered_at_once_and_not_inside_close(run):
    class Closing(Told):
        def __init__(self):
            super().__init__()
            self.inside = False

        def data_received(self, data):
            assert not self.inside
            self.add("data", data)
            self.inside = True
            self.transport.close()
            self.inside = False

    async def main():
        async with Pair(protocol=Closing) as pair:
            transport = pair.protocol.transport
            # As much as one read of the socket, and then another one.
            transport.set_read_buffer_limits(high=1 << 20)
            transport.pause_reading()
            records = pair.client.records(bytes(600_000))
            sending = asyncio.ensure_future(pair.client.send(records))
            async with asyncio.timeout(20):
                while transport.get_read_buffer_size() < len(records):
                    await asyncio.sleep(0)
                await sending
                transport.resume_reading()
                await pair.protocol.until(lambda: len(pair.protocol.events) > 1)
            data = [event[1] for event in pair.protocol.events if event[0] == "data"]
            return [len(piece) for piece in data], pair.reports

    assert run(main()) == ([600_000], [])


def test_get_buffer_is_told_how_many_bytes_wait(run):
    class Hinted(Filling):
        def __init__(self):
            super().__init__()
            self.buffer, self.hints = bytearray(100), []

        def get_buffer(self, hint):
            self.hints.append(hint)
            return self.buffer

    async def main():
        async with Pair(server_context(TLS_1_3), Hinted) as pair:
            record = pair.client.records(b"h" * 250)
            before = len(pair.protocol.hints)
            await pair.client.send(record)
            await pair.protocol.until(lambda: len(pair.protocol.received()) == 250)
            return pair.protocol.hints[before : before + 3] == [len(record), 0, 0]

    assert run(main())


def test_writer_is_paused_while_the_peer_does_not_read(run):
    async def main():
        async with Pair() as pair:
            transport = pair.protocol.transport
            written = 0
            while ("pause",) not in pair.protocol.events:
                transport.write(b"w" * 100_000)
                written += 100_000
                await asyncio.sleep(0)
            waiting = transport.get_write_buffer_size()
            assert waiting >= transport.get_write_buffer_limits()[1]
            data = await pair.client.read(written)
            await pair.protocol.until(lambda: ("resume",) in pair.protocol.events)
            return data == b"w" * written, transport.get_write_buffer_size()

    assert run(main()) == (True, 0)


@pytest.mark.parametrize("kind", [ValueError, KeyError])
@pytest.mark.parametrize("protocol", [Told, Filling])
def test_protocol_that_raises_loses_its_connection_and_is_reported(run, kind, protocol):
    class Raising(protocol):
        def data_received(self, data):
            raise kind("on purpose")

        def buffer_updated(self, count):
            raise kind("on purpose")

    async def main():
        async with Pair(protocol=Raising) as pair:
            await pair.client.send(pair.client.records(b"data"))
            await pair.protocol.over
            reports = [(report["message"], type(report["exception"])) for report in pair.reports]
            return pair.protocol.events[-1][1], reports

    assert run(main()) == (kind, [("Fatal error on SSL protocol", kind)])


async def spoil(version, offset, flip):
    """Send a record with one byte changed after a good one; return what the protocol is told."""
    async with Pair(server_context(version)) as pair:
        await pair.client.send(pair.client.records(b"good"))
        await pair.protocol.until(lambda: pair.protocol.received() == b"good")
        record = bytearray(pair.client.records(b"spoiled" * 8))
        record[offset % len(record)] ^= flip
        await pair.client.send(bytes(record))
        pair.client.socket.shutdown(socket.SHUT_WR)
        await pair.protocol.over
        reports = [
            (
                report["message"],
                type(report["exception"]),
                getattr(report["exception"], "reason", 0),
            )
            for report in pair.reports
        ]
        lost = [(event[0], *event[1:2]) for event in pair.protocol.events]
        return lost, [event[1] for event in pair.protocol.events if event[0] == "data"], reports


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
@pytest.mark.parametrize("seed", range(20))
def test_spoiled_record_has_the_outcome_of_the_standard_loop(run, version, seed):
    numbers = random.Random(seed)
    offset = seed if seed < 6 else numbers.randrange(6, 1000)
    flip = 1 << numbers.randrange(8)
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as standard:
        expected = standard.run(spoil(version, offset, flip))
    assert run(spoil(version, offset, flip)) == expected
    assert expected[1] == [b"good"]
    assert expected[0][-1][0] == "lost"


def test_error_of_a_spoiled_record_has_its_reason(run):
    async def main():
        async with Pair(server_context(TLS_1_3)) as pair:
            record = bytearray(pair.client.records(b"x" * 50))
            record[30] ^= 1
            await pair.client.send(bytes(record))
            await pair.protocol.over
            return pair.protocol.events[-1]

    lost, kind, text = run(main())
    assert (lost, kind) == ("lost", ssl.SSLError)
    # What it is called depends on the version of OpenSSL.
    reason = text.split("]")[0].removeprefix("[SSL: ")
    assert reason in ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")


def test_client_proves_itself_after_the_handshake(run):
    server, client = server_context(TLS_1_3), client_context()
    server.verify_mode, server.post_handshake_auth = ssl.CERT_OPTIONAL, True
    server.load_verify_locations(CERTIFICATE)
    client.post_handshake_auth = True
    client.load_cert_chain(CERTIFICATE)

    async def main():
        loop = asyncio.get_running_loop()
        made = []

        def make():
            made.append(Told())
            return made[-1]

        async with await loop.create_server(make, "127.0.0.1", 0, ssl=server) as serving:
            address = serving.sockets[0].getsockname()
            _, far = await loop.create_connection(
                Told, *address, ssl=client, server_hostname="localhost"
            )
            async with asyncio.timeout(20):
                while not (made and made[0].events):
                    await asyncio.sleep(0)
            (near,) = made
            tls = near.transport.get_extra_info("ssl_object")
            before = tls.getpeercert()
            tls.verify_client_post_handshake()
            near.transport.write(b"who are you")
            await far.until(lambda: far.received() == b"who are you")
            far.transport.write(b"me")
            await near.until(lambda: near.received() == b"me")
            after = tls.getpeercert()
            far.transport.close()
            await near.over
            return before, after["subject"]

    before, subject = run(main())
    assert not before
    assert subject

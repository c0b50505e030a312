"""What the program does while the TLS library is at work on a connection of its.

The library calls the program for messages, keys, names and secrets. A connection with such a
callback is left to Python's code, but one may be set later: here one for messages, which is called
for each record. On the standard loop, the same is the measure, unless the test says why not.
"""

import asyncio
import gc
import ssl
import sys
import threading
from asyncio import sslproto

import pytest

import offloop
from compared import compare
from gates import PATIENCE_SECONDS
from tls_by_hand import Filling, Pair, Told
from tls_ends import LIBRARY_IS_SHARED, client_context, server_context

TIMES = 3
ROUNDS_MAX = 10


def collect(transport):
    gc.collect()


def collect_elsewhere(transport):
    thread = threading.Thread(target=gc.collect)
    thread.start()
    thread.join(PATIENCE_SECONDS)


def ask_sizes(transport):
    transport.get_read_buffer_size()
    transport.get_write_buffer_size()


def pause_and_resume(transport):
    if transport.is_reading():
        transport.pause_reading()
        transport.resume_reading()


ACTIONS = [collect, collect_elsewhere, ask_sizes, pause_and_resume]


class Messages:
    """A context's callback for messages, which becomes a real one after the handshake."""

    def __init__(self):
        self.context = server_context()
        self.calls = 0
        self.act = None
        # What is raised in a callback is kept by the interpreter for the next read of its own.
        self.errors = []
        # A connection calls back if there was a callback when it was made.
        self.context._msg_callback = self.nothing = lambda *message: self.stop()

    def stop(self):
        self.context._msg_callback = None

    def begin(self, act):
        self.act = act
        self.context._msg_callback = self.message

    def message(self, *message):
        self.calls += 1
        act, self.act = self.act, None
        if act is not None:
            try:
                act()
            except BaseException as error:
                self.errors.append(error)
                raise


def check_path(transport):
    """The native half has the connection's records, where it can."""
    if hasattr(transport, "_tls"):
        assert transport._tls.taken == LIBRARY_IS_SHARED


@pytest.mark.parametrize("act", ACTIONS, ids=lambda act: act.__name__)
@pytest.mark.parametrize("kind", [Told, Filling])
@pytest.mark.parametrize("size", [100, 100_000])
def test_program_is_called_back_while_records_are_read_and_written(run, capfd, act, kind, size):
    async def main():
        messages, data = Messages(), b"d" * size
        async with Pair(messages.context, kind) as pair:
            transport, protocol = pair.protocol.transport, pair.protocol
            check_path(transport)
            for turn in range(1, TIMES + 1):
                messages.begin(lambda: act(transport))
                sending = asyncio.ensure_future(pair.client.send(pair.client.records(data)))
                await protocol.until(lambda turn=turn: len(protocol.received()) == turn * size)
                await sending
                assert messages.act is None
                messages.begin(lambda: act(transport))
                transport.write(data)
                assert messages.act is None
                assert await pair.client.read(size) == data
            messages.stop()
            return protocol.received() == data * TIMES, pair.reports, messages.errors

    assert run(main()) == (True, [], [])
    # The collector has no caller to raise to.
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("reads", [True, False])
def test_connection_that_is_aborted_while_the_library_is_at_work_is_over(run, reads):
    async def main():
        messages = Messages()
        async with Pair(messages.context) as pair:
            transport, protocol = pair.protocol.transport, pair.protocol
            check_path(transport)
            messages.begin(transport.abort)
            if reads:
                await pair.client.send(pair.client.records(b"data"))
            else:
                transport.write(b"data")
            async with asyncio.timeout(PATIENCE_SECONDS):
                await protocol.over
            assert messages.calls
            return protocol.events[-1], pair.reports, messages.errors

    assert run(main()) == (("lost", type(None), None), [], [])


def test_what_is_written_while_the_library_reads_is_sent():
    # Not on the standard loop: newer versions hold a lock there, and wait for themselves.
    async def main():
        messages = Messages()
        async with Pair(messages.context) as pair:
            transport, protocol = pair.protocol.transport, pair.protocol
            messages.begin(lambda: transport.write(b"inside"))
            await pair.client.send(pair.client.records(b"data"))
            await protocol.until(lambda: protocol.received() == b"data")
            return await pair.client.read(6), pair.reports

    with asyncio.Runner(loop_factory=offloop.new_event_loop) as runner:
        assert runner.run(main()) == (b"inside", [])


def arrive_by_hand(pair, records):
    """Received bytes come from a protocol that stands before the TLS protocol."""
    protocol = pair.protocol.transport._ssl_protocol
    protocol.get_buffer(len(records))[: len(records)] = records
    protocol.buffer_updated(len(records))


def arrive_in_rounds(pair, records):
    """Received bytes come from the socket, in rounds that are run within the callback."""
    loop, size = asyncio.get_running_loop(), pair.protocol.transport.get_read_buffer_size()
    assert pair.client.socket.send(records) == len(records)
    for _ in range(ROUNDS_MAX):
        if pair.protocol.transport.get_read_buffer_size() != size:
            break
        # A round waits for nothing while there is something to run.
        loop.call_soon(int)
        loop._run_once()
    else:
        raise AssertionError("nothing is known of what has arrived")
    # The outer round of the standard loop has counted what it will run, and finds as much.
    for _ in range(ROUNDS_MAX):
        loop.call_soon(int)


@pytest.mark.parametrize("arrive", [arrive_by_hand, arrive_in_rounds])
@pytest.mark.parametrize("size", [10, 100_000])
def test_what_arrives_while_the_library_writes_is_read_afterwards(run, arrive, size):
    async def main():
        messages = Messages()
        async with Pair(messages.context) as pair:
            transport, protocol = pair.protocol.transport, pair.protocol
            check_path(transport)

            def write(records):
                # So the standard loop, which reads at once, does not read within a write.
                transport.pause_reading()
                messages.begin(lambda: arrive(pair, records))
                transport.write(b"answer")
                assert messages.act is None
                transport.resume_reading()

            for turn in range(1, TIMES + 1):
                # In no task, or rounds within it could run no other.
                records = pair.client.records(bytes([turn]) * size)
                asyncio.get_running_loop().call_soon(write, records)
                assert await pair.client.read(6) == b"answer"
                await protocol.until(lambda turn=turn: len(protocol.received()) >= turn * size)
            expected = b"".join(bytes([turn]) * size for turn in range(1, TIMES + 1))
            return protocol.received() == expected, pair.reports, messages.errors

    assert run(main()) == (True, [], [])


@pytest.mark.parametrize("kind", [Told, Filling])
def test_what_arrives_while_the_library_reads_is_read_afterwards(run, kind):
    async def main():
        messages = Messages()
        async with Pair(messages.context, kind) as pair:
            transport, protocol = pair.protocol.transport, pair.protocol
            check_path(transport)
            first, later = (pair.client.records(data) for data in (b"first ", b"later"))

            def act():
                transport.pause_reading()
                arrive_by_hand(pair, later)
                transport.resume_reading()

            messages.begin(act)
            await pair.client.send(first)
            await protocol.until(lambda: len(protocol.received()) >= 11)
            return protocol.received(), pair.reports, messages.errors

    assert run(main()) == (b"first later", [], [])


def test_connection_that_is_let_go_of_while_the_library_is_at_work_does_not_come_back():
    # The standard loop has no native half.
    async def main():
        messages = Messages()
        async with Pair(messages.context) as pair:
            tls = pair.protocol.transport._tls
            taken = []
            messages.begin(lambda: (taken.append(tls.taken), tls.detach(), taken.append(tls.taken)))
            await pair.client.send(pair.client.records(b"data"))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while len(taken) < 2:
                    await asyncio.sleep(0)
            return taken, tls.taken, tls.received(), tls.unsent()

    with asyncio.Runner(loop_factory=offloop.new_event_loop) as runner:
        assert runner.run(main()) == ([LIBRARY_IS_SHARED, False], False, 0, 0)


def test_buffer_of_a_reader_stays_where_it_is_while_the_library_fills_it():
    # The standard loop fills it afterwards.
    async def main():
        messages, data = Messages(), b"d" * 100_000
        made = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            writer.transport.pause_reading()
            made.set_result((reader, writer))

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=messages.context)
        client = Pair().client
        await client.connect(server.sockets[0].getsockname())
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await made
            records = client.records(data)
            await client.send(records)
            while writer.transport.get_read_buffer_size() < len(records):
                await asyncio.sleep(0)
            messages.begin(lambda: reader._buffer.extend(bytes(1 << 20)))
            writer.transport.resume_reading()
            try:
                arrived = await reader.readexactly(len(data)) == data
            except BufferError:
                arrived = False
            writer.transport.abort()
        client.socket.close()
        server.close()
        return arrived, [type(error) for error in messages.errors]

    with asyncio.Runner(loop_factory=offloop.new_event_loop) as runner:
        expected = [BufferError] if LIBRARY_IS_SHARED else []
        # What a callback raises ends the connection from Python 3.15 on, as on the standard loop.
        arrives = not expected or sys.version_info < (3, 15)
        assert runner.run(main()) == (arrives, expected)


def test_other_threads_run_while_much_is_encrypted(run):
    async def main():
        async with Pair() as pair:
            ran, gate, data = [], threading.Lock(), bytes(8 << 20)
            gate.acquire()

            def other():
                with gate:
                    ran.append(True)

            thread = threading.Thread(target=other)
            interval = sys.getswitchinterval()
            # From now on a thread runs only while another waits, or lets it.
            sys.setswitchinterval(1000)
            try:
                thread.start()
                gate.release()
                for _ in range(20):
                    if ran:
                        break
                    pair.protocol.transport.write(data)
                in_time = list(ran)
            finally:
                sys.setswitchinterval(interval)
            thread.join(PATIENCE_SECONDS)
            pair.protocol.transport.abort()
            return in_time

    assert run(main()) == [True]


@pytest.mark.parametrize("on", ["class", "object"])
def test_replaced_methods_of_ssl_objects_are_called(monkeypatch, on):
    async def scenario(seen):
        def watch(owner, name):
            real = getattr(owner, name)

            def watched(*arguments):
                if name not in seen:
                    seen.append(name)
                return real(*arguments)

            monkeypatch.setattr(owner, name, watched)

        def watch_object(ssl_object, name, context):
            for method in ("read", "write"):
                watch(ssl_object, method)

        async def serve(reader, writer):
            writer.write(await reader.readline())
            writer.close()

        server_side, client_side = server_context(), client_context()
        if on == "class":
            for method in ("read", "write"):
                watch(ssl.SSLObject, method)
        else:
            server_side.sni_callback = watch_object
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side) as server:
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=client_side, server_hostname="localhost"
            )
            writer.write(b"line\n")
            assert await reader.read() == b"line\n"
            writer.close()
            await writer.wait_closed()
        monkeypatch.undo()
        seen.sort()

    assert compare(scenario) == ["read", "write"]


async def exchange_a_line():
    """A line goes to a server and back, over TLS."""

    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context()) as server:
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
        )
        writer.writelines([b"li", b"ne\n"])
        assert await reader.read() == b"line\n"
        writer.close()
        await writer.wait_closed()


PATCHED = [
    (sslproto.SSLProtocol, "buffer_updated"),
    (sslproto.SSLProtocol, "_do_read"),
    (sslproto.SSLProtocol, "_do_read__copied"),
    (sslproto.SSLProtocol, "_do_write"),
    (sslproto.SSLProtocol, "_get_app_transport"),
    (sslproto.SSLProtocol, "_process_outgoing"),
    (sslproto.SSLProtocol, "_write_appdata"),
    (sslproto.SSLProtocol, "_fatal_error"),
    (sslproto.SSLProtocol, "_on_shutdown_complete"),
    (sslproto._SSLProtocolTransport, "write"),
    (sslproto._SSLProtocolTransport, "writelines"),
    (sslproto._SSLProtocolTransport, "close"),
]


@pytest.mark.parametrize(("owner", "name"), PATCHED)
def test_replaced_methods_of_the_tls_protocol_are_called(monkeypatch, owner, name):
    async def scenario(seen):
        real, calls = getattr(owner, name), []

        def watched(self, *arguments):
            calls.append(self)
            return real(self, *arguments)

        monkeypatch.setattr(owner, name, watched)
        await exchange_a_line()
        monkeypatch.undo()
        # Data came and went, or there was nothing to report.
        seen.append((bool(calls), {issubclass(type(one), owner) for one in calls}))

    compare(scenario)


def test_protocol_that_a_program_puts_in_the_place_of_the_standard_one_is_made(monkeypatch):
    async def scenario(seen):
        class Own(sslproto.SSLProtocol):
            def connection_made(self, transport):
                seen.append("made")
                super().connection_made(transport)

        monkeypatch.setattr(sslproto, "SSLProtocol", Own)
        await exchange_a_line()
        monkeypatch.undo()

    assert compare(scenario) == ["made", "made"]


def test_only_what_was_replaced_makes_the_native_half_step_aside(monkeypatch):
    # The standard loop has no native half.
    async def main():
        taken, real = [], sslproto.SSLProtocol._do_read
        for replace in (False, True, False):
            if replace:
                monkeypatch.setattr(sslproto.SSLProtocol, "_do_read", lambda self: real(self))
            async with Pair() as pair:
                taken.append(pair.protocol.transport._tls.taken)
            monkeypatch.undo()
        return taken

    with asyncio.Runner(loop_factory=offloop.new_event_loop) as runner:
        assert runner.run(main()) == [LIBRARY_IS_SHARED, False, LIBRARY_IS_SHARED]

"""What a stream's protocol may do in its callbacks, and what errors there come to.

Each test runs on the standard loop as well, but for those whose comment says what that does
differently.
"""

import asyncio
import contextvars
import socket
import sys
import threading

import pytest

import offloop

BIG = 8 << 20
"""Far more than a socket's buffers hold."""

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Protocol(asyncio.Protocol):
    """Notes which of its methods were called, in which context."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.lost = asyncio.get_running_loop().create_future()

    def note(self, name: str) -> None:
        self.events.append((name, variable.get()))

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.note("data")

    def pause_writing(self):
        pass

    def resume_writing(self):
        self.note("resume")

    def connection_lost(self, exc):
        self.note("lost")
        if not self.lost.done():
            self.lost.set_result(exc)


async def connected(make_protocol=Protocol):
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(make_protocol, sock=ours)
    return transport, protocol, theirs


def reader_of(theirs: socket.socket) -> threading.Thread:
    """A thread that reads to the end, and closes."""

    def read():
        with theirs:
            while theirs.recv(1 << 20):
                pass

    thread = threading.Thread(target=read)
    thread.start()
    return thread


def told() -> list[tuple[str, type]]:
    """What the loop's exception handler is told from now on."""
    errors: list[tuple[str, type]] = []

    def handler(loop, context):
        errors.append((context["message"].partition("(")[0], type(context["exception"])))

    asyncio.get_running_loop().set_exception_handler(handler)
    return errors


def test_callbacks_run_in_the_context_of_their_connection(run):
    async def main():
        variable.set("mine")
        transport, protocol, theirs = await connected()
        variable.set("changed since")
        theirs.sendall(b"x")
        while not protocol.events:
            await asyncio.sleep(0)
        variable.set("mine")
        transport.write(bytes(BIG))
        transport.close()
        variable.set("changed since")
        thread = reader_of(theirs)
        await protocol.lost
        thread.join()
        return protocol.events

    assert run(main()) == [("data", "mine"), ("resume", "mine"), ("lost", "mine")]


def test_error_when_the_connection_is_over_is_reported_and_the_loop_goes_on(run):
    class Failing(Protocol):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise ValueError("in connection_lost")

    async def main():
        errors = told()
        transport, protocol, theirs = await connected(Failing)
        transport.write(bytes(BIG))
        transport.close()
        thread = reader_of(theirs)
        await protocol.lost
        await asyncio.sleep(0)
        thread.join()
        assert transport.get_extra_info("socket").fileno() == -1
        return [error for _, error in errors]

    assert run(main()) == [ValueError]


def test_exit_in_connection_lost_ends_the_run(make_loop):
    class Exiting(Protocol):
        def connection_lost(self, exc):
            raise SystemExit(7)

    async def begin():
        transport, _, theirs = await connected(Exiting)
        transport.write(bytes(BIG))
        transport.close()
        reader_of(theirs)
        await asyncio.get_running_loop().create_future()

    loop = make_loop()
    main = loop.create_task(begin())
    with pytest.raises(SystemExit):
        loop.run_until_complete(main)
    main.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(main)
    loop.close()


def test_abort_in_resume_writing_tells_of_the_loss_once():
    # The standard loop of many versions tells twice (gh-156512).
    class Aborting(Protocol):
        def resume_writing(self):
            super().resume_writing()
            self.transport.abort()

    async def main():
        errors = told()
        transport, protocol, theirs = await connected(Aborting)
        transport.write(bytes(BIG))
        transport.close()
        thread = reader_of(theirs)
        await protocol.lost
        for _ in range(3):
            await asyncio.sleep(0)
        thread.join()
        return [name for name, _ in protocol.events], errors

    assert offloop.run(main()) == (["resume", "lost"], [])


def test_end_that_cannot_be_sent_is_reported(run):
    class Closing(Protocol):
        def resume_writing(self):
            self.transport._sock.close()

    async def main():
        errors = told()
        transport, protocol, theirs = await connected(Closing)
        transport.write(bytes(BIG))
        transport.write_eof()
        thread = reader_of(theirs)
        while not errors:
            await asyncio.sleep(0)
        transport.abort()
        await protocol.lost
        thread.join()
        return [error for _, error in errors]

    assert run(main()) == [OSError]


def test_writing_does_not_resume_writing(run):
    async def main():
        transport, protocol, theirs = await connected()
        transport.set_write_buffer_limits(high=0)
        transport.write(b"small")
        transport.write(bytes(100_000))
        assert protocol.events == []
        transport.close()
        thread = reader_of(theirs)
        await protocol.lost
        thread.join()

    run(main())


def test_method_replaced_on_a_protocol_is_called_from_then_on(run):
    async def main():
        class Buffered(asyncio.BufferedProtocol):
            def get_buffer(self, sizehint):
                return buffer

            def buffer_updated(self, nbytes):
                got.append("first")

        got: list[str] = []
        buffer = bytearray(10)
        for protocol, name in ((Protocol(), "data_received"), (Buffered(), "buffer_updated")):
            transport, _, theirs = await connected(lambda protocol=protocol: protocol)
            setattr(protocol, name, lambda _: got.append("second"))
            count = len(got)
            theirs.sendall(b"x")
            while len(got) == count:
                await asyncio.sleep(0)
            transport.abort()
            theirs.close()
        return got

    assert run(main()) == ["second", "second"]


@pytest.mark.parametrize("buffer", [b"", b"read only", None])
def test_buffer_that_cannot_be_filled_closes_the_connection(buffer):
    class Buffered(Protocol, asyncio.BufferedProtocol):
        def get_buffer(self, sizehint):
            return buffer

    async def main():
        texts = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: texts.append(context["message"]))
        _, protocol, theirs = await connected(Buffered)
        theirs.sendall(b"x")
        error = await protocol.lost
        theirs.close()
        return texts, repr(error)

    outcomes = []
    for factory in (asyncio.SelectorEventLoop, offloop.EventLoop):
        with asyncio.Runner(loop_factory=factory) as runner:
            outcomes.append(runner.run(main()))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("data", ["text", 2.5, 3, [1]])
def test_wrong_data_is_the_standard_error(data):
    async def main():
        transport, _, theirs = await connected()
        texts = []
        for method, argument in (("write", data), ("writelines", [b"good", data])):
            with pytest.raises(TypeError) as caught:
                getattr(transport, method)(argument)
            texts.append(str(caught.value))
        held.append(transport.get_write_buffer_size())
        transport.abort()
        theirs.close()
        return texts

    texts, held = [], []
    for factory in (asyncio.SelectorEventLoop, offloop.EventLoop):
        with asyncio.Runner(loop_factory=factory) as runner:
            texts.append(runner.run(main()))
    if sys.version_info < (3, 12):
        # There the standard loop joins the lines, and tells what that says.
        del texts[0][1], texts[1][1]
    assert texts[0] == texts[1]
    # From Python 3.15 on the standard loop keeps the good line, and sends it with the next write.
    assert held == [held[0] if sys.version_info >= (3, 15) else 0, 0]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_small_writes_are_not_held_back_on_sockets_made_elsewhere(family):
    # asyncio looks at the protocol, which is 0 for most sockets that programs make.
    async def main():
        loop = asyncio.get_running_loop()
        listening = socket.socket(family, socket.SOCK_STREAM, 0)
        listening.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        accepted = loop.create_future()

        class Accepted(asyncio.Protocol):
            def connection_made(self, transport):
                accepted.set_result(transport)

        server = await loop.create_server(Accepted, sock=listening)
        client = socket.socket(family, socket.SOCK_STREAM, 0)
        client.setblocking(False)
        await loop.sock_connect(client, listening.getsockname())
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=client)
        options = []
        for end in (transport, await accepted):
            sock = end.get_extra_info("socket")
            options.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            end.abort()
        server.close()
        await server.wait_closed()
        return options

    assert offloop.run(main()) == [1, 1]

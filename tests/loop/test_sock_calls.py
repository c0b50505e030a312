"""``sock_recv``, ``sock_recv_into`` and ``sock_sendall``: calls on the program's own sockets.

Each test runs on the standard loop as well, but for those whose comment says what that does
differently. The other end is a plain socket.
"""

import asyncio
import contextlib
import functools
import socket
import ssl
import subprocess
import sys
import threading

import pytest

import offloop

BIG = 4 << 20
"""Far more than a socket's buffers hold."""


PATCHED = """
import asyncio, socket, sys
import offloop

def patched(*arguments, **keywords):
    return real(*arguments, **keywords)

async def main():
    loop = asyncio.get_running_loop()
    ours.setblocking(False)
    await loop.sock_sendall(ours, b"there")
    theirs.send(b"back")
    return theirs.recv(5) + await loop.sock_recv(ours, 4)

ours, theirs = socket.socketpair()
kind = asyncio.SelectorEventLoop if sys.argv[1] == "asyncio" else offloop.EventLoop
with asyncio.Runner(loop_factory=kind) as runner:
    runner.get_loop()
    real, socket.socket = socket.socket, patched
    print(runner.run(main()))
    socket.socket = real
    print(runner.run(main()))
"""
"""The name of the class is patched when the loop meets the first socket of the process."""


@contextlib.contextmanager
def pair(kind: int = socket.SOCK_STREAM):
    """A socket for the loop, and a plain one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.setblocking(False)
    theirs.settimeout(20)
    with ours, theirs:
        yield ours, theirs


async def soon(coroutine) -> asyncio.Task:
    """A task that has begun to wait."""
    task = asyncio.ensure_future(coroutine)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def cancelled(task: asyncio.Task) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(3):
        await asyncio.sleep(0)


@functools.cache
def pattern(size: int) -> bytes:
    """Bytes in which any piece that is missing or doubled shows."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4))


@pytest.mark.parametrize("size", [1, 1 << 18, 1 << 22])
def test_what_is_there_or_comes_later_is_received(run, size):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            theirs.sendall(b"there")
            assert await loop.sock_recv(ours, 5) == b"there"
            receiving = await soon(loop.sock_recv(ours, size))
            theirs.sendall(b"late")
            got = await receiving
            while len(got) < 4:
                got += await loop.sock_recv(ours, size)
            assert got == b"late"
            theirs.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(ours, size) == b""

    run(main())


def test_much_is_received_in_order_in_any_size(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):

            def send():
                theirs.sendall(pattern(BIG))
                theirs.close()

            sending = threading.Thread(target=send)
            sending.start()
            got = bytearray()
            sizes = [1, 1000, 1 << 16, 1 << 18, 1 << 20]
            while part := await loop.sock_recv(ours, sizes[len(got) % len(sizes)]):
                got += part
            sending.join()
            return bytes(got)

    assert run(main()) == pattern(BIG)


def test_received_into_a_buffer(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            buffer = bytearray(10)
            receiving = await soon(loop.sock_recv_into(ours, memoryview(buffer)[2:6]))
            theirs.sendall(b"123456")
            assert await receiving == 4
            assert await loop.sock_recv_into(ours, buffer) == 2
            assert buffer == b"561234\0\0\0\0"
            assert await loop.sock_recv_into(ours, bytearray()) == 0
            with pytest.raises(TypeError, match="read-write bytes-like object"):
                await loop.sock_recv_into(ours, b"fixed")

    run(main())


def test_buffer_that_shrinks_while_it_waits_takes_what_fits(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            counts = []
            for size in (3, 0):
                buffer = bytearray(10)
                receiving = await soon(loop.sock_recv_into(ours, buffer))
                del buffer[size:]
                theirs.sendall(b"abcdef")
                counts.append(await receiving)
                await loop.sock_recv(ours, 10)
            return counts

    assert run(main()) == [3, 0]


@pytest.mark.parametrize("wrong", [-1, "text", None, 1.5])
def test_wrong_size_is_the_standard_error(wrong):
    async def error():
        with pair() as (ours, _):
            with pytest.raises((ValueError, TypeError)) as caught:
                await asyncio.get_running_loop().sock_recv(ours, wrong)
            return repr(caught.value)

    texts = []
    for factory in (asyncio.SelectorEventLoop, offloop.EventLoop):
        with asyncio.Runner(loop_factory=factory) as runner:
            texts.append(runner.run(error()))
    assert texts[0] == texts[1]


def test_nothing_at_all_is_received_at_once(run):
    async def main():
        with pair() as (ours, theirs):
            theirs.sendall(b"x")
            return await asyncio.get_running_loop().sock_recv(ours, 0)

    assert run(main()) == b""


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [0, 10, BIG])
def test_all_is_sent(run, kind, size):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            got = bytearray()

            def read():
                while part := theirs.recv(1 << 20):
                    got.extend(part)

            reading = threading.Thread(target=read)
            reading.start()
            assert await loop.sock_sendall(ours, kind(pattern(size))) is None
            ours.shutdown(socket.SHUT_WR)
            await loop.run_in_executor(None, reading.join)
            return bytes(got)

    assert run(main()) == pattern(size)


def test_view_of_wide_items_is_sent_by_bytes():
    # The standard loop compares bytes with items, and waits for ever.
    async def main():
        with pair() as (ours, theirs):
            data = memoryview(pattern(BIG)).cast("I")
            sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(ours, data))
            got = bytearray()
            while len(got) < BIG:
                got += await asyncio.get_running_loop().run_in_executor(None, theirs.recv, 1 << 20)
            await sending
            return bytes(got)

    assert offloop.run(main()) == pattern(BIG)


def test_data_that_is_being_sent_cannot_change_its_size(run):
    async def main():
        with pair() as (ours, theirs):
            data = bytearray(pattern(BIG))
            sending = await soon(asyncio.get_running_loop().sock_sendall(ours, data))
            with pytest.raises(BufferError):
                data.clear()
            await cancelled(sending)
            del sending
            data.clear()
            theirs.close()

    run(main())


def test_cancelled_receive_takes_nothing(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            for receive in (loop.sock_recv(ours, 10), loop.sock_recv_into(ours, bytearray(10))):
                receiving = await soon(receive)
                await cancelled(receiving)
                assert not loop.remove_reader(ours)
            # Cancelled between the event and its callback.
            receiving = await soon(loop.sock_recv(ours, 10))
            theirs.sendall(b"kept")
            await cancelled(receiving)
            return await loop.sock_recv(ours, 10)

    assert run(main()) == b"kept"


def test_cancelled_send_sends_no_more(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            sending = await soon(loop.sock_sendall(ours, pattern(BIG)))
            await cancelled(sending)
            assert not loop.remove_writer(ours)
            theirs.setblocking(False)
            got = bytearray()
            with contextlib.suppress(BlockingIOError):
                while True:
                    got += theirs.recv(1 << 20)
            assert pattern(BIG).startswith(got)
            assert 0 < len(got) < BIG
            await loop.sock_sendall(ours, b"next")
            return theirs.recv(10)

    assert run(main()) == b"next"


def test_timeout_leaves_the_socket_usable(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(loop.sock_recv(ours, 10), 0.001)
            theirs.sendall(b"late")
            return await asyncio.wait_for(loop.sock_recv(ours, 10), 20)

    assert run(main()) == b"late"


def test_both_directions_wait_at_once(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            sending = await soon(loop.sock_sendall(ours, pattern(BIG)))
            receiving = await soon(loop.sock_recv(ours, 10))
            theirs.sendall(b"answer")
            assert await receiving == b"answer"
            assert not sending.done()
            receiving = await soon(loop.sock_recv(ours, 10))
            got = bytearray()
            while len(got) < BIG:
                got += await loop.run_in_executor(None, theirs.recv, 1 << 20)
            await sending
            assert not receiving.done()
            theirs.sendall(b"second")
            assert await receiving == b"second"
            return bytes(got)

    assert run(main()) == pattern(BIG)


def test_socket_closed_while_it_is_waited_for_may_be_given_up(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, _):
            receiving = await soon(loop.sock_recv(ours, 10))
            number = ours.fileno()
            ours.close()
            with pair() as (new, theirs):
                # Mostly one of the new ones has the number of the old.
                assert number in (new.fileno(), theirs.fileno())
                await cancelled(receiving)
                theirs.sendall(b"new")
                return await loop.sock_recv(new, 10)

    assert run(main()) == b"new"


def test_errors_are_the_sockets_own(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            theirs.close()
            with pytest.raises(BrokenPipeError):
                await loop.sock_sendall(ours, b"x")
        listening = socket.create_server(("127.0.0.1", 0))
        with listening, socket.create_connection(listening.getsockname()) as ours:
            ours.setblocking(False)
            theirs, _ = listening.accept()
            receiving = await soon(loop.sock_recv(ours, 10))
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            theirs.close()
            with pytest.raises(ConnectionResetError, match="Connection reset by peer"):
                await receiving
        for call in (
            loop.sock_recv(ours, 10),
            loop.sock_recv_into(ours, bytearray(10)),
            loop.sock_sendall(ours, b"x"),
        ):
            with pytest.raises(OSError, match="Bad file descriptor"):
                await call

    run(main())


def test_debug_mode_refuses_sockets_that_block(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            for timeout in (None, 1.0):
                ours.settimeout(timeout)
                for call in (
                    loop.sock_recv(ours, 10),
                    loop.sock_recv_into(ours, bytearray(10)),
                    loop.sock_sendall(ours, b"x"),
                ):
                    with pytest.raises(ValueError, match="the socket must be non-blocking"):
                        await call
            ours.setblocking(False)
            await loop.sock_sendall(ours, b"works")
            return theirs.recv(10)

    assert run(main(), debug=True) == b"works"


@pytest.mark.parametrize("timeout", [None, 20.0])
def test_socket_that_blocks_is_waited_for_by_its_own_methods(run, timeout):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            ours.settimeout(timeout)
            sending = threading.Timer(0.01, theirs.sendall, (b"late",))
            sending.start()
            got = await loop.sock_recv(ours, 10)
            sending.join()
            ours.settimeout(0.01)
            with pytest.raises(TimeoutError, match="timed out"):
                await loop.sock_recv(ours, 10)
            return got

    assert run(main()) == b"late"


def test_descriptor_of_a_transport_and_tls_sockets_are_refused(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, _):
            copy = socket.socket(fileno=ours.fileno())
            copy.setblocking(False)
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.sock_recv(copy, 10)
            copy.detach()
            transport.abort()
            await asyncio.sleep(0)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        with socket.socket() as plain:
            plain.setblocking(False)
            with context.wrap_socket(plain, do_handshake_on_connect=False) as wrapped:
                for call in (
                    loop.sock_recv(wrapped, 10),
                    loop.sock_recv_into(wrapped, bytearray(10)),
                    loop.sock_sendall(wrapped, b"x"),
                ):
                    with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                        await call

    run(main())


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
@pytest.mark.parametrize("most", [1 << 16, 1 << 18, 1 << 20])
def test_messages_keep_their_boundaries(run, kind, most):
    sizes = [10, 60_000, 1, 60_000, 60_000, 3]

    async def main():
        loop = asyncio.get_running_loop()
        with pair(kind) as (ours, theirs):
            got = []
            for size in sizes:
                theirs.send(pattern(1 << 16)[:size])
                got.append(await loop.sock_recv(ours, most))
            theirs.send(b"cut off")
            theirs.send(b"whole")
            assert await loop.sock_recv(ours, 3) == b"cut"
            assert await loop.sock_recv(ours, 10) == b"whole"
            return got

    assert run(main()) == [pattern(1 << 16)[:size] for size in sizes]


def test_message_longer_than_one_read_is_whole(run):
    size = 300_000

    async def main():
        with pair(socket.SOCK_DGRAM) as (ours, theirs):
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * size)
            theirs.send(pattern(size))
            return await asyncio.get_running_loop().sock_recv(ours, 1 << 20)

    assert run(main()) == pattern(size)


def test_sockets_of_a_class_of_ones_own_are_called_through_it(run):
    class Noting(socket.socket):
        calls = 0

        def recv(self, *args):
            self.calls += 1
            return super().recv(*args)

    async def main():
        with pair() as (ours, theirs):
            noting = Noting(fileno=ours.detach())
            with noting:
                receiving = await soon(asyncio.get_running_loop().sock_recv(noting, 10))
                theirs.sendall(b"seen")
                return await receiving, noting.calls

    assert run(main()) == (b"seen", 2)


def test_descriptor_may_be_watched_between_calls(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            for number in range(3):
                receiving = await soon(loop.sock_recv(ours, 10))
                theirs.sendall(b"call")
                assert await receiving == b"call", number
                readable = loop.create_future()
                loop.add_reader(ours, readable.set_result, None)
                theirs.sendall(b"watched")
                await readable
                assert loop.remove_reader(ours)
                assert await loop.sock_recv(ours, 10) == b"watched"

    run(main())


@pytest.mark.parametrize("kind", ["asyncio", "offloop"])
def test_the_name_of_the_class_may_be_patched_with_a_function(kind):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", PATCHED, kind],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.stdout.split() == ["b'thereback'"] * 2, done.stderr

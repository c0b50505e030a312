"""Descriptors: wrong ones, exhausted ones, those closed behind the loop's back, and leaks."""

import asyncio
import errno
import gc
import socket
import struct
import warnings
import weakref

import pytest

import offloop
from gates import open_descriptors, run_program

CONNECTIONS = 10_000
AT_ONCE = 100


def reset(sock: socket.socket) -> None:
    """Close a TCP socket so that its peer sees a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection on the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    return ours, theirs


class Quiet(asyncio.Protocol):
    """Tells when its connection is lost."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc):
        self.lost.set_result(exc)


@pytest.mark.parametrize("wrong", [-1, -7, "text", 1.5, None, object()])
def test_what_is_no_descriptor_is_refused(loop, wrong):
    for call in (loop.add_reader, loop.add_writer):
        with pytest.raises((ValueError, TypeError)):
            call(wrong, print)
    for call in (loop.remove_reader, loop.remove_writer):
        with pytest.raises((ValueError, TypeError)):
            call(wrong)


def test_closed_and_unwatchable_descriptors_end_in_the_systems_error(loop, tmp_path):
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    ours.close()
    theirs.close()
    with pytest.raises(OSError) as caught:
        loop.add_reader(number, print)
    assert caught.value.errno == errno.EBADF
    with open(tmp_path / "file", "wb") as file, pytest.raises(PermissionError):
        loop.add_writer(file, print)
    with pytest.raises(ValueError, match="Invalid file "):
        loop.add_reader(ours, print)
    assert not loop.remove_reader(number)
    loop.run_until_complete(asyncio.sleep(0))


def test_new_descriptor_of_the_same_number_is_watched_in_place_of_the_closed_one(our_loop):
    # The standard loop takes the new one for the old one, which the kernel has forgotten.
    seen = []
    first, peer = socket.socketpair()
    number = first.fileno()
    our_loop.add_reader(number, seen.append, "first")
    first.close()
    second, other = socket.socketpair()
    assert second.fileno() == number
    our_loop.add_reader(number, lambda: (seen.append("second"), our_loop.stop()))
    other.send(b"x")
    our_loop.run_forever()
    assert seen == ["second"]
    assert our_loop.remove_reader(number)
    for each in (peer, second, other):
        each.close()


def test_reader_and_writer_of_one_descriptor_are_told_apart(loop):
    ours, theirs = socket.socketpair()
    seen = []
    loop.add_writer(ours, lambda: (seen.append("writer"), loop.remove_writer(ours)))
    loop.add_reader(ours, lambda: (seen.append(ours.recv(9)), loop.stop()))
    loop.call_later(0.001, theirs.send, b"x")
    loop.run_forever()
    assert seen == ["writer", b"x"]
    assert (loop.remove_writer(ours), loop.remove_reader(ours)) == (False, True)
    ours.close()
    theirs.close()


def test_callback_replaced_or_removed_in_the_same_round_does_not_run(loop):
    pairs = [socket.socketpair() for _ in range(2)]
    seen = []

    def read(index):
        seen.append(index)
        for ours, _ in pairs:
            loop.remove_reader(ours)
        loop.call_soon(loop.stop)

    for index, (ours, theirs) in enumerate(pairs):
        loop.add_reader(ours, read, index)
        theirs.send(b"x")
    loop.run_forever()
    assert len(seen) == 1
    for pair in pairs:
        for each in pair:
            each.close()


def test_transport_owns_its_descriptor(run):
    async def main():
        ours, theirs = socket.socketpair()
        transport, protocol = await asyncio.get_running_loop().create_connection(Quiet, sock=ours)
        for call in (asyncio.get_running_loop().add_reader, asyncio.get_running_loop().add_writer):
            with pytest.raises(RuntimeError, match="is used by transport"):
                call(ours, print)
        transport.close()
        await protocol.lost
        theirs.close()

    run(main())


def test_socket_closed_behind_the_loops_back_hurts_only_itself(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.create_connection(Quiet, sock=ours)
        ours.close()
        transport.write(b"into nothing")
        error = await protocol.lost
        # The number may be another socket's by now; that socket must work.
        again, other_end = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=again)
        other_end.sendall(b"works\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        theirs.close()
        other_end.close()
        return type(error), line

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert run(main()) == (OSError, b"works\n")


STAGES = ["at once", "while we read", "while we write", "after eof", "paused"]


@pytest.mark.parametrize("stage", STAGES)
def test_reset_at_every_stage_is_told_once(run, stage):
    async def main():
        loop = asyncio.get_running_loop()
        problems = []
        loop.set_exception_handler(lambda loop, about: problems.append(about))
        ours, theirs = tcp_pair()
        if stage == "at once":
            reset(theirs)
        transport, protocol = await loop.create_connection(Quiet, sock=ours)
        if stage == "while we write":
            while not transport.get_write_buffer_size():
                transport.write(bytes(1 << 20))
                await asyncio.sleep(0)
        elif stage == "after eof":
            transport.write_eof()
        elif stage == "paused":
            transport.pause_reading()
        if stage != "at once":
            reset(theirs)
        if stage == "paused":
            transport.resume_reading()
        error = await protocol.lost
        if stage != "after eof":
            transport.write(b"too late")
        transport.close()
        transport.abort()
        await asyncio.sleep(0)
        return type(error), error.errno, problems

    assert run(main()) == (ConnectionResetError, errno.ECONNRESET, [])


def test_refused_and_cancelled_connections_leave_nothing(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
        before = open_descriptors()
        for _ in range(20):
            with pytest.raises(ConnectionRefusedError):
                await loop.create_connection(Quiet, *address)
            task = loop.create_task(loop.create_connection(Quiet, *address))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        gc.collect()
        return open_descriptors() - before

    assert run(main()) <= 0


EXHAUSTED = """
    import asyncio, asyncio.constants, os, resource, socket
    import offloop

    asyncio.constants.ACCEPT_RETRY_DELAY = 0.02

    async def main():
        loop = asyncio.get_running_loop()
        reports = []
        accepted = asyncio.Event()
        reported = asyncio.Event()

        def on_problem(loop, about):
            reports.append((about["message"], about["exception"].errno))
            reported.set()

        class Server(asyncio.Protocol):
            def connection_made(self, transport):
                transport.close()
                accepted.set()

        loop.set_exception_handler(on_problem)
        server = await loop.create_server(Server, "127.0.0.1", 0)
        client = socket.socket()
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held = []
        while True:
            try:
                held.append(os.dup(0))
            except OSError:
                break
        client.setblocking(False)
        await loop.sock_connect(client, server.sockets[0].getsockname())
        await reported.wait()
        await asyncio.sleep(0.05)
        for fd in held:
            os.close(fd)
        await accepted.wait()
        print(reports[0], accepted.is_set())
        client.close()
        server.close()
        await server.wait_closed()

    offloop.run(main())
    """


def test_server_without_descriptors_tells_backs_off_and_recovers(tmp_path):
    done = run_program(tmp_path, EXHAUSTED)
    assert done.stdout == "('socket.accept() out of system resource', 24) True\n", done.stderr


def test_loop_that_cannot_be_made_says_so(tmp_path):
    done = run_program(
        tmp_path,
        """
        import os, resource, offloop
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        for _ in range(3):
            for spare in range(4):
                try:
                    loop = offloop.EventLoop()
                except OSError as error:
                    print(error.errno)
                else:
                    loop.close()
                    print("made")
        os.close(held.pop())
        """,
    )
    assert set(done.stdout.split()) == {str(errno.EMFILE)}, done.stderr


def test_ten_thousand_connections_leave_no_descriptor_and_no_transport(tmp_path):
    transports = weakref.WeakSet()
    path = str(tmp_path / "socket")

    async def answer(reader, writer):
        transports.add(writer.transport)
        writer.write(await reader.readexactly(4))
        writer.close()
        await writer.wait_closed()

    async def ask():
        reader, writer = await asyncio.open_unix_connection(path)
        transports.add(writer.transport)
        writer.write(b"ping")
        assert await reader.read() == b"ping"
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_unix_server(answer, path)
        async with server:
            await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
            before = open_descriptors()
            for _ in range(CONNECTIONS // AT_ONCE):
                await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
            return before, open_descriptors()

    before, after = offloop.run(main())
    # A connection of the last batch may still be on its way out.
    assert after <= before + AT_ONCE
    gc.collect()
    assert len(transports) == 0


def test_ten_thousand_loops_leave_no_descriptor():
    before = open_descriptors()
    for _ in range(CONNECTIONS):
        offloop.EventLoop().close()
    assert open_descriptors() == before


def test_transport_that_was_not_closed_warns_and_closes_its_socket(make_loop):
    loop = make_loop()

    async def forget(loop):
        ours, theirs = socket.socketpair()
        await loop.create_connection(asyncio.Protocol, sock=ours)
        return theirs

    theirs = loop.run_until_complete(forget(loop))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loop.close()
        del loop
        gc.collect()
    assert any(str(warning.message).startswith("unclosed transport <") for warning in told)
    assert theirs.recv(1) == b""
    theirs.close()


def test_closed_connections_warn_of_nothing_and_vanish_without_the_collector(our_loop):
    # So they do on the standard loop from Python 3.12 on.
    async def main():
        ours, theirs = socket.socketpair()
        transport, protocol = await asyncio.get_running_loop().create_connection(Quiet, sock=ours)
        gone = weakref.ref(transport), weakref.ref(protocol)
        transport.close()
        await protocol.lost
        theirs.close()
        del transport, protocol, ours
        await asyncio.sleep(0)
        return [reference() for reference in gone]

    gc.disable()
    try:
        assert our_loop.run_until_complete(main()) == [None, None]
    finally:
        gc.enable()

"""Calls that no program should make: wrong sockets, closed transports, objects that strike back."""

import asyncio
import functools
import gc
import logging
import socket
import threading
import weakref

import pytest

from compared import Settling, compare, plain


async def outcome(seen, name, awaitable_or_call) -> None:
    """Write down how a call ends."""
    try:
        result = awaitable_or_call()
        if asyncio.iscoroutine(result) or asyncio.isfuture(result):
            result = await result
    except (Exception, asyncio.CancelledError) as error:
        seen.append((name, type(error).__name__, plain(error)))
    else:
        seen.append((name, plain(result)))


SOCKET_CALLS = {
    "recv": lambda loop, sock: loop.sock_recv(sock, 10),
    "recv nothing": lambda loop, sock: loop.sock_recv(sock, 0),
    "recv less than nothing": lambda loop, sock: loop.sock_recv(sock, -1),
    "recv a text": lambda loop, sock: loop.sock_recv(sock, "10"),
    "recv more than there is memory": lambda loop, sock: loop.sock_recv(sock, 1 << 70),
    "recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(9)),
    "recv_into what is constant": lambda loop, sock: loop.sock_recv_into(sock, b"constant"),
    "recv_into nothing": lambda loop, sock: loop.sock_recv_into(sock, bytearray()),
    "recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 10),
    "sendall": lambda loop, sock: loop.sock_sendall(sock, b"data"),
    "sendall nothing": lambda loop, sock: loop.sock_sendall(sock, b""),
    "sendall a text": lambda loop, sock: loop.sock_sendall(sock, "text"),
    "sendall None": lambda loop, sock: loop.sock_sendall(sock, None),
    "sendto": lambda loop, sock: loop.sock_sendto(sock, b"data", ("127.0.0.1", 9)),
    "connect": lambda loop, sock: loop.sock_connect(sock, "/nowhere/at/all"),
    "accept": lambda loop, sock: loop.sock_accept(sock),
}


def closed_socket():
    """A socket that was closed."""
    ours, theirs = socket.socketpair()
    ours.close()
    theirs.close()
    return ours


def ended_socket():
    """A socket whose other end is gone."""
    ours, theirs = socket.socketpair()
    theirs.close()
    ours.setblocking(False)
    return ours


def detached_socket():
    """A socket whose descriptor was taken away, and closed."""
    ours = ended_socket()
    socket.close(ours.detach())
    return ours


SOCKETS = {
    "closed": closed_socket,
    "ended": ended_socket,
    "detached": detached_socket,
    "nothing": lambda: None,
    "a number": lambda: 7,
    "a text": lambda: "socket",
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("kind", SOCKETS)
def test_wrong_socket_ends_in_the_standard_error(kind, debug):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        loop.set_debug(debug)
        loop.slow_callback_duration = 60.0
        for name, call in SOCKET_CALLS.items():
            sock = SOCKETS[kind]()
            if name in ("recv less than nothing", "recvfrom") and kind == "ended":
                # Waits for nothing that comes, or for what the platform says.
                continue
            await outcome(seen, name, lambda call=call, sock=sock: call(loop, sock))
            if isinstance(sock, socket.socket):
                sock.close()

    assert len(compare(scenario)) >= len(SOCKET_CALLS) - 2


def test_blocking_socket_is_refused_in_debug_mode():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 60.0
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for name, call in SOCKET_CALLS.items():
                if name != "connect":
                    await outcome(seen, name, lambda call=call: call(loop, ours))

    assert {entry[1:] for entry in compare(scenario)} == {
        ("ValueError", "ValueError('the socket must be non-blocking')")
    }


def test_socket_closed_while_a_call_waits_lets_it_be_cancelled(run):
    async def main():
        loop = asyncio.get_running_loop()
        calls = {
            "recv": lambda sock: loop.sock_recv(sock, 1),
            "recv_into": lambda sock: loop.sock_recv_into(sock, bytearray(1)),
            "sendall": lambda sock: loop.sock_sendall(sock, bytes(1 << 24)),
        }
        ended = {}
        for name, call in calls.items():
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            task = asyncio.create_task(call(ours))
            await asyncio.sleep(0)
            ours.close()
            task.cancel()
            await asyncio.wait([task])
            ended[name] = task.cancelled()
            theirs.close()
            # The number is free for other sockets, which are not disturbed.
            again, other = socket.socketpair()
            again.setblocking(False)
            other.send(b"x")
            assert await loop.sock_recv(again, 1) == b"x"
            again.close()
            other.close()
        return ended

    assert run(main()) == {"recv": True, "recv_into": True, "sendall": True}


TRANSPORT_CALLS = {
    "write": lambda transport: transport.write(b"data"),
    "write a text": lambda transport: transport.write("text"),
    "write nothing": lambda transport: transport.write(b""),
    "write_eof": lambda transport: transport.write_eof(),
    "can_write_eof": lambda transport: transport.can_write_eof(),
    "pause_reading": lambda transport: transport.pause_reading(),
    "resume_reading": lambda transport: transport.resume_reading(),
    "is_reading": lambda transport: transport.is_reading(),
    "limits": lambda transport: transport.set_write_buffer_limits(high=10, low=2),
    "wrong limits": lambda transport: transport.set_write_buffer_limits(high=1, low=2),
    "get limits": lambda transport: transport.get_write_buffer_limits(),
    "buffer size": lambda transport: transport.get_write_buffer_size(),
    "extra": lambda transport: transport.get_extra_info("nothing", "default"),
    "protocol": lambda transport: type(transport.get_protocol()).__name__,
    "close": lambda transport: transport.close(),
    "is_closing": lambda transport: transport.is_closing(),
}


@pytest.mark.parametrize("state", ["closing", "lost", "aborted", "ended by the peer"])
def test_call_on_a_connection_that_is_gone_ends_as_on_the_standard_loop(state):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        for name, call in TRANSPORT_CALLS.items():
            settling = Settling()
            ours, theirs = socket.socketpair()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            if state == "ended by the peer":
                theirs.close()
                await settling.wait()
            elif state == "aborted":
                transport.abort()
            else:
                transport.close()
            if state == "lost":
                await settling.wait()
            await outcome(seen, name, lambda call=call, transport=transport: call(transport))
            await settling.wait()
            theirs.close()
            transport.abort()
            settling.close()

    assert len(compare(scenario)) >= len(TRANSPORT_CALLS) - 1


def test_closed_transport_is_refused_where_another_would_take_it_over(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.close()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            with open(__file__, "rb") as file:
                await loop.sendfile(transport, file)
        with pytest.raises(TypeError, match="sslcontext is expected to be an instance of"):
            await loop.start_tls(transport, protocol, None)
        theirs.close()

    run(main())


def test_cancelled_name_resolution_lets_go_at_once_and_harms_no_closed_loop(
    make_loop, monkeypatch, caplog
):
    entered, leave = threading.Event(), threading.Event()

    def resolve(*arguments, **options):
        entered.set()
        leave.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))]

    async def main():
        loop = asyncio.get_running_loop()
        resolving = loop.create_task(loop.create_connection(asyncio.Protocol, "name.test", 9))
        await loop.run_in_executor(None, entered.wait, 20)
        resolving.cancel()
        await asyncio.wait([resolving])
        return resolving.cancelled()

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    caplog.set_level(logging.INFO)
    loop = make_loop()
    threads = set(threading.enumerate())
    assert loop.run_until_complete(main())
    loop.close()
    leave.set()
    for thread in set(threading.enumerate()) - threads:
        thread.join(20)
    assert caplog.text == ""


class StrikesBack:
    """Calls its loop when it is let go of: the moment at which the loop is about something else."""

    def __init__(self, loop, seen, act):
        self.loop, self.seen, self.act = loop, seen, act

    def __call__(self, *arguments):
        self.seen.append("called")

    def __del__(self):
        try:
            self.act(self.loop)
        except RuntimeError as error:
            self.seen.append(str(error))
        else:
            self.seen.append("gone")


ACTS = {
    "schedule": lambda loop: loop.call_soon(int),
    "schedule a timer": lambda loop: loop.call_later(0, int),
    "look": lambda loop: (list(loop._ready), list(loop._scheduled), repr(loop)),
    "collect": lambda loop: gc.collect(),
    "stop": lambda loop: loop.stop(),
    "watch": lambda loop: loop.remove_reader(0),
    "close": lambda loop: loop.is_running() and loop.close(),
}


@pytest.mark.parametrize("act", ACTS)
def test_objects_that_use_the_loop_as_they_vanish_do_no_harm(make_loop, act):
    seen = []
    loop = make_loop()

    hostile = functools.partial(StrikesBack, loop, seen, ACTS[act])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.call_soon(hostile(), hostile(), hostile(), hostile(), hostile())
        loop.call_soon(hostile()).cancel()
        loop.call_later(60, hostile(), hostile()).cancel()
        loop.add_reader(ours, hostile())
        loop.add_reader(ours, hostile())
        loop.add_writer(ours, hostile(), hostile())
        loop.remove_writer(ours)
        loop.remove_reader(ours)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.call_later(60, hostile())
        loop.call_soon(hostile())
        loop.close()
        gone = weakref.ref(loop)
        del hostile, loop
        gc.collect()
    assert gone() is None
    assert len(seen) >= 13
    assert set(seen) <= {
        "called",
        "gone",
        "Event loop is closed",
        "Cannot close a running event loop",
    }


class StrikingNumber:
    """Uses the loop while it is asked for a number."""

    def __init__(self, loop):
        self.loop = loop

    def fileno(self):
        self.loop.remove_reader(0)
        self.loop.call_soon(int)
        return 1 << 40

    def __float__(self):
        self.loop.call_later(0, int)
        return 0.0

    def __radd__(self, other):
        self.loop.call_later(0, int)
        return other


def test_numbers_that_use_the_loop_while_they_are_read_do_no_harm(loop):
    number = StrikingNumber(loop)
    ran = []
    loop.call_later(number, ran.append, "timer")
    with pytest.raises((ValueError, OverflowError)):
        loop.add_reader(number, print)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert ran == ["timer"]

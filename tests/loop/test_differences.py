"""Every difference from the standard loop that the guide lists, shown on both loops.

A scenario returns what it sees. The two loops must differ in the way that is written here: where
the standard loop comes to behave as ours, the guide's row is to go.
"""

import asyncio
import contextlib
import copy
import inspect
import re
import signal
import socket
import sys
import warnings
import weakref
from asyncio import sslproto
from pathlib import Path

import pytest

import offloop
from gates import PATIENCE_SECONDS
from tls_ends import client_context, server_context

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"


def pair(kind=socket.SOCK_STREAM):
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.setblocking(False)
    return ours, theirs


def is_ours(loop):
    """Whether what a scenario waits for is to come."""
    return isinstance(loop, offloop.EventLoop)


class Own(asyncio.Protocol):
    """A protocol that keeps nothing."""


async def timers_of_the_same_time():
    loop = asyncio.get_running_loop()
    seen, when = [], loop.time()
    for index in range(50):
        loop.call_at(when, seen.append, index)
    while len(seen) < 50:
        await asyncio.sleep(0)
    return seen == sorted(seen)


async def a_buffer_that_changes_after_write():
    ours, theirs = pair()
    transport, _ = await asyncio.get_running_loop().create_connection(Own, sock=ours)
    data = bytearray(b"x" * (1 << 22))
    transport.write(memoryview(data))
    data[-1:] = b"y"
    theirs.setblocking(False)
    received = bytearray()
    while len(received) < len(data):
        received += await asyncio.get_running_loop().sock_recv(theirs, 1 << 20)
    transport.abort()
    theirs.close()
    return received[-1:] == b"x"


async def writelines_with_a_wrong_item():
    loop = asyncio.get_running_loop()
    ours, theirs = pair()
    theirs.setblocking(False)
    transport, _ = await loop.create_connection(Own, sock=ours)
    with pytest.raises(TypeError):
        transport.writelines([b"good", 7])
    transport.write(b"next")
    received = None
    with contextlib.suppress(BlockingIOError):
        received = theirs.recv(100)
    transport.abort()
    theirs.close()
    return received == b"next"


async def a_reused_descriptor():
    loop = asyncio.get_running_loop()
    ours, theirs = pair()
    number = ours.fileno()
    loop.add_reader(number, print)
    ours.close()
    again, other = pair()
    assert again.fileno() == number
    called = asyncio.Event()
    loop.add_reader(again, called.set)
    other.send(b"x")
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(called.wait(), PATIENCE_SECONDS if is_ours(loop) else 0.1)
    finally:
        loop.remove_reader(again)
        for each in (theirs, again, other):
            each.close()
    return called.is_set()


async def datagrams_of_a_nameless_pair():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    ours, theirs = pair(socket.SOCK_DGRAM)
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=ours)
    transport.sendto(b"x")
    sent = not transport.is_closing()
    transport.abort()
    theirs.close()
    return sent


def times_that_are_none(loop):
    try:
        loop.call_at("text", print)
        loop.call_later(0, loop.stop)
        loop.run_forever()
    except TypeError as error:
        return "must be real number" in str(error)
    return False


async def views_of_wide_items():
    loop = asyncio.get_running_loop()
    ours, theirs = pair()
    theirs.setblocking(False)
    data = memoryview(bytearray(1 << 20)).cast("I")

    async def receive_all():
        count = 0
        while count < data.nbytes:
            count += len(await loop.sock_recv(theirs, 1 << 20))

    both = [asyncio.ensure_future(each) for each in (loop.sock_sendall(ours, data), receive_all())]
    _, waiting = await asyncio.wait(both, timeout=PATIENCE_SECONDS if is_ours(loop) else 0.1)
    for each in waiting:
        each.cancel()
        await asyncio.wait([each])
    ours.close()
    theirs.close()
    return not waiting


async def views_in_pieces():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    ours, theirs = pair()
    transport, _ = await loop.create_connection(Own, sock=ours)
    transport.write(memoryview(b"a.b.")[::2])
    sent = not transport.is_closing()
    assert not sent or theirs.recv(9) == b"ab"
    transport.abort()
    theirs.close()
    return sent


async def limits_that_are_no_integers():
    ours, theirs = pair()
    transport, _ = await asyncio.get_running_loop().create_connection(Own, sock=ours)
    transport.set_write_buffer_limits(high=10.5, low=0)
    limits = transport.get_write_buffer_limits()
    transport.abort()
    theirs.close()
    return limits == (0, 11)


def a_signals_own_handler(loop):
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: (seen.append("signal"), loop.stop()))
    loop.call_later(PATIENCE_SECONDS if is_ours(loop) else 0.1, seen.append, "timer")
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    try:
        loop.run_forever()
    finally:
        signal.signal(signal.SIGALRM, before)
    return seen == ["signal"]


def a_selector_of_your_own(loop):
    return "selector" not in inspect.signature(type(loop)).parameters


async def small_packets():
    loop = asyncio.get_running_loop()
    # Of no protocol, as an inherited socket may be.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as client:
            accepted, _ = listener.accept()
            transport, _ = await loop.connect_accepted_socket(Own, accepted)
            on = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            transport.abort()
            client.close()
    return accepted.proto == 0 and bool(on)


async def names_of_classes():
    loop = asyncio.get_running_loop()
    ours, theirs = pair()
    transport, _ = await loop.create_connection(Own, sock=ours)
    handle = loop.call_soon(print)
    handle.cancel()
    standard = asyncio.selector_events._SelectorSocketTransport
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert isinstance(transport, standard)
    assert isinstance(handle, asyncio.Handle)
    names = [type(each).__name__ for each in (loop, transport)]
    transport.abort()
    theirs.close()
    return names == ["EventLoop", "StreamTransport"] and not issubclass(
        type(handle), asyncio.Handle
    )


async def a_handle_that_has_run():
    held = Own()
    gone = weakref.ref(held)
    handle = asyncio.get_running_loop().call_soon(str, held)
    other = type(asyncio.get_running_loop())()
    waiting = Own()
    gone_too = weakref.ref(waiting)
    timer = other.call_later(9, str, waiting)
    other.close()
    del held, waiting
    await asyncio.sleep(0)
    free = gone() is None and gone_too() is None
    assert not timer.cancelled()
    try:
        handle._callback = str
    except AttributeError:
        return free
    return False


def a_replaced_handle_run(loop):
    called = []
    real = asyncio.events.Handle._run

    def run(handle):
        called.append(handle)
        return real(handle)

    asyncio.events.Handle._run = run
    try:
        with warnings.catch_warnings():
            # Which is given once in a process.
            warnings.simplefilter("ignore", offloop.BypassedWarning)
            loop.call_soon(loop.stop)
            loop.run_forever()
    finally:
        asyncio.events.Handle._run = real
    return called == []


async def the_buffer_of_a_stream():
    ours, theirs = pair()
    transport, _ = await asyncio.get_running_loop().create_connection(Own, sock=ours)
    assert not transport._buffer
    transport.write(bytes(1 << 22))
    assert len(transport._buffer) > 0
    assert transport._buffer
    try:
        iter(transport._buffer)
    except TypeError:
        return True
    finally:
        transport.abort()
        theirs.close()
    return False


async def internal_callbacks_of_a_stream():
    ours, theirs = pair()
    transport, _ = await asyncio.get_running_loop().create_connection(Own, sock=ours)
    callback = transport._read_ready_cb
    transport.abort()
    theirs.close()
    return callback is None


async def a_method_of_a_connections_ssl_object():
    loop = asyncio.get_running_loop()
    called = []
    ours, theirs = pair()
    theirs.setblocking(False)
    sides = await asyncio.gather(
        loop.connect_accepted_socket(Own, theirs, ssl=server_context()),
        loop.create_connection(Own, sock=ours, ssl=client_context(), server_hostname="localhost"),
    )
    transport = sides[1][0]
    ssl_object = transport.get_extra_info("ssl_object")
    write = ssl_object.write
    ssl_object.write = lambda data: called.append(data) or write(data)
    transport.write(b"x")
    for side, _ in sides:
        side.abort()
    return not called


async def a_method_of_asyncio_sslproto():
    loop = asyncio.get_running_loop()
    called = []
    ours, theirs = pair()
    theirs.setblocking(False)
    sides = await asyncio.gather(
        loop.connect_accepted_socket(Own, theirs, ssl=server_context()),
        loop.create_connection(Own, sock=ours, ssl=client_context(), server_hostname="localhost"),
    )
    real = sslproto.SSLProtocol._write_appdata

    def write(protocol, data):
        called.append(data)
        real(protocol, data)

    sslproto.SSLProtocol._write_appdata = write
    try:
        sides[1][0].write(b"x")
    finally:
        sslproto.SSLProtocol._write_appdata = real
    for side, _ in sides:
        side.abort()
    return not called


async def tables_of_transports():
    loop = asyncio.get_running_loop()
    ours, theirs = pair()
    number = ours.fileno()
    transport, _ = await loop.create_connection(Own, sock=ours)
    assert loop._transports[number] is transport
    assert list(loop._transports.items()) == [(number, transport)]
    transport.abort()
    await asyncio.sleep(0)
    theirs.close()
    return not isinstance(loop._transports, weakref.WeakValueDictionary)


def methods_of_the_loop(loop):
    return not inspect.ismethod(loop.call_soon) and not hasattr(loop.call_soon, "__func__")


def a_copy_of_a_handle(loop):
    try:
        copy.copy(loop.call_soon(print))
    except TypeError:
        return True
    return False


def replaced_private_methods(loop):
    called = []
    real = asyncio.BaseEventLoop._check_closed

    def check_closed(loop):
        called.append(loop)
        return real(loop)

    asyncio.BaseEventLoop._check_closed = check_closed
    try:
        loop.call_soon(print).cancel()
    finally:
        asyncio.BaseEventLoop._check_closed = real
    return called == []


def overridden_add_reader_and_its_kin(loop):
    asked = []

    class Loop(type(loop)):
        def _add_reader(self, fd, callback, *args):
            asked.append(fd)
            return super()._add_reader(fd, callback, *args)

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        asked.clear()
        loop.add_reader(ours, print)
        assert asked.pop() is ours
        loop.remove_reader(ours)
        receiving = asyncio.ensure_future(loop.sock_recv(ours, 9))
        await asyncio.sleep(0)
        theirs.send(b"x")
        await receiving
        transport, _ = await loop.create_connection(Own, sock=ours)
        transport.abort()
        theirs.close()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())
    return not asked


DIFFERENCES = {
    "timers of the same time": timers_of_the_same_time,
    "a buffer that changes after `write`": a_buffer_that_changes_after_write,
    "`writelines` with a wrong item": writelines_with_a_wrong_item,
    "a reused descriptor": a_reused_descriptor,
    "datagrams of a nameless pair": datagrams_of_a_nameless_pair,
    "times that are none": times_that_are_none,
    "views of wide items": views_of_wide_items,
    "views in pieces": views_in_pieces,
    "limits that are no integers": limits_that_are_no_integers,
    "a signal's own handler": a_signals_own_handler,
    "a selector of your own": a_selector_of_your_own,
    "small packets": small_packets,
    "names of classes": names_of_classes,
    "a handle that has run": a_handle_that_has_run,
    "a replaced `Handle._run`": a_replaced_handle_run,
    "methods of the loop": methods_of_the_loop,
    "a copy of a handle": a_copy_of_a_handle,
    "replaced private methods": replaced_private_methods,
    "the buffer of a stream": the_buffer_of_a_stream,
    "internal callbacks of a stream": internal_callbacks_of_a_stream,
    "a method of a connection's `ssl_object`": a_method_of_a_connections_ssl_object,
    "a method of `asyncio.sslproto`": a_method_of_asyncio_sslproto,
    "tables of transports": tables_of_transports,
    "overridden `_add_reader` and its kin": overridden_add_reader_and_its_kin,
}


SINCE = {
    "a buffer that changes after `write`": (3, 12),
    "`writelines` with a wrong item": (3, 15),
}
"""Before that version the standard loop does as ours."""


def test_guide_lists_what_is_tested_here():
    section = GUIDE.read_text().split("### Differences from the standard loop", 1)[1]
    section = section.split("\n### ", 1)[0]
    rows = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
    assert [row for row in rows if row != "what"] == list(DIFFERENCES)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_difference_is_as_the_guide_says(make_loop, name):
    show = DIFFERENCES[name]
    loop = make_loop()
    try:
        is_coroutine = inspect.iscoroutinefunction(show)
        result = loop.run_until_complete(show()) if is_coroutine else show(loop)
    finally:
        loop.close()
    assert result is (is_ours(loop) or sys.version_info < SINCE.get(name, (3, 11)))

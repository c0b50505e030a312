"""Methods that a program replaces in the standard library's classes of loops are called, on both.

Bots replace ``asyncio.BaseEventLoop.call_soon`` to hear nothing of a closed loop, tracers wrap
``create_task``, profilers ``_run_once``.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys

import pytest

import offloop

BASE = asyncio.BaseEventLoop
SELECTOR = asyncio.selector_events.BaseSelectorEventLoop


async def use_everything():
    """Call what the table below names, on the loop that runs."""
    loop = asyncio.get_running_loop()
    ran = [loop.create_future() for _ in range(4)]
    loop.call_soon(ran[0].set_result, "soon")
    loop.call_soon_threadsafe(ran[1].set_result, "threadsafe")
    loop.call_later(0.001, ran[2].set_result, "later")
    loop.call_at(loop.time(), ran[3].set_result, "at")
    await loop.create_task(asyncio.sleep(0))
    assert not loop.is_closed()
    assert not loop.get_debug()
    assert loop.is_running()
    with pair() as (ours, theirs):
        await loop.sock_sendall(ours, b"xy")
        assert await loop.sock_recv(theirs, 1) == b"x"
        assert await loop.sock_recv_into(theirs, bytearray(1)) == 1
    return await asyncio.gather(*ran)


@contextlib.contextmanager
def pair():
    """Two connected sockets that do not block, closed at the end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def count_calls(monkeypatch, kind, name):
    """Replace a method by one that counts its calls and then is the real one."""
    real = getattr(kind, name)
    calls = []

    def counting(self, *arguments, **keywords):
        calls.append(name)
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(kind, name, counting)
    return calls


METHODS = {
    BASE: (
        "call_at",
        "call_later",
        "call_soon",
        "call_soon_threadsafe",
        "create_future",
        "create_task",
        "get_debug",
        "is_closed",
        "is_running",
        "run_forever",
        "stop",
        "time",
        "_run_once",
    ),
    SELECTOR: ("sock_recv", "sock_recv_into", "sock_sendall"),
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in METHODS.items() for name in names]
)
def test_replaced_method_is_called(make_loop, monkeypatch, kind, name):
    calls = count_calls(monkeypatch, kind, name)
    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(use_everything()) == ["soon", "threadsafe", "later", "at"]
    assert calls
    monkeypatch.undo()
    calls.clear()
    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(use_everything()) == ["soon", "threadsafe", "later", "at"]
    assert not calls


def test_method_may_be_replaced_while_the_loop_runs(run, monkeypatch):
    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        calls = count_calls(monkeypatch, BASE, "call_soon")
        await asyncio.sleep(0)
        loop.call_soon(int)
        assert calls
        monkeypatch.undo()
        await asyncio.sleep(0)
        calls.clear()
        loop.call_soon(int)
        await asyncio.sleep(0)
        assert not calls

    run(main())


def test_closed_loop_may_be_made_silent(make_loop, monkeypatch):
    real = BASE.call_soon

    def call_soon(self, *arguments, **keywords):
        try:
            return real(self, *arguments, **keywords)
        except RuntimeError:
            return None

    monkeypatch.setattr(BASE, "call_soon", call_soon)
    loop = make_loop()
    loop.close()
    assert loop.call_soon(print) is None


def test_subclass_comes_before_what_is_replaced_and_reaches_it(make_loop, monkeypatch):
    calls = count_calls(monkeypatch, BASE, "create_task")

    class Loop(type(make_closed(make_loop))):
        def create_task(self, *arguments, **keywords):
            calls.append("subclass")
            return super().create_task(*arguments, **keywords)

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(asyncio.sleep(0))
    assert calls[:2] == ["subclass", "create_task"]


def make_closed(make_loop):
    """A loop that is closed already, for its class."""
    loop = make_loop()
    loop.close()
    return loop


def test_method_of_our_own_class_comes_before_the_standard_ones(monkeypatch):
    standard = count_calls(monkeypatch, BASE, "create_task")
    ours = count_calls(monkeypatch, offloop.EventLoop, "create_task")
    with asyncio.Runner(loop_factory=offloop.EventLoop) as runner:
        runner.run(asyncio.sleep(0))
    assert ours
    assert not standard


REPLACED_BEFORE = """
import asyncio

real = asyncio.BaseEventLoop.create_task
asyncio.BaseEventLoop.create_task = lambda *given, **named: print("called") or real(*given, **named)

import offloop

with asyncio.Runner(loop_factory=offloop.EventLoop) as runner:
    runner.run(asyncio.sleep(0))
"""


def test_method_may_be_replaced_before_our_loop_is_imported():
    command = [sys.executable, "-c", REPLACED_BEFORE]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[0] == "called"

"""One scenario on the standard loop and on ours, and what was seen on each.

A scenario writes what it sees into a list, in order. The two lists must be equal: what the standard
loop does with bad input is the measure, with its calls, its reports and its texts.
"""

import asyncio
import gc
import re
import socket
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import offloop

RUNS_MAX = 20
"""A scenario that leaves the loop more often than this leaves it forever."""

FAULTS_OF_ITS_OWN = (
    "NoneType object has no attribute call_soon",
    "NoneType object has no attribute _add_writer",
    "NoneType object has no attribute close",
    "Data should not be empty",
)
"""What the standard loop raises where its own state is at odds with itself; ours may or may not."""

Scenario = Callable[[list], Coroutine[Any, Any, None]]


def plain(value: object) -> str:
    """A text without what differs from run to run: addresses, numbers of descriptors and ports."""
    text = re.sub(r"0x[0-9a-f]+", "0x", repr(value))
    text = re.sub(r"\b(fd=|_add_reader\()-?\d+", r"\1", text)
    text = re.sub(r"\b\d{4,}\b", "N", text)
    text = re.sub(r"\b_write_send(msg)?\(", "_write_ready(", text)
    text = re.sub(r"<(StreamTransp|_SelectorSoc)\.\.\.", "<Transport...", text)
    return re.sub(r"(Stream|_SelectorSocket|_Selector)Transport", "Transport", text)


def seen_on(make_loop: Callable[[], asyncio.AbstractEventLoop], scenario: Scenario) -> list:
    """Run the scenario on one loop, for as long as it comes back after it left the loop."""
    seen: list = []
    # What is left of the scenario is collected here, where its warnings are expected; what was
    # there before is not looked through.
    gc.freeze()
    loop = make_loop()

    def report(loop, about):
        error = about.get("exception")
        seen.append(("report", plain(about["message"]), type(error).__name__, plain(error)))

    loop.set_exception_handler(report)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        task = loop.create_task(scenario(seen))
        for _ in range(RUNS_MAX):
            try:
                loop.run_until_complete(task)
            except BaseException as error:
                if task.done():
                    raise
                seen.append(("left the loop", type(error).__name__, str(error)))
            else:
                break
        assert task.done(), f"the scenario never ended: {seen}"
        loop.close()
        del loop, report, task
        gc.collect()
        gc.unfreeze()
    return seen


def compare(scenario: Scenario) -> list:
    """Run the scenario on both loops, demand the same, and return what was seen."""
    standard, ours = (
        [entry for entry in seen_on(make, scenario) if not is_own_fault(entry)]
        for make in (asyncio.SelectorEventLoop, offloop.new_event_loop)
    )
    assert ours == standard, f"standard: {standard}\nours:     {ours}"
    return ours


def is_own_fault(entry: tuple) -> bool:
    """Whether an entry is one of `FAULTS_OF_ITS_OWN`."""
    text = re.sub(r"[\\'\"]", "", str(entry))
    return any(fault in text for fault in FAULTS_OF_ITS_OWN)


class Settling:
    """Waits until the loop has handled what the kernel knew.

    A byte travels through a TCP connection of our own, so that the kernel delivers it after what it
    was given before, and tells of it after what was ready before.
    """

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.theirs = socket.create_connection(listener.getsockname())
            self.ours, _ = listener.accept()
        self.theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def wait(self) -> None:
        """Let the loop handle what is ready now, and what follows from that."""
        loop = asyncio.get_running_loop()
        for _ in range(3):
            arrived = loop.create_future()
            loop.add_reader(self.ours, self._arrive, arrived)
            self.theirs.send(b"x")
            await arrived
            await asyncio.sleep(0)

    def _arrive(self, arrived: "asyncio.Future[None]") -> None:
        self.ours.recv(1)
        asyncio.get_running_loop().remove_reader(self.ours)
        arrived.set_result(None)

    def close(self) -> None:
        """Close both sockets."""
        self.ours.close()
        self.theirs.close()

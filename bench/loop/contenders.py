"""What is measured: event loops by name, the floor, and other ways to read a file."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable

from bench.harness.rows import Contender, Role

#: The bare floor, in C.
FLOOR = "C"

#: Our loop with its option of that name.
GATHERING = "offloop-gather"


def _from(module: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory that each loop's package has under the same name."""

    def new_loop() -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = importlib.import_module(module).new_event_loop()
        return loop

    return new_loop


def _gathering() -> asyncio.AbstractEventLoop:
    import offloop

    return offloop.EventLoop(gather_writes=True)


def _aiofastnet() -> asyncio.AbstractEventLoop:
    import aiofastnet
    import uvloop

    loop: asyncio.AbstractEventLoop = aiofastnet.loop_factory(uvloop.new_event_loop)()
    return loop


def _aiofastnet_asyncio() -> asyncio.AbstractEventLoop:
    import aiofastnet

    loop: asyncio.AbstractEventLoop = aiofastnet.loop_factory()()
    return loop


_ALL = (
    Contender("offloop", _from("offloop"), "offloop", role=Role.OURS),
    # The same with its option: what a round writes to a stream is sent at its end.
    Contender(GATHERING, _gathering, "offloop", role=Role.VARIANT, sign=("o", "#7fbf9f")),
    Contender("asyncio", asyncio.new_event_loop, sign=("s", "#57606a")),
    Contender("uvloop", _from("uvloop"), "uvloop", sign=("^", "#0969da")),
    Contender("rloop", _from("rloop"), "rloop", sign=("v", "#8250df")),
    Contender("zuvloop", _from("zuvloop"), "zuvloop", (3, 14), sign=("<", "#bf3989")),
    Contender("rsloop", _from("rsloop"), "rsloop", (3, 14), sign=(">", "#9a6700")),
    # It replaces transports, on whichever loop: on uvloop, and on the standard one.
    Contender("aiofastnet", _aiofastnet, "aiofastnet", sign=("P", "#1b7c83")),
    Contender("aiofastnet-asyncio", _aiofastnet_asyncio, "aiofastnet", sign=("X", "#1b7c83")),
    # Ways to read files; all but the first run on the standard loop.
    Contender("blocking", asyncio.new_event_loop, sign=("D", "#8b949e")),
    Contender("to_thread", asyncio.new_event_loop, sign=("s", "#8b949e")),
    Contender("anyio", asyncio.new_event_loop, "anyio", sign=("*", "#bc4c00")),
    Contender("aiofiles", asyncio.new_event_loop, "aiofiles", sign=("p", "#bc4c00")),
    Contender(FLOOR, None, role=Role.FLOOR, sign=("D", "black")),
)

CONTENDERS = {contender.name: contender for contender in _ALL}

#: The event loops that every row is put to.
LOOPS = ("offloop", "asyncio", "uvloop", "rloop", "zuvloop", "rsloop")
#: Where streams are written to, ours in both modes.
WRITING_LOOPS = ("offloop", GATHERING, *LOOPS[1:])
#: Those that speak TLS: rloop does not.
TLS_LOOPS = (
    "offloop",
    GATHERING,
    "asyncio",
    "uvloop",
    "zuvloop",
    "rsloop",
    "aiofastnet",
    "aiofastnet-asyncio",
)
#: The ways to read files.
READERS = ("offloop", "blocking", "to_thread", "anyio", "aiofiles")

"""Who is measured: event loops by name, the floor, and other ways to read a file.

A contender is imported only in its own measuring process, so that none pays for another.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

#: The bare floor, in C.
FLOOR = "C"

#: Our loop with its option of that name.
GATHERING = "offloop-gather"

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@dataclass(frozen=True)
class Contender:
    """One name in the tables."""

    name: str
    #: The package that has to be installed, which the results name with its version.
    package: str | None
    #: Makes its event loop.
    new_loop: LoopFactory
    #: The oldest Python that it runs on.
    python: tuple[int, int] = (3, 11)

    def absence(self) -> str | None:
        """Say why it cannot be measured here; None when it can."""
        if sys.version_info[:2] < self.python:
            return f"needs Python {self.python[0]}.{self.python[1]}"
        if self.package is not None and importlib.util.find_spec(self.package) is None:
            return "not installed"
        return None


def _from(module: str) -> LoopFactory:
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

    return aiofastnet.loop_factory(uvloop.new_event_loop)()


def _aiofastnet_asyncio() -> asyncio.AbstractEventLoop:
    import aiofastnet

    return aiofastnet.loop_factory()()


_ALL = (
    Contender("offloop", "offloop", _from("offloop")),
    # The same with its option: what a round writes to a stream is sent at its end.
    Contender(GATHERING, "offloop", _gathering),
    Contender("asyncio", None, asyncio.new_event_loop),
    Contender("uvloop", "uvloop", _from("uvloop")),
    Contender("rloop", "rloop", _from("rloop")),
    Contender("zuvloop", "zuvloop", _from("zuvloop"), python=(3, 14)),
    Contender("rsloop", "rsloop", _from("rsloop"), python=(3, 14)),
    # It replaces transports, on whichever loop: on uvloop, and on the standard one.
    Contender("aiofastnet", "aiofastnet", _aiofastnet),
    Contender("aiofastnet-asyncio", "aiofastnet", _aiofastnet_asyncio),
    # Ways to read files; all but the first run on the standard loop.
    Contender("blocking", None, asyncio.new_event_loop),
    Contender("to_thread", None, asyncio.new_event_loop),
    Contender("anyio", "anyio", asyncio.new_event_loop),
    Contender("aiofiles", "aiofiles", asyncio.new_event_loop),
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


def packages(names: Iterable[str]) -> list[str]:
    """Return the packages behind these contenders."""
    found = {CONTENDERS[name].package: None for name in names if name in CONTENDERS}
    return [package for package in found if package is not None]

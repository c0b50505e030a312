"""Makes one loop asyncio's default in this interpreter, and notes each loop that is made.

Every interpreter of a suite's environment imports this at its start, the children of tests too. It
waits until asyncio is imported, and changes no more than this: on ours, the names of the
standard loop mean `offloop.EventLoop`; on both, a loop that is made adds a line to a file.

Units: ``OFFLOOP_SUITES_LOOP`` is ``standard`` or ``offloop``; ``OFFLOOP_SUITES_LOOPS_MADE`` is the
       file. Without them nothing happens: then it is pip that runs.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys

# Every interpreter of a suite runs this: nothing is imported for the annotations alone.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


class AsyncioFinder:
    """Finds asyncio as the interpreter does, and has it changed once it is imported."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec of asyncio, whose loader ends with `choose`; of anything else, None."""
        if name != "asyncio":
            return None
        sys.meta_path.remove(cls)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        @functools.wraps(execute)
        def execute_and_choose(module: ModuleType) -> None:
            execute(module)
            del loader.exec_module
            choose(module)

        loader.exec_module = execute_and_choose
        return spec


def choose(asyncio: Any) -> None:
    """Note the loops that are made, and make ours the default if it was asked for."""
    base = asyncio.selector_events.BaseSelectorEventLoop
    make = base.__init__
    record = os.environ["OFFLOOP_SUITES_LOOPS_MADE"]

    @functools.wraps(make)
    def make_and_note(loop: object, *arguments: Any, **keywords: Any) -> None:
        make(loop, *arguments, **keywords)
        bases = [kind.__module__.partition(".")[0] for kind in type(loop).__mro__]
        kind = next(module for module in bases if module in ("offloop", "asyncio"))
        file = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        os.write(file, f"{kind}\n".encode())
        os.close(file)

    base.__init__ = make_and_note
    if os.environ["OFFLOOP_SUITES_LOOP"] == "standard":
        return
    import offloop

    for module in (asyncio, asyncio.unix_events):
        module.SelectorEventLoop = module.EventLoop = offloop.EventLoop
    asyncio.unix_events.DefaultEventLoopPolicy._loop_factory = offloop.EventLoop


if "OFFLOOP_SUITES_LOOP" in os.environ:
    sys.meta_path.insert(0, AsyncioFinder)

"""Threads whose stacks are read, and what the interpreter itself says of them."""

import inspect
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from _offloop_worker import _offloop

Entry = tuple[str, str, int | None]
SECONDS_MAX = 30


class Target(threading.Thread):
    """A thread that runs a function, which gets it as its argument."""

    def __init__(self, function: Callable[["Target"], object]) -> None:
        super().__init__(daemon=True)
        self.function = function
        self.ended = threading.Event()
        self._released = threading.Lock()
        self._released.acquire()
        self._waits = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Call the function, and keep what it raises."""
        try:
            self.function(self)
        except BaseException as error:
            self.error = error
        self.ended.set()

    def wait(self) -> None:
        """Called by the function: block in C until the test lets it go on."""
        self._waits.set()
        self._released.acquire()

    def is_at_rest(self) -> None:
        """Called by the test: wait until the function blocks, and its thread moves no more."""
        assert self._waits.wait(SECONDS_MAX)
        at = (__file__, "Target.wait", line_of(Target.wait, "_released.acquire"))
        while (now := read(self))["outcome"] != "exact" or now["entries"][0] != at:
            assert now["reason"] is None, now

    def release(self) -> None:
        """Called by the test: let the function go on."""
        self._waits.clear()
        self._released.release()


@contextmanager
def started(function: Callable[[Target], object]) -> Iterator[Target]:
    """A thread that runs the function, which is let go and awaited at the end."""
    target = Target(function)
    target.start()
    try:
        yield target
    finally:
        target.release()
        target.join(SECONDS_MAX)
    assert not target.is_alive()
    if target.error is not None:
        raise target.error


def told(ident: int | None) -> list[Entry]:
    """What the interpreter says of a thread's stack."""
    frame = sys._current_frames().get(ident)
    entries = []
    while frame is not None:
        code = frame.f_code
        entries.append((code.co_filename, code.co_qualname, frame.f_lineno))
        frame = frame.f_back
    return entries


def read(thread: threading.Thread) -> "_offloop._StackReading":
    """What we read of it."""
    return _offloop.stack_of(thread.native_id)


def line_of(function: Callable, text: str) -> int:
    """The line of a function that holds a text."""
    lines, first = inspect.getsourcelines(function)
    [found] = [number for number, line in enumerate(lines, first) if text in line]
    return found


def code_objects(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object, and all that are inside of it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_objects(constant)

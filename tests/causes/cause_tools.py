"""Threads that do not go on, and what we say of them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from _offloop_worker import _offloop

SECONDS_MAX = 40
APART = 0.01
"""Seconds between two looks."""

UNCERTAIN = {"starved", "unknown"}
"""What may be said of a thread that computes, if the machine is busy: it blames no code."""


class Subject(threading.Thread):
    """A thread that runs a function, which gets it as its argument."""

    def __init__(self, function: Callable[["Subject"], object]) -> None:
        super().__init__(daemon=True)
        self.function = function
        self.stop = False
        self._begins = threading.Lock()
        self._begins.acquire()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Call the function once it may begin, and keep what it raises."""
        self._begins.acquire()
        try:
            self.function(self)
        except BaseException as error:
            self.error = error

    def begin(self) -> None:
        """Called by the test: let the function begin, as soon as the test lets go of the GIL."""
        self._begins.release()


@contextmanager
def started(function: Callable, end: Callable[[], object] | None = None) -> Iterator[Subject]:
    """A thread in the function, which is told to stop and awaited."""
    subject = Subject(function)
    subject.start()
    subject.begin()
    try:
        yield subject
    finally:
        subject.stop = True
        if end is not None:
            end()
        subject.join(SECONDS_MAX)
    assert not subject.is_alive()
    if subject.error is not None:
        raise subject.error


Told = tuple[str, object]
DETAILS = {
    "socket": "name",
    "file": "name",
    "descriptor": "name",
    "child": "pid",
    "other-thread": "native_id",
}


def told(reading: "_offloop._CauseReading") -> Told:
    """A cause, and its detail."""
    cause = reading["cause"]
    return cause, reading[DETAILS[cause]] if cause in DETAILS else None


def waits_for(subject: threading.Thread, cause: str, detail: object = None) -> None:
    """The thread comes to wait for this, and from then on nothing else is said of it."""
    expected = (cause, detail)
    while told(_offloop.cause_of(subject.native_id, 0.001)) != expected:
        assert subject.is_alive(), subject
    for _ in range(5):
        reading = _offloop.cause_of(subject.native_id, APART)
        assert told(reading) == expected, reading


def computes(subject: threading.Thread, cause: str, detail: object = None, least: int = 3) -> None:
    """The thread comes to do this; and between two times that it is said, nothing else is, but
    that it cannot be told."""
    expected = (cause, detail)
    seen = 0
    while seen < least:
        readings = _offloop.sample_causes(subject.native_id, APART, 20)
        right = [index for index, one in enumerate(readings) if told(one) == expected]
        for reading in readings[right[0] : right[-1]] if right else []:
            assert told(reading) == expected or reading["cause"] in UNCERTAIN, reading
        seen += len(right)
        assert subject.is_alive(), readings

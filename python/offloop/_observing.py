"""Functions of ours that see each call of a pool begin and end: counting, tracing.

None is there unless an integration is used. What one of them raises goes to
``sys.unraisablehook``, never to the program's code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextvars import Context
from typing import Any, Protocol

__all__ = ["Observation", "Observer", "add", "begin", "observers", "remove"]


class Observation(Protocol):
    """One call, as an observer sees it."""

    @property
    def carried(self) -> dict[str, str] | None:
        """What its worker is given along with it."""

    def enter(self, context: Context) -> None:
        """The call is about to run in this process, in a context of its own."""

    def end(self, error: BaseException | None) -> None:
        """The call is over, perhaps by an error."""


Observer = Callable[[str, object], Observation | None]
"""Called with the lane, ``processes`` or ``threads``, and the function that is about to be sent."""

observers: list[Observer] = []


def add(observer: Observer) -> None:
    """Have an observer see each call from now on. One that is there already stays alone."""
    if observer not in observers:
        observers.append(observer)


def remove(observer: Observer) -> None:
    """Have an observer see no more calls; those that it saw begin, it sees end."""
    if observer in observers:
        observers.remove(observer)


class Observed:
    """What all observers made of one call."""

    __slots__ = ("_observations",)

    def __init__(self, observations: list[Observation]) -> None:
        self._observations = observations

    @property
    def carried(self) -> dict[str, str] | None:
        """What the call's worker is given along with it."""
        found = (observation.carried for observation in self._observations)
        return next((carried for carried in found if carried is not None), None)

    def enter(self, context: Context) -> None:
        """The call is about to run in this process, in a context of its own."""
        for observation in self._observations:
            guarded(observation.enter, context)

    def end_with(self, future: Future[Any]) -> None:
        """The call of a future is over."""
        self.end(CancelledError() if future.cancelled() else future.exception())

    def end(self, error: BaseException | None) -> None:
        """The call is over."""
        observations, self._observations = self._observations, []
        for observation in observations:
            guarded(observation.end, error)

    def __del__(self) -> None:
        # A stream that a program has left is over when it is collected.
        self.end(None)


def begin(lane: str, function: object) -> Observed:
    """A call is about to be sent."""
    made = [guarded(observer, lane, function) for observer in tuple(observers)]
    return Observed([observation for observation in made if observation is not None])


def guarded(act: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns; None if it raises, of which only Python's hook for that hears."""
    try:
        return act(*arguments)
    except Exception as error:
        sys.unraisablehook(_Unraisable(error, act))
        return None


class _Unraisable:
    """What Python's hook wants to know of an error."""

    def __init__(self, error: Exception, where: object) -> None:
        self.exc_type: type[BaseException] = type(error)
        self.exc_value: BaseException | None = error
        self.exc_traceback = error.__traceback__
        self.err_msg: str | None = "offloop: an integration failed, and the program goes on"
        self.object = where

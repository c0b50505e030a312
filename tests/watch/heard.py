"""What a test hears of stalls, and waits for."""

import threading
from collections.abc import Callable

import offloop
from gates import PATIENCE_SECONDS

THRESHOLD_SECONDS = 0.02
"""Shorter than the usual one, for tests that have to last as long."""


class Heard:
    """Every stall that the watch tells a test, in order."""

    def __init__(self) -> None:
        self.stalls: list[offloop.Stall] = []
        self._changed = threading.Condition()

    def __call__(self, stall: offloop.Stall) -> None:
        with self._changed:
            self.stalls.append(stall)
            self._changed.notify_all()

    def wait_for(self, is_wanted: Callable[[list[offloop.Stall]], object]) -> None:
        """Wait until what was told is what is wanted."""
        with self._changed:
            if not self._changed.wait_for(lambda: is_wanted(self.stalls), PATIENCE_SECONDS):
                raise AssertionError(f"only these stalls were told: {self.stalls}")

    def wait_found(self, count: int = 1) -> offloop.Stall:
        """Wait until so many stalls were told while they lasted; returns the last of these."""
        self.wait_for(lambda _: len(self.found()) >= count)
        return self.found()[count - 1]

    def wait_over(self, count: int = 1) -> offloop.Stall:
        """Wait until so many stalls were over; returns the last of these."""
        self.wait_for(lambda _: len(self.over()) >= count)
        return self.over()[count - 1]

    def all_of(self, function: str) -> list[offloop.Stall]:
        """Wait until the stall of a function is over; all that was told of it.

        On a busy machine further callbacks may take as long as a stall.
        """

        def told() -> list[offloop.Stall]:
            numbers = {
                stall.number
                for stall in self.stalls
                if function in [entry.function for entry in stall.stack]
            }
            return [stall for stall in self.stalls if stall.number in numbers]

        self.wait_for(lambda _: [stall for stall in told() if stall.duration is not None])
        return told()

    def found(self) -> list[offloop.Stall]:
        """Stalls that lasted when they were told."""
        return [stall for stall in self.stalls if stall.duration is None]

    def over(self) -> list[offloop.Stall]:
        """Stalls that were over when they were told."""
        return [stall for stall in self.stalls if stall.duration is not None]

"""What a test asks of the gate that watches it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from offloop._gate.findings import Finding, Kind
from offloop._gate.gate import Gate

__all__ = ["Door"]

_AT_THE_END = frozenset({Kind.THREAD, Kind.EXECUTOR})
"""What is looked for when the test is over, after each block."""


class Door:
    """The fixture ``offloop_gate``."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    @contextmanager
    def expect(self, *kinds: str) -> Iterator[list[Finding]]:
        """Within this block such findings do not fail the test; without kinds, none does.

        The list that it gives is filled when the block is over. What an event loop is blocked by
        is over when the loop goes on: put the block around what runs the loop, or await something
        before the block ends. A task that is left is looked for when its loop ends: for ``task``,
        put the block around what runs the loop.

        Raises:
            ValueError: a kind is not known, or cannot be found before the block is over.
        """
        wanted = {_findable(kind) for kind in kinds} or set(Kind) - _AT_THE_END
        before = self._gate.look()
        found: list[Finding] = []
        try:
            yield found
        finally:
            seen = self._gate.look()
            found += [each for each in seen if each.kind in wanted]
            self._gate.put_back(before + [each for each in seen if each.kind not in wanted])


def _findable(name: str) -> Kind:
    """A kind that can be found within a block."""
    known = ", ".join(Kind)
    if name not in list(Kind):
        raise ValueError(f"{name!r} is not among {known}")
    kind = Kind(name)
    if kind in _AT_THE_END or (kind is Kind.TASK and _is_in_loop()):
        moment = "the test" if kind in _AT_THE_END else "the test or its loop"
        raise ValueError(
            f"a {kind} that is left is looked for at the end of {moment}, after this block;"
            f" to allow it, mark the test: @pytest.mark.offloop(allow={str(kind)!r})"
        )
    return kind


def _is_in_loop() -> bool:
    return asyncio._get_running_loop() is not None

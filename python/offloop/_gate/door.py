"""What a test asks of the gate that watches it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from offloop._gate.findings import Finding, Kind
from offloop._gate.gate import Gate

__all__ = ["Door"]


class Door:
    """The fixture ``offloop_gate``."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    @contextmanager
    def expect(self, *kinds: str) -> Iterator[list[Finding]]:
        """Within this block such findings do not fail the test; without kinds, none does.

        The list that it gives is filled when the block is over. What an event loop is blocked by
        is over when the loop goes on: put the block around what runs the loop, or await something
        before the block ends.

        Raises:
            ValueError: a kind is not known.
        """
        wanted = {Kind(kind) for kind in kinds} or set(Kind)
        before = self._gate.look()
        found: list[Finding] = []
        try:
            yield found
        finally:
            seen = self._gate.look()
            found += [each for each in seen if each.kind in wanted]
            self._gate.put_back(before + [each for each in seen if each.kind not in wanted])

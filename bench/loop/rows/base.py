"""What the rows about loops have in common: heaps, the client's load, and the floor."""

from __future__ import annotations

from dataclasses import dataclass

from bench.harness.goals import Against
from bench.harness.rows import Row
from bench.loop.contenders import FLOOR, LOOPS

#: The heap's behaviour, pinned: glibc serves large receive buffers from the heap, or by mmap and
#: munmap each time, depending on what the process has freed before.
HEAPS = {
    "warm": {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "67108864"},
    "cold": {"MALLOC_MMAP_THRESHOLD_": "131072"},
}

#: The floor in C, beside which a number stands.
C = Against(FLOOR, (FLOOR,))


@dataclass(frozen=True)
class Load:
    """What the client does to a server."""

    #: ``echo``, ``http`` or ``idle``.
    command: str
    connections: int
    size: int = 0
    tls: bool = False
    #: Whether the server says the numbers, once it has all its connections, or the client.
    answered_by_server: bool = False

    def words(self) -> list[str]:
        """Return it as arguments of the client."""
        words = [self.command, "--connections", str(self.connections)]
        if self.size:
            words += ["--size", str(self.size)]
        return [*words, "--tls"] if self.tls else words


@dataclass(frozen=True, kw_only=True)
class LoopRow(Row):
    """A row that is put to event loops, with what the client does, where there is one."""

    contenders: tuple[str, ...] = LOOPS
    rounds: tuple[int, int] = (6, 2)
    load: Load | None = None

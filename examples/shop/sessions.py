"""Sessions of customers, of which a few hold on to each other."""

from __future__ import annotations

import gc

_COUNT = 600_000


class Session:
    """A visit, with the one before it."""

    def __init__(self, before: Session | None) -> None:
        self.before = before
        self.basket: list[str] = []


_sessions: list[Session] = []


def _open_some() -> None:
    for _ in range(_COUNT):
        _sessions.append(Session(_sessions[-1] if _sessions else None))


def forget() -> int:
    """Forget what nothing refers to, and give the memory back."""
    return gc.collect()


_open_some()

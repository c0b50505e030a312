"""A view of what the loop watches, in the shape of a selector.

The standard library's code, and others', ask the loop's selector what a descriptor is watched for.
They may look; watching is done through the loop.
"""

from __future__ import annotations

import selectors
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offloop._loop.event_loop import EventLoop

__all__ = ["WatchedSelector"]


class WatchedSelector:
    """What ``loop._selector`` is."""

    def __init__(self, loop: EventLoop) -> None:
        self._watched = loop._watched

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """Return the key of a watched descriptor; raises ``KeyError`` for others."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        reader, writer = self._watched(fd)
        read = selectors.EVENT_READ if reader is not None else 0
        write = selectors.EVENT_WRITE if writer is not None else 0
        if not read | write:
            raise KeyError(f"{fileobj!r} is not registered")
        return selectors.SelectorKey(fileobj, fd, read | write, (reader, writer))

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return the watched descriptors by number."""
        return _Watched(self)

    def close(self) -> None:
        """Do nothing: the loop closes what it watches with."""


class _Watched(Mapping[Any, selectors.SelectorKey]):
    """The map of a selector, looked up as it is asked."""

    def __init__(self, selector: WatchedSelector) -> None:
        self._selector = selector

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        return self._selector.get_key(fileobj)

    def __iter__(self) -> Any:
        import os

        for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
            if fd in self:
                yield fd

    def __len__(self) -> int:
        return sum(1 for _ in self)

"""A view of what the loop watches, in the shape of a selector.

The standard library and other libraries ask the loop's selector what a descriptor is watched for.
They may look, and wait with it; watching is done through the loop. If a program replaces its
``select``, the loop calls the replacement, and waits in no other way.
"""

from __future__ import annotations

import selectors
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offloop._loop.event_loop import EventLoop

__all__ = ["WatchedSelector", "is_ours"]


class WatchedSelector:
    """What ``loop._selector`` is."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._watched = loop._watched

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "select":
            self._loop._set_replaced(name, True)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name == "select":
            self._loop._set_replaced(name, False)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait until something is ready, for so many seconds; return the keys and their events."""
        return [(self._key(fd), events) for fd, events in self._loop._select(timeout)]

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """Return the key of a watched descriptor; raises ``KeyError`` for any other."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self._key(fd)
        if not key.events:
            raise KeyError(f"{fileobj!r} is not registered")
        return key._replace(fileobj=fileobj)

    def _key(self, fd: int) -> selectors.SelectorKey:
        reader, writer = self._watched(fd)
        read = selectors.EVENT_READ if reader is not None else 0
        write = selectors.EVENT_WRITE if writer is not None else 0
        return selectors.SelectorKey(fd, fd, read | write, (reader, writer))

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return the watched descriptors by number."""
        return _Watched(self)

    def close(self) -> None:
        """Do nothing: the loop closes what it watches with."""


def is_ours(selector: Any) -> bool:
    """Whether a round of ours waits for what this selector waits for."""
    return type(selector) is WatchedSelector and "select" not in vars(selector)


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

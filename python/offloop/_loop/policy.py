"""The event loop for programs that choose theirs through asyncio's policy."""

from __future__ import annotations

import asyncio
import warnings

from offloop._loop.event_loop import EventLoop, new_event_loop

__all__ = ["EventLoopPolicy", "install"]

with warnings.catch_warnings():
    # From 3.14 on policies are deprecated; they work until 3.16.
    warnings.simplefilter("ignore", DeprecationWarning)
    _Policy = asyncio.DefaultEventLoopPolicy


class EventLoopPolicy(_Policy):
    """Makes ``asyncio.new_event_loop`` return our loop, with the options of ``EventLoop``."""

    def __init__(self, *, gather_writes: bool = False) -> None:
        super().__init__()
        self._gather_writes = gather_writes

    def _loop_factory(self) -> EventLoop:
        return new_event_loop(gather_writes=self._gather_writes)


def install(*, gather_writes: bool = False) -> None:
    """Let asyncio make our loop from now on, in every thread of this process.

    With ``gather_writes`` its loops are made with that option of ``EventLoop``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(EventLoopPolicy(gather_writes=gather_writes))

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
    """Makes ``asyncio.new_event_loop`` return our loop."""

    def _loop_factory(self) -> EventLoop:
        return new_event_loop()


def install() -> None:
    """Make our loop the one that asyncio makes from now on, in every thread of this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(EventLoopPolicy())

"""The event loop: the standard library's, with everything that is called often in Rust."""

from offloop._loop.event_loop import EventLoop, new_event_loop
from offloop._loop.policy import EventLoopPolicy, install
from offloop._loop.statistics import LagHistogram, LoopStatistics

__all__ = [
    "EventLoop",
    "EventLoopPolicy",
    "LagHistogram",
    "LoopStatistics",
    "install",
    "new_event_loop",
]

"""Which event loop asyncio makes for a program that does not choose one itself.

Everything goes through asyncio's policy: it serves ``asyncio.run``, ``asyncio.Runner`` and loops
that are made at module level, and a program that sets a policy or a loop factory of its own has its
way.
"""

from __future__ import annotations

import asyncio
import warnings

import offloop


class LoopMissing(Exception):
    """The loop that was asked for is not installed."""


def install(name: str, *, gather_writes: bool = False) -> None:
    """Make asyncio create the loop of this name from now on."""
    if name == "offloop":
        offloop.install(gather_writes=gather_writes)
    elif name == "uvloop":
        try:
            import uvloop
        except ModuleNotFoundError:
            raise LoopMissing("uvloop is not installed here") from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

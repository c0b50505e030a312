"""What is measured: our watch, what the standard library has, and packages from the index."""

from __future__ import annotations

from bench.harness.rows import Contender, Role
from bench.watch.watchers import own, standard, third_party
from bench.watch.watchers.base import Watcher

#: A program that nothing watches.
NOTHING = "nothing"


class _OwnContender(Contender):
    """Our watch, which older builds of offloop lack."""

    def absence(self) -> str | None:
        """Say why it cannot be measured here; None when it can."""
        return super().absence() or own.absence()


_ALL = (
    _OwnContender("offloop", own.Own, "offloop", role=Role.OURS),
    _OwnContender("offloop-on-asyncio", own.OwnOnAsyncio, "offloop", role=Role.VARIANT),
    Contender(NOTHING, Watcher, role=Role.VARIANT),
    Contender("asyncio-debug", standard.DebugMode, head="asyncio debug"),
    Contender("blockbuster", third_party.Blockbuster, "blockbuster"),
    Contender("pyleak", third_party.Pyleak, "pyleak"),
    Contender("aiocop", third_party.Aiocop, "aiocop"),
    Contender("asynclens", third_party.Asynclens, "asynclens"),
    Contender("faulthandler", standard.Faulthandler),
)

CONTENDERS = {contender.name: contender for contender in _ALL}

#: Every tool, ours on both loops.
TOOLS = tuple(name for name in CONTENDERS if name != NOTHING)
#: The same, beside a program that nothing watches.
BESIDE_NOTHING = (*TOOLS, NOTHING)

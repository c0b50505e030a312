"""How a process that ``multiprocessing`` starts joins the run of its parent.

A process that starts from nothing reads facts about its parent, and `Joining` among these. It joins
as soon as it imports asyncio, or offloop: one that never does runs no event loop, and loads nothing
of ours but this. Its own children read the same.
"""

from __future__ import annotations

import multiprocessing.spawn
from collections.abc import Callable
from typing import Any

from _offloop_worker.when_imported import when_imported

__all__ = ["join", "tell_children"]

_READ = """
try:
    from _offloop_worker.joining import join
except ModuleNotFoundError:
    pass  # The program has chosen another interpreter for it.
else:
    import sys

    # The program's folder is in front later, and its modules may have names of the standard ones.
    path = [folder for folder in sys.path if folder]

    def begin(settings):
        own, sys.path = sys.path, path
        try:
            from offloop._run.children import begin
            import offloop._run.session
        finally:
            sys.path = own
        begin(settings)

    join({settings!r}, begin)
"""


class Joining:
    """Where a process reads this, it joins the run."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings

    def __reduce__(self) -> tuple[Any, ...]:
        # A name that cannot be imported would end the process before it begins.
        return exec, (_READ.format(settings=self._settings), {})


def tell_children(settings: dict[str, Any]) -> None:
    """Have the processes join that this one starts from now on."""
    own = multiprocessing.spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        return {**own(name), "offloop_run": Joining(settings)}

    multiprocessing.spawn.get_preparation_data = get_preparation_data


def join(settings: dict[str, Any], begin: Callable[[dict[str, Any]], None]) -> None:
    """Call ``begin(settings)`` once this process has imported asyncio; its children do the same."""
    tell_children(settings)
    when_imported(("asyncio", "offloop"), lambda: begin(settings))

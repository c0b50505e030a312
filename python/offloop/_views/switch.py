"""The views' switch: ``offloop.views()`` lets ``offloop top`` attach to this process."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any

from _offloop_worker import _offloop
from offloop._stopping import Stoppable
from offloop._watch.hooks import Front, hear_announcements

__all__ = ["Views", "identity", "reading", "views"]

_hooks: list[bool] = []


def identity() -> dict[str, str]:
    """What does not change while the program runs."""
    import offloop
    from offloop._views.reading import program_name

    return {
        "python": sys.version.split()[0],
        "offloop": offloop.__version__,
        "program": program_name(),
    }


def reading() -> Any:
    """What asks the interpreter for the views."""
    from offloop._views.reading import Reading

    return Reading()


def hook() -> None:
    """Have the views end with the program, and follow it into forked children."""
    if not _hooks:
        _hooks.append(True)
        os.register_at_fork(after_in_child=views._after_fork)
        atexit.register(_offloop.views_stop)


class Views(Stoppable):
    """The private socket of this process, for one thread at a time to open and close."""

    def __call__(self) -> Views:
        """Listen on a private socket, by which ``offloop top PID`` shows this process.

        The socket is a file of this user alone, in ``$XDG_RUNTIME_DIR`` or a private folder; what
        connects must belong to the same user. It is answered by a thread that needs no GIL, also
        while the event loop is stuck; while nothing is attached that thread sleeps. Stalls are
        found by the watch: turn that on, too. A forked child gets a socket of its own once a loop
        runs there. ``offloop run`` does all of this.

        Raises:
            OSError: there is no private folder, or the system refused a socket or a thread.

        >>> import offloop
        >>> with offloop.views() as views:
        ...     views.path.endswith(".sock")
        True
        """
        hook()
        _offloop.views_open_socket(identity(), reading())
        return self

    @property
    def path(self) -> str | None:
        """The socket's file; None while there is none.

        >>> views.path is None
        True
        """
        return _offloop.views_path()

    def stop(self) -> None:
        """Close the socket, and let go of what is attached."""
        _offloop.views_close_socket()

    def _after_fork(self) -> None:
        """A child opens nothing before a loop runs there: it may be a daemon, which closes all."""
        if not _offloop.views_after_fork():
            return
        fronts: list[Front] = []

        def announced(loop: object) -> None:
            if loop is None:
                # asyncio says so in each forked child.
                return
            while fronts:
                fronts.pop().step_aside()
            _offloop.views_follow_fork()

        fronts += hear_announcements(announced)


views = Views()

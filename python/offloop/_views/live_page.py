"""The live page's switch: ``offloop.page()`` shows this process in a browser."""

from __future__ import annotations

import ipaddress
import os
from typing import Any

from _offloop_worker import _offloop
from offloop._arguments import count
from offloop._stopping import Stoppable
from offloop._views.switch import hook, identity, reading

__all__ = ["Page", "page"]

PORT_MAX = 65535
LOCALHOST = "localhost"


class Page(Stoppable):
    """The live page of this process, for one thread at a time to open and close."""

    def __init__(self) -> None:
        self._url: str | None = None
        self._is_hooked = False

    def __call__(self, port: int = 0, *, host: str = "127.0.0.1", actions: bool = False) -> Page:
        """Serve a page that shows what this process does while it does it.

        A thread that needs no GIL serves it, so it tells of a frozen event loop, too. Only requests
        with the secret token in ``url`` are answered. ``offloop run --page`` does the same.
        Called again, it closes the page that is open.

        Args:
            port: where it listens; 0 for any free port.
            host: an IP address of this machine. What listens at another than a loopback address can
                be reached by other machines, which then need the token, sent without encryption.
                ``0.0.0.0`` and ``::`` stand for all addresses; ``url`` has the loopback one then.
            actions: whether a viewer may end running calls and cancel tasks.

        Raises:
            TypeError: an argument is of another type.
            ValueError: an argument is out of its range.
            OSError: the port is taken, or the system refused a thread.

        >>> import offloop
        >>> with offloop.page() as page:
        ...     page.url.startswith("http://127.0.0.1:")
        True
        """
        address = _check(port, host, actions)
        hook()
        self._hook()
        self._url = _offloop.page_open(identity(), reading(), address, port, actions)
        return self

    @property
    def url(self) -> str | None:
        """The page's address with its token; None while it is not served.

        >>> page.url is None
        True
        """
        return self._url

    def stop(self) -> None:
        """Serve it no more."""
        self._url = None
        _offloop.page_close()

    def _hook(self) -> None:
        if not self._is_hooked:
            self._is_hooked = True
            # The page stays its parent's.
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._url = None


def _check(port: Any, host: Any, actions: Any) -> str:
    if isinstance(port, bool):
        raise TypeError(f"port must be an integer, not {port!r}")
    if not 0 <= count("port", port) <= PORT_MAX:
        raise ValueError(f"port must be from 0 to {PORT_MAX}, not {port!r}")
    if not isinstance(host, str):
        raise TypeError(f"host must be a string, not {host!r}")
    if not isinstance(actions, bool):
        raise TypeError(f"actions must be True or False, not {actions!r}")
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == LOCALHOST else host)
        if getattr(address, "scope_id", None) is not None:
            raise ValueError("an address with a scope")
        return str(address)
    except ValueError:
        raise ValueError(f"host must be an IP address or localhost, not {host!r}") from None


page = Page()

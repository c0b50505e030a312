"""The client in Rust that asks a server: how it is built, and how it is put to one.

Server and client have a core each, so that neither is moved between cores or pushed off its own by
the other.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bench.harness.building import Programs
from bench.harness.turns import Process, Turn
from bench.loop.rows.base import Load

_HERE = Path(__file__).resolve().parent

_CLIENT, _CLIENT_WITH_TLS = "the client", "the client with TLS"
#: How long the client warms up and counts, in the full and the quick form.
_CLIENT_MS = {False: (300, 1000), True: (150, 400)}


def build_client(programs: Programs, *, tls: bool) -> None:
    """Build the client; the one with TLS serves for both."""
    names = {_CLIENT_WITH_TLS: ("--features", "tls")} if tls else {}
    for name, options in (names | {_CLIENT: ()}).items():
        if programs.cargo(name, _HERE / "client", "offloop-bench-client", *options):
            break


def absence(programs: Programs, *, tls: bool) -> str | None:
    """Say why no server can be asked, if none can."""
    if _CLIENT_WITH_TLS in programs.built:
        return None
    if _CLIENT not in programs.built:
        return "no client"
    return "no OpenSSL headers" if tls else None


def load_server(
    turn: Turn,
    programs: Programs,
    server: Process,
    load: Load,
    *,
    milliseconds: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Let the client ask a server that has just been started, and return what it says.

    It warms up and counts for so many milliseconds.
    """
    first, second, *_ = sorted(os.sched_getaffinity(0))
    server.bind(first)
    port = server.answer()["port"]
    warm, measure = milliseconds or _CLIENT_MS[turn.quick]
    program = programs.built.get(_CLIENT_WITH_TLS) or programs.built[_CLIENT]
    words = [*load.words(), "--port", str(port), "--server-pid", str(server.pid)]
    times = ["--warm-ms", str(warm), "--measure-ms", str(measure)]
    # The client is the same everywhere, whichever heap the server has.
    client = turn.start([str(program), *words, *times], environment={})
    client.bind(second)
    return client.answer()

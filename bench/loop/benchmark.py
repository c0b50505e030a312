"""How a loop is measured: alone, or as a server that a client in Rust asks.

A process that is measured alone says its numbers and ends. A server says its port, then the client
asks it and says the numbers; or, in rows about idle connections, the client only connects, and the
server says them. Server and client have a core each, so that neither is moved between cores or
pushed off its own by the other; a process that measures itself may use both.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bench.harness.benchmark import Benchmark
from bench.harness.building import Programs
from bench.harness.goals import Against
from bench.harness.rows import Role, Row
from bench.harness.turns import Turn
from bench.loop.contenders import CONTENDERS
from bench.loop.rows import ROWS
from bench.loop.rows.base import C, Load, LoopRow

_HERE = Path(__file__).resolve().parent

_CLIENT, _CLIENT_WITH_TLS = "the client", "the client with TLS"
#: How long the client warms up and counts, in the full and the quick form.
_CLIENT_MS = {False: (300, 1000), True: (150, 400)}
#: What a floor's program is linked with.
_LIBRARIES = {"tls_echo": ("-lssl", "-lcrypto")}


def _load(row: Row) -> Load | None:
    return row.load if isinstance(row, LoopRow) else None


def _build(rows: Sequence[Row], programs: Programs) -> None:
    loads = [load for row in rows if (load := _load(row)) is not None]
    names = {_CLIENT_WITH_TLS: ("--features", "tls")} if any(load.tls for load in loads) else {}
    for name, options in (names | {_CLIENT: ()}).items() if loads else ():
        # The one with TLS serves for both.
        if programs.cargo(name, _HERE / "client", "offloop-bench-client", *options):
            break
    for name in dict.fromkeys(row.program[0] for row in rows if row.program):
        programs.compile(name, _HERE / "floor" / f"{name}.c", *_LIBRARIES.get(name, ()))


def _absence(row: Row, programs: Programs) -> str | None:
    load = _load(row)
    if load is None or _CLIENT_WITH_TLS in programs.built:
        return None
    if _CLIENT not in programs.built:
        return "no client"
    return "no OpenSSL headers" if load.tls else None


def _ask(turn: Turn, programs: Programs) -> None:
    first = turn.start(_command(turn, programs))
    load = _load(turn.row)
    if load is None:
        turn.answered(first.answer())
        return
    server, client, *_ = sorted(os.sched_getaffinity(0))
    first.bind(server)
    words = [*load.words(), "--port", str(first.answer()["port"]), "--server-pid", str(first.pid)]
    # The client is the same everywhere, whichever heap the server has.
    second = turn.start(_client(turn, programs, words), environment={})
    second.bind(client)
    answer = second.answer()
    if load.answered_by_server:
        answer = first.answer()
    else:
        answer["requests_per_s"] = answer["requests"] / answer["seconds"] / 1000
    turn.answered(answer)


def _command(turn: Turn, programs: Programs) -> list[str]:
    if turn.contender.role is not Role.FLOOR:
        return turn.child()
    name, *words = turn.row.program
    return [str(programs.built[name]), *words]


def _client(turn: Turn, programs: Programs, words: list[str]) -> list[str]:
    warm, measure = _CLIENT_MS[turn.quick]
    client = programs.built.get(_CLIENT_WITH_TLS) or programs.built[_CLIENT]
    return [str(client), *words, "--warm-ms", str(warm), "--measure-ms", str(measure)]


BENCHMARK = Benchmark(
    name="loop",
    title="offloop's event loop beside its peers",
    conditions="a server and its client have a core each",
    rows=ROWS,
    contenders=CONTENDERS,
    option="--loops",
    quick_minutes=6,
    output=_HERE.parent / "out" / "loop",
    standard=C,
    about_standard="`C` is the bare floor.",
    base=Against("the standard loop", ("asyncio", "to_thread")),
    base_title="the standard loop (files: than to_thread)",
    alternates=True,
    build=_build,
    absence=_absence,
    ask=_ask,
)

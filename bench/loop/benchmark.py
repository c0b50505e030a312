"""How a loop is measured: alone, or as a server that a client in Rust asks.

A process that is measured alone says its numbers and ends. A server says its port, then the client
asks it and says the numbers; or, in rows about idle connections, the client only connects, and the
server says them. Server and client have a core each, so that neither is moved between cores or
pushed off its own by the other; a process that measures itself may use both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.harness.benchmark import Benchmark
from bench.harness.building import Programs
from bench.harness.goals import Against
from bench.harness.rows import Role, Row
from bench.harness.turns import Turn
from bench.loop import asking
from bench.loop.contenders import CONTENDERS
from bench.loop.rows import ROWS
from bench.loop.rows.base import C, Load, LoopRow

_HERE = Path(__file__).resolve().parent

#: What a floor's program is linked with.
_LIBRARIES = {"tls_echo": ("-lssl", "-lcrypto")}


def _load(row: Row) -> Load | None:
    return row.load if isinstance(row, LoopRow) else None


def _build(rows: Sequence[Row], programs: Programs) -> None:
    loads = [load for row in rows if (load := _load(row)) is not None]
    if loads:
        asking.build_client(programs, tls=any(load.tls for load in loads))
    for name in dict.fromkeys(row.program[0] for row in rows if row.program):
        programs.compile(name, _HERE / "floor" / f"{name}.c", *_LIBRARIES.get(name, ()))


def _absence(row: Row, programs: Programs) -> str | None:
    load = _load(row)
    return None if load is None else asking.absence(programs, tls=load.tls)


def _ask(turn: Turn, programs: Programs) -> None:
    first = turn.start(_command(turn, programs))
    load = _load(turn.row)
    if load is None:
        turn.answered(first.answer())
        return
    answer = asking.load_server(turn, programs, first, load)
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

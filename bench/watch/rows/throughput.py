"""Two web servers, without and with a watch: how much of their rate is lost."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bench.harness.goals import limit
from bench.harness.rows import Case, Metric
from bench.loop import asking
from bench.loop.rows.base import HEAPS, Load
from bench.loop.rows.http import CONNECTIONS, Serve, serve_aiohttp, serve_uvicorn
from bench.watch.rows.base import WatchRow, run_on_its_loop, watcher_of
from bench.watch.watchers.base import Watcher

if TYPE_CHECKING:
    from bench.harness.building import Programs
    from bench.harness.turns import Turn

LOST = Metric("lost", "lost of the rate", "%")
RATE = Metric("requests_per_s", "rate without it", "k/s", higher_is_better=True)

_WITHOUT, _WITH = "without", "with"
#: The servers of one turn: there and back, so that a machine that slows down does so for both.
_ORDER = (_WITHOUT, _WITH, _WITH, _WITHOUT)
_LOAD = Load("http", CONNECTIONS)


async def _serve(watcher: Watcher, serve: Serve, *, watched: bool) -> None:
    if watched:
        await watcher.start()
    await serve()


def _ask(turn: Turn, programs: Programs) -> None:
    rates: dict[str, list[float]] = {_WITHOUT: [], _WITH: []}
    for word in _ORDER:
        server = turn.start(turn.child(word))
        answer = asking.load_server(turn, programs, server, _LOAD)
        rates[word].append(answer["requests"] / answer["seconds"] / 1000)
        turn.end_processes()
    without, with_it = (sum(rates[word]) / len(rates[word]) for word in (_WITHOUT, _WITH))
    turn.answered({LOST.key: 100 * (1 - with_it / without), RATE.key: without})


def _row(name: str, serve: Serve, modules: tuple[str, ...]) -> WatchRow:
    def run(case: Case) -> None:
        # Some tools refuse to let a loop import.
        for module in modules:
            importlib.import_module(module)
        watcher = watcher_of(case)
        watched = case.words == (_WITH,)
        run_on_its_loop(watcher, _serve(watcher, serve, watched=watched))

    return WatchRow(
        name=f"throughput-{name}",
        title=f"the rate of {name}",
        about=f"GET / over {CONNECTIONS} connections that are kept alive, to servers without and "
        "with the tool in turns, each on the same loop.",
        metrics=(LOST, RATE),
        goals=(limit(f"{name}: lost of its rate", LOST, 1),),
        run=run,
        ask=_ask,
        needs_client=True,
        environment=HEAPS["warm"],
        packages=tuple(module.partition(".")[0] for module in modules),
        rounds=(6, 1),
        bound_s=60,
    )


ROWS = (
    _row("uvicorn", serve_uvicorn, ("uvicorn", "starlette.applications", "httptools")),
    _row("aiohttp", serve_aiohttp, ("aiohttp.web",)),
)

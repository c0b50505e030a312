"""A healthy service under load: what a tool reports of it is false."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import time
from typing import TYPE_CHECKING

from bench.harness.goals import beside, exactly
from bench.harness.rows import Case, Metric, Statistic
from bench.loop import asking
from bench.loop.rows.base import HEAPS, Load
from bench.loop.rows.http import CONNECTIONS, serve_aiohttp
from bench.loop.rows.running import say
from bench.watch.reports import blamed
from bench.watch.rows.base import SETTLE_S, Ticker, WatchRow, run_on_its_loop, watcher_of
from bench.watch.watchers.base import Watcher

if TYPE_CHECKING:
    from bench.harness.building import Programs
    from bench.harness.turns import Turn

FALSE = Metric("false", "false reports", "", statistic=Statistic.WORST)
PAUSES = Metric("pauses", "pauses of the loop beyond the threshold", "")
SECONDS = Metric("seconds", "under load for", "s", higher_is_better=True)

#: How long, in the full and the quick form, where the command line does not say it.
_MINUTES = {False: 1.0, True: 0.05}


async def _serve(watcher: Watcher) -> tuple[float, int]:
    """Serve until SIGTERM comes; return when that began, and the pauses."""
    loop = asyncio.get_running_loop()
    told = loop.create_future()
    loop.add_signal_handler(signal.SIGTERM, told.set_result, None)
    await watcher.start()
    await asyncio.sleep(SETTLE_S)
    ticker = Ticker()
    began = time.monotonic()
    serving = asyncio.create_task(serve_aiohttp())
    await told
    serving.cancel()
    ticker.stop()
    await watcher.stop()
    return began, ticker.pauses


def _run(case: Case) -> None:
    # To import it takes long, and is no work of a healthy service.
    importlib.import_module("aiohttp.web")
    watcher = watcher_of(case)
    began, pauses = run_on_its_loop(watcher, _serve(watcher))
    say(false=blamed(watcher.reports, began), pauses=pauses)


def _ask(turn: Turn, programs: Programs) -> None:
    minutes = turn.minutes or _MINUTES[turn.quick]
    server = turn.start(turn.child())
    load = asking.load_server(
        turn, programs, server, Load("http", CONNECTIONS), milliseconds=(0, int(minutes * 60_000))
    )
    os.kill(server.pid, signal.SIGTERM)
    turn.answered(server.answer() | {SECONDS.key: load["seconds"]})


ROW = WatchRow(
    name="healthy",
    title="a healthy service under load",
    about="aiohttp answers `GET /` as fast as it can. A pause that the service itself noticed is "
    "the machine's: another process had the core.",
    metrics=(FALSE, PAUSES, SECONDS),
    goals=(
        exactly("a healthy service: false reports", FALSE, 0),
        beside("the same: pauses beyond the threshold", PAUSES),
        beside("the same: under load for", SECONDS),
    ),
    run=_run,
    ask=_ask,
    needs_client=True,
    environment=HEAPS["warm"],
    packages=("aiohttp",),
    bound_s=120,
    lasts=True,
)

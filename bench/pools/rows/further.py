"""How soon a growing pool has each further worker ready."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench import work
from bench.harness.accounts import CpuMeter
from bench.harness.goals import Goal, Limit
from bench.harness.rows import Metric
from bench.pools.contenders import PPE_FORKSERVER
from bench.pools.rows.base import Case, row
from bench.pools.rows.waiting import Gate, settled, wait_started

FURTHER = Metric("further_ms", "one more worker, from the request", "ms")
ANSWER = Metric("answer_ms", "its first answer", "ms")
CPU = Metric("cpu_ms", "CPU of all processes", "ms/worker")

_MORE = 8


async def run(case: Case) -> None:
    """Let a pool grow by one worker after the other."""
    with tempfile.TemporaryDirectory() as directory:
        await _grow(case, Path(directory))


async def _grow(case: Case, directory: Path) -> None:
    """Occupy every worker that the pool has, and ask it for the time: it needs one more.

    The clock is a builtin function, so that the new worker has nothing to import for it, and all
    processes read the same clock: the answer is the moment at which the worker was ready.
    """
    await case.peer.open(1 + _MORE)
    assert await case.peer.begin(work.echo, 1) == 1
    gate = Gate(directory / "gate")
    held = []
    cpu = CpuMeter()
    cpu.start()
    for number in range(_MORE):
        path = directory / f"held-{number}"
        held.append(case.peer.start(work.hold_until, str(path), gate.path))
        if await wait_started(path, 10.0) is None:
            case.note(FURTHER.key, f"worker {1 + number} did not start")
            break
        requested_ns = time.monotonic_ns()
        ready_ns = await case.peer.begin(time.monotonic_ns)
        answered_ns = time.monotonic_ns()
        assert requested_ns < ready_ns < answered_ns, "the clock was not read for this call"
        case.add(FURTHER.key, (ready_ns - requested_ns) / 1e6)
        case.add(ANSWER.key, (answered_ns - requested_ns) / 1e6)
    case.add(CPU.key, cpu.stop() / _MORE / 1e6)
    gate.open()
    await settled(held, 5.0)


GOALS = (
    Goal(
        "each further worker, from the request",
        FURTHER,
        (Limit(5),),
        entrance="offloop-pool",
        # The fork form starts all its workers at the first call.
        standard=PPE_FORKSERVER,
    ),
)

ROW = row(
    name="further",
    title="Each further worker",
    about="All workers that a pool of 9 has started are occupied, and it is asked for the time: "
    "the time from the submission until a new worker reads the clock, and until the answer is "
    "here, for eight workers one after the other. The submission is the request: a pool whose "
    "workers are all busy sends it to its zygote or fork server at once. Pools that start all "
    "workers when they are made show next to nothing here, and more in the cold start.",
    metrics=(FURTHER, ANSWER, CPU),
    run=run,
    goals=GOALS,
    bound_s=40,
    rounds=(3, 1),
    quick_peers=("pebble",),
    entrances=("offloop-pool",),
)

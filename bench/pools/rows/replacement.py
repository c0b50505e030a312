"""How soon a new worker is there after one was killed while all other workers are busy."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench import work
from bench.harness.goals import beside, limit
from bench.harness.rows import Metric
from bench.pools.rows.base import Case, row
from bench.pools.rows.waiting import Gate, settled, wait_started

END = Metric("end_ms", "the kill ends the process", "ms")
NOTICED = Metric("noticed_ms", "kill to the lost call's exception", "ms")
READY = Metric("ready_ms", "the old one's end to the new one's first call", "ms")
ANSWER = Metric("answer_ms", "kill to the first answer", "ms")
IMPORTED = Metric("imported_ms", "kill to the first answer, module imported", "ms")

_GIVE_UP_SECONDS = 5.0


class EndWatch(threading.Thread):
    """Waits in a thread of its own for the end of a process, which the kernel announces."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._descriptor = os.pidfd_open(pid)
        self.ended_ns: int | None = None

    def run(self) -> None:
        """Remember when the process ended; give up in the end."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if poll.poll(_GIVE_UP_SECONDS * 1000):
            self.ended_ns = time.monotonic_ns()
        os.close(self._descriptor)


async def run(case: Case) -> None:
    """Kill workers of one pool, one at a time."""
    await case.peer.open(2)
    with tempfile.TemporaryDirectory() as directory:
        for number in range(case.pick(7, 3)):
            for imports in (False, True):
                replacement = Replacement(case, Path(directory), f"{number}-{imports}")
                if not await replacement.measure(imports=imports):
                    return


class Replacement:
    """One worker killed while the other is busy: only a new one can run the next task."""

    def __init__(self, case: Case, directory: Path, name: str) -> None:
        self._case = case
        self._first = directory / f"{name}-first"
        self._second = directory / f"{name}-second"
        self._gate = Gate(directory / f"{name}-gate")
        self._failed_ns = 0

    async def measure(self, *, imports: bool) -> bool:
        """Kill and record; False when this pool will give no more numbers."""
        start = self._case.peer.start
        lost = start(work.hold_until, str(self._first), self._gate.path)
        lost.add_done_callback(self._note_failure)
        busy = start(work.hold_until, str(self._second), self._gate.path)
        try:
            return await self._kill_one(lost, imports=imports)
        finally:
            self._gate.open()
            await settled([busy], 3.0)
            await settled([lost], 0.05)

    async def _kill_one(self, lost: asyncio.Future[Any], *, imports: bool) -> bool:
        victim = await wait_started(self._first, 10.0)
        survivor = await wait_started(self._second, 10.0)
        if victim is None or survivor is None:
            return self._give_up("hangs" if self._second.exists() else "tasks did not start")
        watch = EndWatch(victim.pid)
        watch.start()
        killed_ns = time.monotonic_ns()
        os.kill(victim.pid, signal.SIGKILL)
        answered = await self._ask(imports=imports)
        if answered is None:
            return False
        ready_ns, answered_ns = answered
        await asyncio.get_running_loop().run_in_executor(None, watch.join)
        if imports:
            self._case.add(IMPORTED.key, (answered_ns - killed_ns) / 1e6)
        else:
            assert watch.ended_ns is not None, "the killed worker did not end"
            self._case.add(END.key, (watch.ended_ns - killed_ns) / 1e6)
            self._case.add(READY.key, (ready_ns - watch.ended_ns) / 1e6)
            self._case.add(ANSWER.key, (answered_ns - killed_ns) / 1e6)
            await settled([lost], 0.05)
            if self._failed_ns:
                self._case.add(NOTICED.key, (self._failed_ns - killed_ns) / 1e6)
        return True

    def _note_failure(self, _future: asyncio.Future[Any]) -> None:
        self._failed_ns = time.monotonic_ns()

    async def _ask(self, *, imports: bool) -> tuple[int, int] | None:
        """Ask for the time; return when the new worker read it, and when we had its answer.

        The clock is a builtin function, which needs no import in the new worker; ``work.now`` is
        the same in a module of the program. All processes read the same clock.
        """
        asked_ns = time.monotonic_ns()
        try:
            call = self._case.peer.begin(work.now if imports else time.monotonic_ns)
            ready_ns = await asyncio.wait_for(call, _GIVE_UP_SECONDS)
        except TimeoutError:
            self._give_up("hangs")
            return None
        except Exception as error:
            self._give_up(f"pool broken: {type(error).__name__}")
            return None
        answered_ns = time.monotonic_ns()
        assert asked_ns < ready_ns < answered_ns, "the clock was not read for this call"
        return ready_ns, answered_ns

    def _give_up(self, why: str) -> bool:
        for metric in (READY, ANSWER, IMPORTED):
            self._case.note(metric.key, why)
        return False


GOALS = (
    limit("replacement worker, from the old one's end", READY, 5),
    beside("kill to the replacement's first answer", ANSWER),
)

ROW = row(
    name="replacement",
    title="The replacement of a killed worker",
    about="One of 2 busy workers gets SIGKILL, and the pool is asked for the time at once, which "
    "only a new worker can tell. The kernel needs a while to end the killed process and free its "
    "memory; the pool then notices, starts another worker, and sends it the call. The goal is "
    "about the time from the request for a worker until it is ready; the third column, from the "
    "old one's end to the new one's first call, contains that and the noticing. The last column "
    "is the same with a function of a module, which the new worker imports first.",
    metrics=(END, NOTICED, READY, ANSWER, IMPORTED),
    run=run,
    goals=GOALS,
    quick_peers=("pebble",),
    is_outcome=True,
)

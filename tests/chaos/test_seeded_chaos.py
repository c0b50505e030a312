"""Seeded chaos with real signals: N tasks submitted = N outcomes, none twice, none lost.

Each run mixes calls that answer, raise, crash, exit, hang, are cancelled and time out, while a
tormentor stops, kills and segfaults workers at random. The seed is part of the test's name; run
one again with `OFFLOOP_CHAOS_SEED=7 make test-python PYTEST_ARGS="-k chaos"`.
"""

import collections
import concurrent.futures
import os
import random
import signal
import threading
from concurrent.futures.process import BrokenProcessPool

import pytest
from torment import Tormentor, send, workers_of_this_process

import calls
import fates
import offloop
from gates import children_of

TASKS = 250
SEEDS = [int(os.environ["OFFLOOP_CHAOS_SEED"])] if "OFFLOOP_CHAOS_SEED" in os.environ else range(6)

pytestmark = pytest.mark.timeout(150)


class Ledger:
    """What became of each task: every future must come to exactly one outcome."""

    def __init__(self) -> None:
        self.outcomes: dict[int, list[str]] = collections.defaultdict(list)
        self._lock = threading.Lock()

    def watch(self, number: int, future: concurrent.futures.Future) -> None:
        """Note every time that the future calls back."""
        future.add_done_callback(lambda done: self._note(number, done))

    def _note(self, number: int, future: concurrent.futures.Future) -> None:
        if future.cancelled():
            name = "cancelled"
        elif future.exception() is not None:
            name = type(future.exception()).__name__
        else:
            name = "value"
        with self._lock:
            self.outcomes[number].append(name)


CALLS = (fates.answer, fates.answer_late, fates.answer_large, fates.raise_value_error)
CRASHES = (fates.exit_without_a_word, fates.segfault)
ENDLESS = (fates.hang, fates.refuse)


def submit_mixture(pool, chance: random.Random, ledger: Ledger, log: str):
    """Submit every task with a fate drawn by the seed; endless ones always have an end."""
    futures = {}
    for number in range(TASKS):
        draw = chance.random()
        if draw < 0.86:
            future = pool.submit(chance.choice(CALLS), log, number)
            if draw < 0.05:
                future.cancel()
        elif draw < 0.92:
            future = pool.submit(chance.choice(CRASHES), log, number)
        elif draw < 0.96:
            view = pool.options(run_timeout=chance.uniform(0.02, 0.15))
            future = view.submit(chance.choice(ENDLESS), log, number)
        else:
            view = pool.options(timeout=chance.uniform(0.02, 3.0))
            future = view.submit(chance.choice(ENDLESS), log, number)
        ledger.watch(number, future)
        futures[number] = future
    return futures


def check_outcome(number: int, future: concurrent.futures.Future) -> None:
    """A value is the right value; an error is one of those that are documented."""
    if future.cancelled():
        return
    error = future.exception()
    if error is None:
        value = future.result()
        right = value == number if isinstance(value, int) else (value == number).all()
        assert right, f"task {number} got the value of another"
    else:
        assert isinstance(error, ValueError | BrokenProcessPool | offloop.DeadlineExceeded), error


@pytest.mark.parametrize("seed", SEEDS)
def test_every_task_has_one_outcome_whatever_happens_to_the_workers(seed, tmp_path):
    chance = random.Random(seed)
    ledger, log = Ledger(), str(tmp_path / "starts")
    limit = chance.choice([None, None, 7])
    with offloop.ProcessPool(3, grace=0.05, max_tasks_per_child=limit, preload=["fates"]) as pool:
        pool.submit(calls.echo, 1).result(20)
        tormentor = Tormentor(seed)
        tormentor.start()
        try:
            futures = submit_mixture(pool, chance, ledger, log)
            _, waiting = concurrent.futures.wait(futures.values(), timeout=90)
        finally:
            tormentor.stop()
        assert not waiting, f"seed {seed}: {len(waiting)} tasks have no outcome"
        for number, future in futures.items():
            check_outcome(number, future)
        assert pool.submit(calls.echo, "alive").result(20) == "alive"
    check_ledger(seed, ledger)
    check_starts(seed, log)


def check_ledger(seed: int, ledger: Ledger) -> None:
    """N submitted, N called back, each once."""
    assert len(ledger.outcomes) == TASKS, f"seed {seed}: outcomes are lost"
    twice = {number: names for number, names in ledger.outcomes.items() if len(names) != 1}
    assert not twice, f"seed {seed}: {twice}"


def check_starts(seed: int, log: str) -> None:
    """Without retries, no task starts twice."""
    with open(log) as lines:
        starts = collections.Counter(lines.read().split())
    twice = {number: count for number, count in starts.items() if count > 1}
    assert not twice, f"seed {seed}: started more than once: {twice}"


@pytest.mark.parametrize("seed", SEEDS)
def test_retried_tasks_survive_killed_workers(seed):
    chance = random.Random(seed)
    kills = 0
    with offloop.ProcessPool(2, retries=1000, preload=["fates"]) as pool:
        futures = [pool.submit(fates.work_a_little, number) for number in range(300)]
        for number, _ in enumerate(concurrent.futures.as_completed(futures, timeout=90)):
            workers = workers_of_this_process()
            if workers and number % 15 == chance.randrange(15):
                kills += send(chance.choice(workers), signal.SIGKILL)
        assert [future.result(0) for future in futures] == list(range(300))
    assert kills > 0, f"seed {seed} killed no process"


def test_zygotes_are_killed_under_load():
    chance = random.Random(3)
    with offloop.ProcessPool(2) as pool:
        for _ in range(8):
            futures = [pool.submit(fates.work_a_little, number) for number in range(60)]
            zygote = pool.submit(os.getppid)
            chance.shuffle(futures)
            futures[0].exception(30)
            if zygote.exception(30) is None and zygote.result() in children_of(os.getpid()):
                send(zygote.result(), signal.SIGKILL)
            for future in futures:
                error = future.exception(30)
                assert error is None or isinstance(error, offloop.WorkerCrashed), error
        assert pool.submit(calls.echo, 1).result(30) == 1

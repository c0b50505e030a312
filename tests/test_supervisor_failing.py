"""A supervisor that cannot go on: no future waits for ever, no call hangs, no worker lives on."""

import pytest

from gates import run_program

pytestmark = pytest.mark.quick

PREAMBLE = """
import asyncio
import os
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import calls
import offloop
from gates import OpenGate, Watched

BOUND_S = 20


def take_pollers():
    '''Close what the runtime's threads wait with; a program without a loop has no other.'''
    for name in os.listdir("/proc/self/fd"):
        try:
            kind = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if kind == "anon_inode:[eventpoll]":
            os.close(int(name))


def is_told(error):
    return type(error) is BrokenProcessPool and "the supervisor cannot wait" in str(error)


gate = OpenGate(Path(sys.argv[1]))
pool = offloop.ProcessPool(1)
assert pool.submit(abs, -1).result(BOUND_S) == 1
running = pool.submit(calls.sleep_for_ever, gate.paths)
worker = Watched(gate.wait_started())
queued = [pool.submit(abs, -number) for number in range(3)]
take_pollers()
# A call that needs another fleet wakes the supervisor, which finds that it cannot wait any more.
elsewhere = offloop.ProcessPool(1, preload=["json"]).submit(abs, -1)
"""


def run(tmp_path, rest):
    """Run the preamble and what follows it; the program must end by itself."""
    done = run_program(tmp_path, PREAMBLE + rest, str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_every_call_fails_and_its_worker_ends(tmp_path):
    lines = run(
        tmp_path,
        """
for future in (running, *queued):
    print(is_told(future.exception(BOUND_S)))
failed = elsewhere.exception(BOUND_S)
print(type(failed) is BrokenProcessPool)
worker.wait_exit()
pool.shutdown()
""",
    )
    assert lines == ["True"] * 5


def test_later_calls_are_refused_at_once(tmp_path):
    lines = run(
        tmp_path,
        """
running.exception(BOUND_S)
for later in (pool, offloop.ProcessPool(2)):
    try:
        later.submit(abs, -1)
    except BrokenProcessPool as error:
        print(is_told(error), "supervisor" in later._broken)
    later.shutdown()

async def main():
    try:
        await offloop.to_process(abs, -1)
    except BrokenProcessPool as error:
        print(is_told(error))
    return await asyncio.to_thread(abs, -1)

print(asyncio.run(main()))
""",
    )
    assert lines == ["True True"] * 2 + ["True", "1"]


def test_callbacks_still_run_and_one_that_waits_holds_up_no_other(tmp_path):
    lines = run(
        tmp_path,
        """
import threading

seen = threading.Event()
waited = []
running.add_done_callback(lambda _: waited.append(seen.wait(BOUND_S)))
queued[0].add_done_callback(lambda _: seen.set())
pool.shutdown()
print(waited, is_told(running.exception()))
""",
    )
    assert lines == ["[True] True"]

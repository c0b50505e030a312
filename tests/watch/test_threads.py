"""The threads of the watch: they sleep while nothing happens, and end with it."""

import asyncio
import os
import time

import pytest
from heard import THRESHOLD_SECONDS

import offloop
from gates import eventually, open_descriptors

pytestmark = pytest.mark.quick

QUIET_SECONDS = 10 * THRESHOLD_SECONDS
"""A watchdog that looked once in each threshold would wake up ten times in it."""


def watch_threads():
    """The kernel's ids of the watch's threads, by their names."""
    found = {}
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/comm") as file:
                name = file.read().strip()
        except FileNotFoundError:
            continue
        # The kernel keeps fifteen letters.
        if name in ("offloop-watchdo", "offloop-witness"):
            found[name] = thread
    return found


def wake_ups(thread):
    """How often a thread has gone to sleep so far."""
    with open(f"/proc/self/task/{thread}/status") as file:
        return next(line for line in file if line.startswith("voluntary_ctxt_switches"))


def is_quiet():
    """Whether no thread of the watch wakes up for a while."""
    before = {thread: wake_ups(thread) for thread in watch_threads().values()}
    time.sleep(QUIET_SECONDS)
    return before == {thread: wake_ups(thread) for thread in watch_threads().values()}


def test_no_thread_wakes_up_while_a_loop_waits(our_loop, heard):
    # A thread takes its name when it begins to run.
    eventually(lambda: set(watch_threads()) == {"offloop-watchdo", "offloop-witness"})

    async def main():
        # One wait: a loop that goes on is looked at for a second.
        await asyncio.to_thread(eventually, is_quiet)

    our_loop.run_until_complete(main())
    # What wakes it is a loop that goes on.
    our_loop.call_soon(heard.wait_found)
    our_loop.call_soon(our_loop.stop)
    our_loop.run_forever()
    heard.wait_over()


def test_threads_and_descriptors_end_with_the_watch(our_loop):
    def turn_on_and_off():
        with offloop.watch(THRESHOLD_SECONDS, words=False):
            our_loop.run_until_complete(asyncio.sleep(0))

    turn_on_and_off()
    before = open_descriptors()
    for _ in range(20):
        turn_on_and_off()
    eventually(lambda: watch_threads() == {})
    assert open_descriptors() == before


def test_loops_that_are_gone_are_let_go(heard):
    def run_one():
        with asyncio.Runner(loop_factory=offloop.new_event_loop) as runner:
            runner.run(asyncio.sleep(0))

    run_one()
    before = open_descriptors()
    for _ in range(200):
        run_one()
    eventually(lambda: open_descriptors() <= before + 2)
    assert set(watch_threads()) == {"offloop-watchdo", "offloop-witness"}

"""Tasks that are forgotten, or that nothing refers to."""

import asyncio
import gc
import socket
import subprocess
import sys
import textwrap
import weakref

import pytest

import offloop
from losing import brief, losses_of, watching
from watch_programs import line_of

KEPT: list = []


@pytest.fixture(autouse=True)
def nothing_is_kept():
    """What a scenario keeps goes with its test."""
    yield
    KEPT.clear()


async def rounds(count=3):
    """Let the loop run a few rounds."""
    for _ in range(count):
        await asyncio.sleep(0)


async def wait_for(future):
    await future  # waits


# Forgotten tasks.


def test_pending_task_is_forgotten_when_its_loop_is_closed(make_loop):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        KEPT.append(future)
        loop.create_task(wait_for(future), name="waiting")
        await rounds()
        loop.create_task(rounds(), name="not begun")

    losses = losses_of(make_loop, scenario)
    assert brief(losses) == [
        ("forgotten", "closed", "waiting"),
        ("forgotten", "closed", "not begun"),
    ]
    assert (losses[0].where.filename, losses[0].where.line) == (
        __file__,
        line_of(__file__, "waits"),
    )


def test_line_of_a_task_is_the_innermost_one_however_deep_it_waits(make_loop):
    async def within(depth, future):
        if depth:
            await within(depth - 1, future)
        else:
            await future  # the innermost

    async def scenario(seen):
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        KEPT.append(future)
        loop.create_task(within(200, future), name="deep")
        await rounds()

    (loss,) = losses_of(make_loop, scenario)
    assert loss.where.line == line_of(__file__, "the innermost")


def test_loop_that_refuses_to_be_closed_has_forgotten_nothing(make_loop):
    loop = make_loop()

    async def main():
        task = loop.create_task(rounds())
        with pytest.raises(RuntimeError):
            loop.close()
        await task

    with watching() as watch:
        loop.run_until_complete(main())
        loop.close()
        loop.close()
    assert watch.losses == []


def test_runner_that_cancels_what_is_pending_forgets_nothing(make_loop):
    async def main():
        KEPT.append(asyncio.create_task(wait_for(asyncio.Future())))
        await rounds()

    with watching() as watch, asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())
    assert watch.losses == []


PROGRAM = """
    import asyncio, sys
    import offloop
    from offloop._watch.lost import LossWatch

    def told(loss):
        print(loss.kind, loss.moment, loss.task.name, loss.where.line, flush=True)

    LossWatch(told).install()
    loop = {loop}()
    loop.set_exception_handler(lambda *_: None)

    async def wait(future):
        await future

    async def fail():
        raise ValueError

    async def main():
        global future, failed
        future = loop.create_future()
        loop.create_task(wait(future), name="forgotten")
        failed = loop.create_task(fail(), name="failed")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    """


@pytest.mark.parametrize("loop", ["asyncio.SelectorEventLoop", "offloop.new_event_loop"])
def test_pending_task_is_forgotten_when_the_program_ends(loop):
    source = textwrap.dedent(PROGRAM).replace("{loop}", loop)
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=50
    )
    lines = done.stdout.splitlines()
    assert lines == ["forgotten exit forgotten 14", "exception exit failed 17"], done.stderr


# Tasks that nothing refers to.


def dangle(loop):
    """Make a task that waits for a future which only the task knows."""
    loop.create_task(wait_for(loop.create_future()), name="dangling")


def test_task_that_nothing_refers_to_is_found(make_loop, no_collection):
    loop = make_loop()
    loop.set_exception_handler(lambda *_: None)
    with watching(loop) as watch:
        dangle(loop)
        loop.create_task(wait_for(KEPT_FUTURE := loop.create_future()), name="kept")
        loop.run_until_complete(rounds())
        watch.look(loop)
        watch.look(loop)
        assert brief(watch.losses) == [("dangling", "idle", "dangling")]
        assert watch.losses[0].where.line == line_of(__file__, "waits")
        KEPT_FUTURE.cancel()
        loop.run_until_complete(rounds())
        gc.collect()
        loop.close()
    assert len(watch.losses) == 1


def test_task_that_nothing_refers_to_is_told_of_when_it_is_collected(make_loop):
    async def scenario(seen):
        dangle(asyncio.get_running_loop())
        await rounds()
        gc.collect()
        seen.append("collected")

    losses = losses_of(make_loop, scenario)
    assert brief(losses) == [("dangling", "collected", "dangling")]
    assert losses[0].task.coroutine == "wait_for"


HELD = {
    "by a queue": lambda: KEPT[-1].get(),
    "by an event": lambda: KEPT[-1].wait(),
    "by a timer": lambda: asyncio.sleep(600),
    "by a thread": lambda: asyncio.to_thread(KEPT[-1].wait),
    "by a socket": lambda: asyncio.get_running_loop().sock_recv(KEPT[-1], 1),
}


@pytest.mark.parametrize("how", HELD)
def test_task_that_can_be_woken_is_no_loss(make_loop, how):
    import threading

    async def main():
        if how == "by a socket":
            KEPT.extend(socket.socketpair())
            KEPT[-1].setblocking(False)
        else:
            kinds = {"by a queue": asyncio.Queue, "by an event": asyncio.Event}
            KEPT.append(kinds.get(how, threading.Event)())
        task = asyncio.create_task(HELD[how](), name="held")
        reference = weakref.ref(task)
        del task
        await rounds()
        watch.look(asyncio.get_running_loop())
        if how == "by a thread":
            KEPT[-1].set()
        reference().cancel()
        await rounds()
        for each in KEPT:
            if how == "by a socket":
                each.close()

    with watching() as watch, asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())
    assert watch.losses == []


# What is left of a loop.


def test_closed_loop_leaves_nothing_to_be_collected(make_loop):
    async def main():
        await asyncio.create_task(rounds())

    def run():
        loop = make_loop()
        loop.run_until_complete(main())
        loop.close()

    with offloop.watch(words=False):
        # What is made once for all loops is made now.
        run()
        gc.collect()
        gc.disable()
        try:
            run()
            assert gc.collect() == 0
        finally:
            gc.enable()

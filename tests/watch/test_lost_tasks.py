"""Tasks that are forgotten, that nothing refers to, or that await each other in a circle."""

import asyncio
import contextlib
import gc
import selectors
import socket
import subprocess
import sys
import textwrap
import weakref

import anyio
import pytest

import offloop
from losing import brief, losses_of, watching
from offloop._watch import loop_losses
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
    import socket
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


# Circles.

SHAPES = {
    "await": lambda task: task,
    "gather": lambda task: asyncio.gather(task, asyncio.sleep(0)),
    "gather of gather": lambda task: asyncio.gather(asyncio.gather(task)),
    "shield": asyncio.shield,
    "wait": lambda task: asyncio.wait([task]),
    "wait of two": lambda task: asyncio.wait([task, asyncio.ensure_future(asyncio.sleep(0))]),
    "wait_for": lambda task: asyncio.wait_for(task, None),
}


async def first(shape, task):
    await SHAPES[shape](task)  # the first waits


async def second(others):
    await others[0]  # the second waits


def make_circle(loop, shape):
    """Two tasks that await each other."""
    others = []
    others.append(loop.create_task(first(shape, loop.create_task(second(others), name="second"))))
    others[0].set_name("first")
    return others


def break_circle(loop, others):
    """End the two tasks, whose wait a plain cancel would follow for ever."""
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False
    others.clear()


@pytest.mark.parametrize("shape", SHAPES)
def test_circle_is_explained_line_by_line(make_loop, shape):
    loop = make_loop()
    with watching(loop) as watch:
        others = make_circle(loop, shape)
        loop.run_until_complete(rounds(6))
        watch.look(loop)
        watch.look(loop)
        (loss,) = watch.losses
        break_circle(loop, others)
        watch.remove()
        loop.close()
    assert (loss.kind, loss.moment, loss.task) == ("deadlock", "idle", None)
    found = [(each.name, each.coroutine, each.where.line) for each in loss.circle]
    assert found == [
        ("first", "first", line_of(__file__, "the first waits")),
        ("second", "second", line_of(__file__, "the second waits")),
    ]


def test_circle_through_a_task_group(make_loop):
    async def main():
        me = asyncio.current_task()

        async def member():
            await me

        async with asyncio.TaskGroup() as group:  # the owner waits
            group.create_task(member(), name="member")

    loop = make_loop()
    with watching(loop) as watch:
        owner = loop.create_task(main(), name="owner")
        loop.run_until_complete(rounds())
        watch.look(loop)
        (loss,) = watch.losses
        assert [each.name for each in loss.circle] == ["owner", "member"]
        assert loss.circle[0].where.line == line_of(__file__, "the owner waits")
        break_circle(loop, [owner])
        watch.remove()
        loop.close()


async def with_outsider(task):
    outsider = asyncio.get_running_loop().create_future()
    KEPT.append(outsider)
    await asyncio.wait([task, outsider])


async def in_block(task):
    async with asyncio.timeout(600):
        await asyncio.shield(task)


async def in_inner_block(task):
    @contextlib.contextmanager
    def block():
        with anyio.fail_after(600):
            yield

    with block():
        await task


OPEN = {
    "one of two can be woken": with_outsider,
    "gathered with another": lambda task: asyncio.gather(task, asyncio.sleep(600)),
    "within a block that ends": in_block,
    "within a block of anyio's": in_inner_block,
    "within a time": lambda task: asyncio.wait_for(task, 600),
    "any of two": lambda task: asyncio.wait(
        [task, asyncio.ensure_future(asyncio.sleep(600))], return_when=asyncio.FIRST_COMPLETED
    ),
}


@pytest.mark.parametrize("how", OPEN)
def test_circle_that_another_task_can_open_is_no_deadlock(make_loop, how):
    loop = make_loop()
    others = []

    async def one():
        await OPEN[how](others[1])

    async def other():
        await others[0]

    with watching(loop) as watch:
        others += [loop.create_task(one()), loop.create_task(other())]
        loop.run_until_complete(rounds(6))
        watch.look(loop)
        assert watch.losses == []
        break_circle(loop, others)
        watch.remove()
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False
        loop.close()


def test_tasks_that_await_a_future_of_the_program_are_no_deadlock(make_loop):
    async def main():
        KEPT.append(asyncio.get_running_loop().create_future())
        inner = asyncio.create_task(wait_for(KEPT[0]))
        outer = asyncio.create_task(wait_for(inner))
        await rounds()
        watch.look(asyncio.get_running_loop())
        KEPT[0].set_result(None)
        await outer

    with watching() as watch, asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())
    assert watch.losses == []


# On a loop of ours, without being asked.


@pytest.mark.parametrize("make", [asyncio.new_event_loop, offloop.new_event_loop])
@pytest.mark.parametrize("busy", ["a descriptor", "nothing"])
def test_loop_finds_a_circle_by_itself(make, busy):
    loop = make()
    found = []
    ours, theirs = socket.socketpair()

    def told(loss):
        found.append(loss.kind)
        loop.call_soon(loop.stop)

    with offloop.watch(on_loss=told, words=False):
        if busy == "a descriptor":
            loop.add_reader(ours, found.append, "read")
        others = make_circle(loop, "await")
        loop.run_forever()
        break_circle(loop, others)
    loop.close()
    ours.close()
    theirs.close()
    assert found == ["deadlock"]


@pytest.mark.parametrize("make", [asyncio.new_event_loop, offloop.new_event_loop])
def test_a_circle_inside_of_a_time_limit_of_another_task_is_no_deadlock(make):
    found = []

    async def first(tasks):
        await asyncio.wait(tasks)

    async def main():
        tasks = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.2), asyncio.TaskGroup() as group:
                tasks.append(group.create_task(first(tasks)))
                tasks.append(group.create_task(wait_for(tasks[0])))
        return tasks

    with offloop.watch(on_loss=found.append, words=False):
        with asyncio.Runner(loop_factory=make) as runner:
            tasks = runner.run(main())
    assert [task.cancelled() for task in tasks] == [True, True]
    assert found == []


@pytest.mark.parametrize("arguments", [(), (0.01,), (None,)])
def test_a_selector_may_be_asked_by_hand(arguments):
    ours, theirs = socket.socketpair()
    theirs.send(b"x")

    async def main():
        selector = asyncio.get_running_loop()._selector
        selector.register(ours, selectors.EVENT_READ)
        found = [selector.select(*arguments), selector.select(timeout=0.01)]
        selector.unregister(ours)
        return [[key.fileobj for key, _ in ready] for ready in found]

    with offloop.watch(words=False):
        assert asyncio.run(main()) == [[ours], [ours]]
    ours.close()
    theirs.close()


def test_a_loop_whose_selector_is_the_programs_own_waits_as_it_says():
    waits = []

    class Selector(selectors.DefaultSelector):
        def select(self, timeout=None):
            waits.append(timeout)
            loop.stop()
            return super().select(0)

    loop = asyncio.SelectorEventLoop(Selector())
    with offloop.watch(words=False):
        for _ in range(3):
            loop.run_forever()
    loop.close()
    assert waits == [None, None, None]


@pytest.mark.parametrize("limit", [2, 1])
def test_many_tasks_are_looked_through_only_if_that_is_asked_for(make_loop, limit, monkeypatch):
    monkeypatch.setattr(loop_losses, "IDLE_TASKS_MAX", limit)
    monkeypatch.setattr(loop_losses, "BUSY_TASKS_MAX", limit)
    loop = make_loop()
    with watching(loop) as watch:
        others = make_circle(loop, "await")
        loop.run_until_complete(rounds())
        watch.idle(loop, for_ever=True)
        assert [loss.kind for loss in watch.losses] == ["deadlock"] * (limit == 2)
        watch.look(loop)
        assert [loss.kind for loss in watch.losses] == ["deadlock"]
        break_circle(loop, others)
        watch.remove()
        loop.close()


def test_idle_loop_of_ours_looks_again_soon():
    loop = offloop.new_event_loop()
    looks = []
    others = []

    def idle(found, for_ever):
        looks.append(found is loop and for_ever)
        if len(looks) == 3:
            loop.stop()
        else:
            # What another thread wakes the loop for comes too early for the next look.
            loop.call_soon_threadsafe(others.append, len(looks))

    loop._watch_tasks(idle=idle)
    loop.run_forever()
    loop._watch_tasks()
    loop.close()
    assert (looks, others) == ([True] * 3, [1, 2])


@pytest.mark.parametrize("busy", ["a timer", "a descriptor", "nothing"])
def test_loop_of_ours_says_whether_it_waits_for_ever(busy):
    loop = offloop.new_event_loop()
    looks = []
    ours, theirs = socket.socketpair()
    if busy == "a descriptor":
        loop.add_reader(ours, loop.stop)
        theirs.send(b"x")
    elif busy == "a timer":
        loop.call_later(0.001, loop.stop)

    def idle(_loop, for_ever):
        looks.append(for_ever)
        loop.stop()

    loop._watch_tasks(idle=idle)
    loop.run_forever()
    loop.close()
    ours.close()
    theirs.close()
    assert looks == {"a timer": [], "a descriptor": [False], "nothing": [True]}[busy]


def test_what_a_look_raises_is_unraisable(monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda about: unraisable.append(about.exc_value))
    loop = offloop.new_event_loop()
    error = LookupError("of a look")

    def idle(_loop, _for_ever):
        loop.call_soon(loop.stop)
        raise error

    loop._watch_tasks(idle=idle)
    loop.run_forever()
    loop.close()
    assert unraisable == [error]


def test_loop_of_ours_lets_go_of_what_hears_of_it():
    class Listener:
        def hear(self, *_about):
            """Be called with the loop or a task."""

    listener = Listener()
    reference = weakref.ref(listener)
    loop = offloop.new_event_loop()
    loop._watch_tasks(type(None), None, listener.hear)
    listener.loop = loop
    loop.close()
    del loop, listener
    gc.collect()
    assert reference() is None


def test_steps_of_another_kind_are_refused():
    loop = offloop.new_event_loop()
    with pytest.raises(TypeError, match="__self__"):
        loop._watch_tasks(int, print, None)
    loop.close()

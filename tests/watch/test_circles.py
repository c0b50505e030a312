"""Tasks that await each other in a circle, and when a loop is looked through for them."""

import asyncio
import contextlib
import gc
import selectors
import socket
import sys
import weakref

import anyio
import pytest

import offloop
from losing import watching
from offloop._watch import deadlock, loop_losses
from offloop._watch.foreign import Announcements
from watch_programs import line_of

KEPT: list = []


@pytest.fixture(autouse=True)
def nothing_is_kept():
    """What a scenario keeps goes with its test."""
    yield
    KEPT.clear()


@pytest.fixture
def moment(make_loop, monkeypatch):
    """When a circle is told of. uvloop does not say which timers it has: after a grace there."""
    if make_loop in KNOWN:
        return "idle"
    monkeypatch.setattr(deadlock, "GRACE_SECONDS", 0.0)
    return "grace"


async def rounds(count=3):
    """Let the loop run a few rounds."""
    for _ in range(count):
        await asyncio.sleep(0)


async def wait_for(future):
    await future  # waits


KNOWN = [asyncio.SelectorEventLoop, offloop.new_event_loop]


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
def test_circle_is_explained_line_by_line(make_loop, moment, shape):
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
    assert (loss.kind, loss.moment, loss.task) == ("deadlock", moment, None)
    found = [(each.name, each.coroutine, each.where.line) for each in loss.circle]
    assert found == [
        ("first", "first", line_of(__file__, "the first waits")),
        ("second", "second", line_of(__file__, "the second waits")),
    ]


def test_circle_through_a_task_group(make_loop, moment):
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
        assert (loss.moment, loss.is_certain) == (moment, moment == "idle")
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


@pytest.mark.parametrize("make", KNOWN)
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


@pytest.mark.parametrize("make", KNOWN)
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


@pytest.mark.parametrize("make", KNOWN)
def test_a_limit_of_time_that_is_set_again_and_again_is_seen(make):
    found, limits = [], []

    async def first(tasks):
        for _ in range(6):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await asyncio.shield(tasks[1])
            limits.append(asyncio.get_running_loop().time())
        tasks.clear()

    async def main():
        tasks = []
        tasks.append(asyncio.create_task(first(tasks)))
        tasks.append(asyncio.create_task(wait_for(tasks[0])))
        await asyncio.wait(tasks)

    with offloop.watch(on_loss=found.append, words=False):
        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(main())
    assert (len(limits), found) == (6, [])


def tick(loop, seconds):
    """Have a timer run at any time, as servers do."""
    loop.call_later(seconds, tick, loop, seconds)


@pytest.mark.parametrize("seconds", [0.05, 0.5])
def test_a_circle_beside_timers_is_found_when_these_have_fired(make_loop, seconds, monkeypatch):
    # uvloop does not say which timers it has.
    monkeypatch.setattr(deadlock, "GRACE_SECONDS", 5.0 if make_loop in KNOWN else 0.5)
    loop = make_loop()
    found = []

    def told(loss):
        found.append((loss.kind, loss.is_certain))
        loop.call_soon(loop.stop)

    with offloop.watch(on_loss=told, words=False):
        tick(loop, seconds)
        others = make_circle(loop, "await")
        loop.run_forever()
        break_circle(loop, others)
    loop.close()
    assert found == [("deadlock", make_loop in KNOWN)]


@pytest.mark.parametrize("make", KNOWN)
def test_a_loop_wakes_to_tell_of_a_circle_that_a_far_timer_might_end(make, monkeypatch):
    monkeypatch.setattr(deadlock, "GRACE_SECONDS", 0.3)
    loop = make()
    found = []

    def told(loss):
        found.append((loss.kind, loss.moment))
        loop.call_soon(loop.stop)

    with offloop.watch(on_loss=told, words=False):
        loop.call_later(600, found.append, "the timer")
        others = make_circle(loop, "await")
        loop.run_forever()
        break_circle(loop, others)
    loop.close()
    assert found == [("deadlock", "grace")]


@pytest.mark.parametrize("make", KNOWN)
def test_last_timer_of_a_loop(make):
    loop = make()
    assert loop_losses._timers_end_in(loop) == 0
    handles = [loop.call_later(seconds, print) for seconds in (60, 600, 6_000)]
    assert 5_900 < loop_losses._timers_end_in(loop) < 6_000
    handles[2].cancel()
    assert 500 < loop_losses._timers_end_in(loop) < 600
    handles[0].cancel()
    handles[1].cancel()
    assert loop_losses._timers_end_in(loop) == 0
    loop.close()


def test_short_runs_of_a_loop_share_the_pace_of_its_looks():
    looks = []
    announcements = Announcements(lambda *about: looks.append(about))
    announcements.set_threshold(1)
    announcements.install()
    loop = asyncio.SelectorEventLoop()
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0.001))
    announcements.remove()
    assert looks == [(loop, False)]
    loop.close()


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
def test_many_tasks_are_looked_through_only_if_that_is_asked_for(
    make_loop, moment, limit, monkeypatch
):
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
    assert looks == {"a timer": [False], "a descriptor": [False], "nothing": [True]}[busy]


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

"""Exceptions that nothing sees are told of at once, and only these."""

import asyncio
import gc
import sys

import pytest

import offloop
from losing import brief, losses_of, seen_in, watching
from watch_programs import line_of

KEPT: list = []


@pytest.fixture(autouse=True)
def nothing_is_kept():
    """What a scenario keeps goes with its test."""
    yield
    KEPT.clear()


async def fail():
    raise ValueError("the reason")  # raises


async def rounds(count=3):
    """Let the loop run a few rounds."""
    for _ in range(count):
        await asyncio.sleep(0)


async def beats():
    """Let a loop that is not ours look twice which tasks are over.

    The standard loop does that when it has nothing else to do. uvloop does it at each beat, a timer
    that is set anew each time, for a millisecond.
    """
    for _ in range(3):
        await asyncio.sleep(0.005)


def test_task_that_nothing_refers_to_is_told_of_when_it_ends(make_loop):
    async def scenario(seen):
        asyncio.create_task(fail(), name="alone")  # makes the one that is alone
        await rounds()
        seen.append("went on")

    (loss,) = losses_of(make_loop, scenario)
    assert brief([loss]) == [("exception", "collected", "alone")]
    assert (loss.what, loss.is_certain, loss.number) == ("ValueError: the reason", True, 1)
    assert (loss.where.filename, loss.where.line) == (__file__, line_of(__file__, "raises"))
    assert loss.task.coroutine == "fail"
    made = line_of(__file__, "makes the one that is alone")
    assert (loss.task.made.filename, loss.task.made.line) == (__file__, made)


def test_task_that_only_its_own_circle_refers_to_is_told_of_when_it_ends(make_loop):
    class Service:
        def start(self):
            self.task = asyncio.create_task(self.run(), name="circle")

        async def run(self):
            raise KeyError("a key")

    async def scenario(seen):
        Service().start()
        await rounds()
        await beats()
        seen.append("went on")

    gc.disable()
    try:
        losses = losses_of(make_loop, scenario)
    finally:
        gc.enable()
    assert brief(losses) == [("exception", "ended", "circle")]
    # asyncio tells of it when it is collected.
    seen = seen_in(make_loop, scenario)
    assert [each[0] if isinstance(each, tuple) else each for each in seen] == [
        "went on",
        "collected now",
        "report",
    ]


def test_task_that_is_kept_is_told_of_after_a_grace(make_loop):
    async def scenario(seen):
        KEPT.append(asyncio.create_task(fail(), name="kept"))
        await rounds()
        await beats()
        seen.append("went on")
        KEPT.clear()
        await rounds()

    (loss,) = losses_of(make_loop, scenario, grace_seconds=0)
    assert brief([loss]) == [("exception", "grace", "kept")]
    assert not loss.is_certain


def test_a_loop_that_waits_for_ever_tells_of_a_kept_task_after_its_grace(make_loop, monkeypatch):
    monkeypatch.setattr(offloop.watch._losses, "grace_seconds", 0.2)
    loop = make_loop()
    found = []

    def told(loss):
        found.append((loss.kind, loss.moment))
        loop.call_soon(loop.stop)

    with offloop.watch(on_loss=told, words=False):
        KEPT.append(loop.create_task(fail(), name="kept"))
        loop.run_forever()
    assert found == [("exception", "grace")]
    assert isinstance(KEPT.pop().exception(), ValueError)
    loop.close()


@pytest.mark.parametrize("make", [asyncio.SelectorEventLoop, offloop.new_event_loop])
def test_a_grace_is_no_timer_of_the_programs_loop(make):
    async def main():
        KEPT.append(asyncio.create_task(fail(), name="kept"))
        await rounds()
        return list(asyncio.get_running_loop()._scheduled)

    with watching(), asyncio.Runner(loop_factory=make) as runner:
        assert runner.run(main()) == []
        assert isinstance(KEPT.pop().exception(), ValueError)


def test_kept_task_is_told_of_once_when_its_circle_is_collected(make_loop):
    async def scenario(seen):
        async def fail_in_circle():
            raise ValueError(asyncio.current_task())

        KEPT.append(asyncio.create_task(fail_in_circle(), name="circle"))
        await rounds()
        await beats()
        KEPT.clear()
        gc.collect()

    losses = losses_of(make_loop, scenario, grace_seconds=0)
    assert brief(losses) == [("exception", "grace", "circle")]


def test_each_of_many_kept_tasks_is_told_of_once(make_loop):
    async def scenario(seen):
        for number in range(20):
            KEPT.append(asyncio.create_task(fail(), name=f"{number:02}"))
            await rounds(number % 3)
        await rounds()
        await beats()
        KEPT.clear()

    losses = losses_of(make_loop, scenario, grace_seconds=0)
    assert sorted(loss.task.name for loss in losses) == [f"{number:02}" for number in range(20)]


def test_kept_task_within_its_grace_is_told_of_when_the_loop_is_closed(make_loop):
    async def scenario(seen):
        KEPT.append(asyncio.create_task(fail(), name="kept"))
        await rounds()

    assert brief(losses_of(make_loop, scenario)) == [("exception", "closed", "kept")]


SEEN = {}


def sees(scenario):
    """A scenario in which each exception is seen."""
    SEEN[scenario.__name__] = scenario
    return scenario


@sees
async def awaited(seen):
    with pytest.raises(ValueError):
        await asyncio.create_task(fail())


@sees
async def awaited_by_two(seen):
    task = asyncio.create_task(fail())

    async def wait():
        with pytest.raises(ValueError):
            await task

    await asyncio.gather(wait(), wait())


@sees
async def awaited_later(seen):
    task = asyncio.create_task(fail())
    await rounds(10)
    with pytest.raises(ValueError):
        await task


@sees
async def asked_for_in_a_callback(seen):
    task = asyncio.create_task(fail())
    task.add_done_callback(lambda task: seen.append(repr(task.exception())))
    del task
    await rounds()


@sees
async def gathered(seen):
    with pytest.raises(ValueError):
        await asyncio.gather(fail(), fail(), asyncio.sleep(0))
    seen += map(str, await asyncio.gather(fail(), fail(), return_exceptions=True))


@sees
async def waited_for(seen):
    done, _ = await asyncio.wait([asyncio.create_task(fail())])
    seen += [str(task.exception()) for task in done]
    with pytest.raises(ValueError):
        await asyncio.wait_for(fail(), 60)


@sees
async def shielded(seen):
    with pytest.raises(ValueError):
        await asyncio.shield(fail())


@sees
async def in_a_group(seen):
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(asyncio.sleep(60))


@sees
async def in_their_order(seen):
    for each in asyncio.as_completed([fail(), fail()]):
        with pytest.raises(ValueError):
            await each


@sees
async def cancelled(seen):
    task = asyncio.create_task(asyncio.sleep(60))
    await rounds()
    task.cancel()
    del task
    await rounds()


@pytest.mark.parametrize("name", SEEN)
def test_exception_that_is_seen_is_no_loss(make_loop, name):
    assert losses_of(make_loop, SEEN[name]) == []


def test_exception_of_the_outermost_coroutine_is_seen(make_loop):
    async def scenario(seen):
        raise RuntimeError("of the whole")

    assert losses_of(make_loop, scenario) == []


def test_future_is_told_of_when_it_is_collected(make_loop):
    async def scenario(seen):
        asyncio.get_running_loop().create_future().set_exception(ValueError("of a future"))
        await rounds()

    (loss,) = losses_of(make_loop, scenario)
    assert brief([loss]) == [("exception", "collected", "ValueError: of a future")]
    assert loss.task is None


def test_each_of_many_futures_in_one_place_of_memory_is_told_of(make_loop):
    async def scenario(seen):
        places = set()
        for number in range(10):
            future = asyncio.get_running_loop().create_future()
            places.add(id(future))
            future.set_exception(ValueError(number))
            del future
            await asyncio.sleep(0)
        assert len(places) < 10

    losses = losses_of(make_loop, scenario)
    assert [loss.what for loss in losses] == [f"ValueError: {number}" for number in range(10)]


def test_debug_mode_says_where_the_task_was_made(make_loop):
    async def scenario(seen):
        asyncio.get_running_loop().set_debug(True)
        task = asyncio.create_task(fail())  # makes it
        entry = task._source_traceback[-1]
        seen.append((entry.filename, entry.lineno))
        del task
        await rounds()

    (loss,) = losses_of(make_loop, scenario)
    assert (loss.task.made.filename, loss.task.made.line) == (
        __file__,
        line_of(__file__, "makes it"),
    )


def test_order_of_callbacks_is_the_same(make_loop):
    async def scenario(seen):
        loop = asyncio.get_running_loop()

        async def work(name, ending):
            seen.append((name, "begins"))
            loop.call_soon(seen.append, (name, "soon"))
            await asyncio.sleep(0)
            seen.append((name, "ends"))
            if ending == "fails":
                raise ValueError(name)

        for number, ending in enumerate(["fails", "returns", "fails"]):
            task = asyncio.create_task(work(f"first {number}", ending))
            task.add_done_callback(lambda task: seen.append(("done", task.get_coro().__name__)))
            asyncio.create_task(work(f"second {number}", ending))
            del task
        for _ in range(8):
            loop.call_soon(seen.append, "between")
            await asyncio.sleep(0)

    assert len(losses_of(make_loop, scenario)) == 4


if sys.version_info >= (3, 12):

    @pytest.mark.parametrize("kept", [False, True])
    @pytest.mark.parametrize("make_loop", [asyncio.SelectorEventLoop, offloop.new_event_loop])
    def test_eager_task_that_fails_at_once(make_loop, kept):
        async def scenario(seen):
            loop = asyncio.get_running_loop()
            loop.set_task_factory(asyncio.eager_task_factory)
            task = loop.create_task(fail(), name="eager")
            seen.append(task.done())
            KEPT.extend([task] * kept)
            del task
            await rounds()
            await beats()
            KEPT.clear()
            await rounds()

        (loss,) = losses_of(make_loop, scenario, grace_seconds=0)
        assert (loss.kind, loss.task.name) == ("exception", "eager")
        assert loss.moment == "grace" if kept else loss.is_certain


def test_interrupt_that_ends_a_task_goes_on(make_loop):
    loop = make_loop()

    async def interrupt():
        raise KeyboardInterrupt

    async def main():
        KEPT.append(asyncio.create_task(interrupt(), name="interrupted"))
        await rounds()

    with watching() as watch:
        coroutine = main()
        task = loop.create_task(coroutine)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        loop.run_until_complete(task)
        loop.close()
    # The run has raised it.
    assert watch.losses == []


def test_what_the_callback_raises_is_unraisable(make_loop, monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda about: unraisable.append(about.exc_value))
    error = LookupError("of the callback")

    def told(loss):
        raise error

    async def scenario(seen):
        asyncio.create_task(fail(), name="alone")
        await rounds()
        seen.append("went on")

    assert len(losses_of(make_loop, scenario, told=told)) == 1
    assert unraisable == [error]


def test_text_of_an_exception_runs_no_code(make_loop):
    class Mute(ValueError):
        def __str__(self):
            raise AssertionError

        __repr__ = __str__

    class Talkative(Exception):
        @property
        def args(self):
            raise AssertionError

    async def fail_with(error):
        raise error

    async def main():
        errors = Mute("text"), Mute(object()), Talkative(1), Mute()
        KEPT.extend(asyncio.create_task(fail_with(error)) for error in errors)
        await rounds()

    loop = make_loop()
    loop.set_exception_handler(lambda *_: None)
    with watching() as watch:
        loop.run_until_complete(main())
        loop.close()
    name = "test_text_of_an_exception_runs_no_code.<locals>"
    whats = [f"{name}.Mute: text", f"{name}.Mute", f"{name}.Talkative: 1", f"{name}.Mute"]
    assert [loss.what for loss in watch.losses] == whats
    KEPT.clear()


def test_loop_of_ours_keeps_its_native_methods():
    loop = offloop.new_event_loop()
    with watching(loop):
        assert "create_task" not in vars(type(loop))
    loop.close()

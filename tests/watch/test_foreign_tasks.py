"""Tasks of a loop that is not ours: the watch sees which are over, and the program sees nothing."""

import asyncio
import gc
import inspect
import re
import weakref

import pytest

import offloop
from losing import brief, losses_of, watching

KEPT: list = []


@pytest.fixture(autouse=True)
def nothing_is_kept():
    """What a scenario keeps goes with its test."""
    yield
    KEPT.clear()


async def fail():
    raise ValueError("the reason")


async def wait(future):
    await future


def test_no_task_has_a_callback_of_ours(make_loop):
    async def main():
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(wait(loop.create_future()), name="waits")
        await asyncio.sleep(0)
        text = re.sub("0x[0-9a-f]+", "", repr(task))
        task.cancel()
        return text

    with asyncio.Runner(loop_factory=make_loop) as runner:
        text = runner.run(main())
        with watching():
            # The loop is known from its first run on.
            runner.run(asyncio.sleep(0))
            assert runner.run(main()) == text


def test_create_task_is_the_method_that_it_was(make_loop):
    loop = make_loop()
    before = type(loop).create_task
    signature = inspect.signature(loop.create_task) if has_signature(before) else None
    with watching(loop):
        method = loop.create_task
        if isinstance(loop, offloop.EventLoop):
            assert type(loop).create_task is before
        else:
            assert inspect.ismethod(method)
            assert (method.__self__, method.__func__) == (loop, type(loop).create_task)
            assert type(loop).create_task.__wrapped__ is before
        assert (method.__name__, method.__doc__) == (before.__name__, before.__doc__)
        if signature is not None:
            assert inspect.signature(method) == signature
        with pytest.raises(TypeError):
            loop.create_task()
        with pytest.raises(TypeError):
            type(loop).create_task()
    loop.close()


def test_a_class_that_takes_the_method_over_has_it():
    """As our own loop does, and as proxies of loops do."""

    async def main():
        task = asyncio.create_task(asyncio.sleep(0, "slept"))
        return await task

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner, watching():
        runner.run(asyncio.sleep(0))
        taken = asyncio.SelectorEventLoop.create_task

        class Other(asyncio.SelectorEventLoop):
            create_task = taken

        class Unrelated(asyncio.BaseEventLoop):
            create_task = taken

        unrelated = Unrelated()
        slept = asyncio.sleep(0)
        assert unrelated.create_task(slept).cancel()
        slept.close()
        unrelated.close()
        for make_loop in (offloop.new_event_loop, Other):
            with asyncio.Runner(loop_factory=make_loop) as other:
                assert other.run(main()) == "slept"


def has_signature(method):
    """Whether Python knows what a method takes: it does not of C's without a text of that."""
    try:
        inspect.signature(method)
    except ValueError:
        return False
    return True


def test_a_method_that_is_replaced_meanwhile_is_called(monkeypatch):
    seen = []
    created = asyncio.BaseEventLoop.create_task

    def create_task(loop, coroutine, **options):
        seen.append(coroutine.__qualname__)
        return created(loop, coroutine, **options)

    async def main():
        await asyncio.create_task(asyncio.sleep(0))
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.BaseEventLoop, "create_task", create_task)
            await asyncio.create_task(asyncio.sleep(0), name="seen")
        await asyncio.create_task(asyncio.sleep(0))

    with watching(), asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(asyncio.sleep(0))
        runner.run(main())
    assert seen == ["sleep"]


class OwnTime(asyncio.SelectorEventLoop):
    """It may not be woken earlier than it asks for."""

    def time(self):
        """Seconds of a clock of its own."""
        return super().time() + 1_000


class OwnTasks(asyncio.SelectorEventLoop):
    """It has a method of its own for tasks."""

    made: list

    def create_task(self, coroutine, **options):
        """Also counts."""
        vars(self).setdefault("made", []).append(coroutine.__qualname__)
        return super().create_task(coroutine, **options)


@pytest.mark.parametrize("kind", [OwnTime, OwnTasks])
def test_a_loop_of_a_class_of_its_own_loses_nothing_unseen(kind):
    async def scenario(seen):
        asyncio.create_task(fail(), name="alone")
        KEPT.append(asyncio.create_task(fail(), name="kept"))
        for _ in range(5):
            await asyncio.sleep(0.005)
        seen.append(getattr(asyncio.get_running_loop(), "made", None))
        KEPT.clear()

    found = brief(losses_of(kind, scenario, grace_seconds=0))
    assert sorted(found) == [("exception", "collected", "alone"), ("exception", "grace", "kept")]


def weak_references():
    """How many there are."""
    return sum(type(each) is weakref.ref for each in gc.get_objects())


def test_tasks_that_come_and_go_leave_nothing_while_the_loop_does_not_look():
    loop = asyncio.SelectorEventLoop()
    more = []

    async def end():
        pass

    def make_many():
        before = weak_references()
        for _ in range(10_000):
            loop.create_task(end())
            # Its only step.
            loop._ready.pop()._run()
        gc.collect()
        more.append(weak_references() - before)
        loop.stop()

    with watching(loop):
        loop.call_soon(make_many)
        loop.run_forever()
    loop.close()
    assert more[0] <= 2_000

"""Where tasks are made is known while a watch is on, without the debug mode."""

import asyncio
import gc
import sys

import pytest

from losing import watching
from offloop._watch import makers
from offloop._watch.facts import facts_of_task
from watch_programs import line_of


async def nothing():
    """End at once."""


async def make_in_group(found):
    async with asyncio.TaskGroup() as group:
        found.append(group.create_task(nothing()))  # in a group


async def make_on_loop(found):
    found.append(asyncio.get_running_loop().create_task(nothing(), name="named"))  # on the loop


async def make_from_nothing(found):
    found.append(asyncio.ensure_future(nothing()))  # ensures a future


async def make_by_gather(found):
    found += asyncio.gather(nothing())._children  # gathers


async def make_by_function(found):
    await asyncio.create_task(nothing())
    found.append(asyncio.create_task(nothing()))  # in asyncio


async def make_in_callback(found):
    def callback():
        found.append(asyncio.create_task(nothing()))  # in a callback

    asyncio.get_running_loop().call_soon(callback)
    await asyncio.sleep(0)


async def make_on_many_lines(found):
    found.append(
        asyncio.create_task(  # on many lines
            nothing(),
        ),
    )


MAKING = {
    "in a group": make_in_group,
    "on the loop": make_on_loop,
    "ensures a future": make_from_nothing,
    "gathers": make_by_gather,
    "in asyncio": make_by_function,
    "in a callback": make_in_callback,
    "on many lines": make_on_many_lines,
}


def made(make_loop, make):
    """Where the facts say that a task was made."""

    async def main():
        found = []
        await make(found)
        facts = facts_of_task(found[0])
        await asyncio.wait(found)
        return facts.made

    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(main())


@pytest.mark.parametrize("how", MAKING)
def test_line_that_makes_a_task_is_known(make_loop, how):
    with watching():
        place = made(make_loop, MAKING[how])
    assert (place.filename, place.line) == (__file__, line_of(__file__, how))
    assert place.function.startswith(MAKING[how].__name__)
    assert made(make_loop, MAKING[how]) is None


def test_it_is_known_until_the_last_watch_has_gone(make_loop):
    with watching():
        with watching():
            pass
        assert made(make_loop, make_on_loop) is not None
    assert made(make_loop, make_on_loop) is None


def test_task_that_is_made_out_of_sight_has_no_line(make_loop):
    async def main():
        seen = set()
        for _ in range(200):
            task = asyncio.create_task(nothing())
            seen.add(id(task))
            await task
            del task
            # The same memory, mostly.
            task = asyncio.Task(nothing())
            assert facts_of_task(task).made is None
            seen.add(id(task))
            await task
            del task
        return len(seen)

    with watching(), asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(main()) < 400


def test_code_that_made_a_task_is_let_go_of(make_loop):
    source = "async def nothing(): pass\ndef make(): return asyncio.create_task(nothing())"

    async def main():
        namespace = {"asyncio": asyncio}
        exec(source, namespace)
        await namespace["make"]()
        return sys.getrefcount(namespace["make"].__code__), namespace

    with watching(), asyncio.Runner(loop_factory=make_loop) as runner:
        held, namespace = runner.run(main())
    gc.collect()
    left = sys.getrefcount(namespace["make"].__code__)
    assert left == held - 1


def test_reason_is_told_where_stacks_cannot_be_read(monkeypatch, make_loop):
    def refuse(_codes):
        raise RuntimeError("no stacks")

    monkeypatch.setattr(makers, "remember_makers", refuse)
    with watching() as watch:
        assert watch.no_makers == "no stacks"
        assert made(make_loop, make_on_loop) is None

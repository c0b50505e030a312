"""Tasks that begin within `create_task`, on both loops.

Before Python 3.14 both refuse the keyword.
"""

import asyncio
import contextvars
import sys

import pytest

from compared import compare

pytestmark = pytest.mark.quick

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")

KEYWORDS = {
    "eager": {"eager_start": True},
    "not eager": {"eager_start": False},
    "as the factory says": {"eager_start": None},
    "eager and named": {"name": "named", "eager_start": True},
    "eager in a context": {"eager_start": True, "context": "own"},
    "unknown": {"eager": True},
    "eager and unknown": {"eager_start": True, "start": True},
}


async def steps(seen):
    named = asyncio.current_task().get_name() == "named"
    seen.append(("begun", named, VARIABLE.get()))
    VARIABLE.set("of the task")
    await asyncio.sleep(0)
    seen.append("gone on")
    return "result"


@pytest.mark.parametrize("name", KEYWORDS)
@pytest.mark.parametrize("make", ["loop", "module"])
def test_task_begins_as_on_the_standard_loop(make, name):
    async def scenario(seen):
        keywords = dict(KEYWORDS[name])
        if "context" in keywords:
            keywords["context"] = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        create = loop.create_task if make == "loop" else asyncio.create_task
        loop.call_soon(seen.append, "called soon")
        VARIABLE.set("of the program")
        asyncio.current_task().set_name("program")
        coroutine = steps(seen)
        try:
            task = create(coroutine, **keywords)
        except TypeError as error:
            coroutine.close()
            seen.append(str(error))
            return
        seen.append(("created", task.done(), asyncio.current_task().get_name(), VARIABLE.get()))
        seen.append(await task)

    seen = compare(scenario)
    if sys.version_info >= (3, 14) and name.startswith("eager") and "unknown" not in name:
        assert seen[0][0] == "begun"
        assert seen[1][0] == "created"


if sys.version_info >= (3, 14):

    def test_task_that_ends_at_once():
        async def scenario(seen):
            async def succeed():
                seen.append("at once")
                return 7

            async def fail():
                raise ValueError("at once")

            loop = asyncio.get_running_loop()
            for coroutine in (succeed(), fail()):
                task = loop.create_task(coroutine, eager_start=True)
                seen.append((task.done(), repr(task.exception())))

        assert compare(scenario)[0] == "at once"

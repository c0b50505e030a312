"""What is known of a callback: asked for by another thread while the callback runs."""

import asyncio
import contextvars
import functools
import sys
import threading
import uuid
import weakref

import pytest

from offloop._watch import tasks
from offloop._watch.facts import facts_of, facts_of_task
from offloop._watch.reading import attribute, local_variables
from watch_programs import HASHED, TOUCHED, Catching, Hostile, HostileTask, HostileText, line_of

CHOSEN: contextvars.ContextVar[object] = contextvars.ContextVar("CHOSEN")
UNSET: contextvars.ContextVar[object] = contextvars.ContextVar("UNSET")


@pytest.fixture(autouse=True)
def nothing_is_touched():
    """No test may find that code of a hostile object has run."""
    TOUCHED.clear()
    yield
    assert TOUCHED == []


async def forever(future):
    await future


def test_step_and_wakeup_are_of_their_task():
    steps = Catching()
    task = asyncio.Task(forever(None), loop=steps)
    task._log_destroy_pending = False
    assert tasks.task_of(steps.called[0]) is task
    task.get_coro().close()


def test_wakeup_is_of_its_task(loop):
    async def main():
        future = loop.create_future()
        task = loop.create_task(forever(future))
        await asyncio.sleep(0)
        (callback,) = tasks.callbacks_of(future)
        found = tasks.task_of(callback) is task
        future.set_result(None)
        await task
        return found

    assert loop.run_until_complete(main())


@pytest.mark.parametrize("other", ["a method", "a function", "an object", "none"])
def test_anything_else_is_no_step(other):
    given = {"a method": [].append, "a function": line_of, "an object": Hostile(), "none": None}
    assert tasks.task_of(given[other]) is None


@pytest.mark.parametrize(
    ("function", "name", "variable"),
    [
        (asyncio.tasks.gather, "_done_callback", "outer"),
        (asyncio.tasks._wait, "_on_completion", "waiter"),
        (asyncio.tasks.shield, "_inner_done_callback", "outer"),
        (asyncio.tasks.shield, "_outer_done_callback", "inner"),
    ],
)
def test_functions_inside_asyncio_are_where_we_look(function, name, variable):
    assert variable in tasks.inner_code(function, name).co_freevars


def test_python_tasks_are_tasks(loop):
    async def main(future):
        task = asyncio.tasks._PyTask(forever(future), loop=loop, name="of Python")
        await asyncio.sleep(0)
        found = [tasks.task_of(callback) for callback in tasks.callbacks_of(future)]
        facts = facts_of_task(task)
        future.set_result(None)
        await task
        return found == [task], facts.name, facts.coroutine

    assert loop.run_until_complete(main(loop.create_future())) == (True, "of Python", "forever")


@pytest.mark.parametrize("given", ["the task", "nothing"])
def test_task_that_runs_is_named(loop, ask, given):
    async def work():
        return ask(asyncio.current_task() if given == "the task" else None)

    async def main():
        return await loop.create_task(work(), name="a name")

    facts = loop.run_until_complete(main())
    if given == "nothing" and sys.version_info >= (3, 14) and "uvloop" in type(loop).__module__:
        # Nothing tells there which loop a thread runs.
        assert facts.task is None
        return
    assert (facts.task.name, facts.callback) == ("a name", None)
    assert facts.task.coroutine.endswith("<locals>.work")
    (parent,) = facts.task.awaited_by
    assert "test_task_that_runs_is_named.<locals>.main" in parent


async def wait_for_all(children):
    await asyncio.wait(children)


SHAPES = {
    "await": lambda child: child,
    "gather": lambda child: asyncio.gather(child, asyncio.sleep(0)),
    "shield": asyncio.shield,
    "wait": lambda child: asyncio.wait([child]),
    "wait_for": lambda child: asyncio.wait_for(child, 60),
}


async def in_group(make):
    async with asyncio.TaskGroup() as group:  # awaits the group
        return make(group.create_task)


async def outermost(inner):
    return await inner  # awaits what awaits


async def in_shape(shape, child):
    await SHAPES[shape](child)  # awaits the child


@pytest.mark.parametrize("shape", [*SHAPES, "group"])
def test_await_chain_has_the_lines_where_each_task_waits(loop, ask, shape):
    seen = []

    async def child():
        await asyncio.sleep(0)
        seen.append(ask(asyncio.current_task()))

    async def parent():
        if shape == "group":
            await in_group(lambda create: create(child(), name="child"))
        else:
            await in_shape(shape, loop.create_task(child(), name="child"))

    async def main():
        inner = loop.create_task(parent(), name="parent")
        await loop.create_task(outermost(inner), name="outermost")

    loop.run_until_complete(main())
    task = seen[0].task
    line = line_of(__file__, "awaits the group" if shape == "group" else "awaits the child")
    name = f"{test_await_chain_has_the_lines_where_each_task_waits.__name__}.<locals>.parent"
    assert (task.name, task.made) == ("child", None)
    assert task.awaited_by[:2] == (
        f"parent ({name}) at {__file__}:{line}",
        f"outermost (outermost) at {__file__}:{line_of(__file__, 'awaits what awaits')}",
    )


def test_await_chain_goes_through_generators_and_other_awaitables(loop):
    class Awaitable:
        def __await__(self):
            yield from inner().__await__()

    async def inner():
        await loop.create_future()  # waits in the end

    async def values():
        await Awaitable()
        yield 1

    async def outer():
        async for _ in values():
            pass

    async def main():
        task = loop.create_task(outer())
        await asyncio.sleep(0)
        found = tasks.waits_at(task)
        functions = [frame.f_code.co_name for frame in tasks.frames_of(task.get_coro())]
        task.cancel()
        return found, functions

    found, functions = loop.run_until_complete(main())
    assert found.line == line_of(__file__, "waits in the end")
    assert functions == ["outer", "values", "__await__", "inner"]


def test_circle_of_tasks_is_told_once(loop):
    async def main():
        tasks_ = []

        async def one():
            await tasks_[1]

        async def other():
            await tasks_[0]

        tasks_ += [loop.create_task(one(), name="one"), loop.create_task(other(), name="other")]
        await asyncio.sleep(0)
        facts = facts_of_task(tasks_[0])
        for task in tasks_:
            task._fut_waiter.remove_done_callback(task)
            task._log_destroy_pending = False
        return [text.split()[0] for text in facts.awaited_by]

    assert loop.run_until_complete(main()) == ["other"]


@pytest.mark.parametrize("debug", [False, True])
def test_debug_mode_knows_where_a_task_was_made(loop, ask, debug):
    async def work():
        return ask(asyncio.current_task())

    async def main():
        return await asyncio.create_task(work())  # makes the task

    loop.set_debug(debug)
    made = loop.run_until_complete(main()).task.made
    if debug:
        assert (made.filename, made.line) == (__file__, line_of(__file__, "makes the task"))
    else:
        assert made is None


class Protocol(asyncio.Protocol):
    def __call__(self):
        """Also an object that can be called."""


NAMES = {
    "function": (line_of, "line_of"),
    "method": (Protocol().data_received, "Protocol.data_received"),
    "C function": (len, "len"),
    "C method": ([].append, "list.append"),
    "C class method": (dict.fromkeys, "dict.fromkeys"),
    "partial": (functools.partial(functools.partial(line_of, 1), 2), "line_of"),
    "object": (Protocol(), "Protocol"),
    "class": (Protocol, "Protocol"),
    "hostile object": (Hostile(), "Hostile"),
    "hostile partial": (functools.partial(Hostile()), "Hostile"),
}


@pytest.mark.parametrize("kind", NAMES)
def test_callback_is_named(kind, ask):
    called, name = NAMES[kind]
    facts = ask(called)
    assert (facts.callback, facts.task, facts.request) == (name, None, None)


def test_handle_is_named_by_its_callback(loop, ask):
    standard = asyncio.Handle(line_of, (), loop)
    assert ask(standard).callback == "line_of"
    standard.cancel()
    assert ask(standard).callback is None
    handle = loop.call_soon(Protocol().data_received, b"")
    expected = "Handle" if "uvloop" in type(loop).__module__ else "Protocol.data_received"
    assert ask(handle).callback == expected
    handle.cancel()


VALUES = {
    "text": ("abc", "abc"),
    "long text": ("a" * 500, "a" * 197 + "..."),
    "integer": (5, "5"),
    "huge integer": (1 << 100_000, "an integer of 100001 bits"),
    "truth": (True, "True"),
    "nothing": (None, "None"),
    "UUID": (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    "bytes": (b"secret", "6 bytes"),
    "object": (Hostile(), "Hostile"),
    "hostile text": (HostileText("abc"), "HostileText"),
    "list": ([Hostile()], "list"),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("where", ["context", "task"])
def test_chosen_variables_are_shown_without_their_code(loop, ask, kind, where):
    value, shown = VALUES[kind]

    async def main():
        CHOSEN.set(value)
        context = contextvars.copy_context()
        if where == "context":
            return ask(line_of, context, (UNSET, CHOSEN))
        return ask(asyncio.current_task(), None, (UNSET, CHOSEN))

    facts = loop.run_until_complete(main())
    if where == "task" and sys.version_info < (3, 12):
        assert facts.variables == ()
    else:
        assert facts.variables == (("CHOSEN", shown),)


# Objects that must not be touched.


def test_code_of_a_hostile_task_is_not_run(loop):
    async def main(future):
        inner, outer = (HostileTask(forever(each), loop=loop) for each in (future, wanted))
        asyncio.Task.set_name(inner, Named())
        wanted.append(inner)
        plain = loop.create_task(forever(outer), name="plain")
        for _ in range(3):
            await asyncio.sleep(0)
        HASHED.clear()
        facts = facts_of_task(inner)
        (callback,) = tasks.callbacks_of(future)
        seen = facts_of(callback, None, threading.get_ident())
        tasks.waits_at(inner)
        hashed = len(HASHED)
        asyncio.Task.cancel(inner)
        await asyncio.wait([plain])
        return facts.name, facts.coroutine, seen.task.coroutine, hashed

    class Named:
        def __str__(self):
            return HostileText("hostile")

    class Wanted(list):
        def __await__(self):
            return self[0].__await__()

    wanted = Wanted()
    found = loop.run_until_complete(main(loop.create_future()))
    assert found == ("?", "forever", "forever", 0)


def test_attributes_are_read_without_code():
    class Slotted:
        __slots__ = ("path", "unset")

    class Plain:
        of_class = "value"

        @property
        def path(self):
            raise AssertionError

        def __getattr__(self, name):
            raise AssertionError

    slotted, plain = Slotted(), Plain()
    slotted.path, plain.own = "slot", "own"
    found = [attribute(slotted, "path"), attribute(slotted, "unset"), attribute(plain, "own")]
    found += [attribute(plain, "of_class"), attribute(plain, "path"), attribute(plain, "other")]
    found += [attribute(Hostile(), "path"), attribute(None, "path")]
    assert found == ["slot", None, "own", "value", None, None, None, None]


# Nothing changes, and nothing is kept.


def test_exception_stays_unseen(loop):
    async def fail():
        raise ValueError

    async def main():
        task = loop.create_task(fail())
        await asyncio.wait([task])
        facts_of_task(task)
        before = task._log_traceback
        task.exception()
        return before, task._log_traceback

    assert loop.run_until_complete(main()) == (True, False)


def test_variables_that_are_read_are_not_kept():
    class Kept:
        pass

    asked = []

    def function():
        kept, unset = Kept(), None
        reference = weakref.ref(kept)
        frame = sys._getframe()
        thread = threading.Thread(
            target=lambda: asked.append(
                [type(each) for each in local_variables(frame, "kept", "unset", "absent")]
            )
        )
        thread.start()
        thread.join()
        del kept
        return reference(), unset

    assert function() == (None, None)
    assert asked == [[Kept, type(None), type(None)]]


def test_namespaces_of_modules_are_left_alone():
    namespace = {"asked": [], "local_variables": local_variables, "sys": sys}
    exec("asked += local_variables(sys._getframe(), 'sys')", namespace)
    assert namespace["asked"] == [None]
    assert namespace["sys"] is sys


def test_tasks_are_not_kept(loop, ask):
    references = []

    async def work():
        task = asyncio.current_task()
        references.append(weakref.ref(task))
        ask(task)
        ask(None)

    async def main():
        await loop.create_task(work())

    loop.run_until_complete(main())
    assert references[0]() is None

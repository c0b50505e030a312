"""Stacks of other threads are what the interpreter says of them, while it cannot say anything."""

import asyncio
import ctypes
import gc
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from _offloop_worker import _offloop
from stack_tools import Target, line_of, read, started, told

pytestmark = pytest.mark.quick


def in_plain_calls(target: Target) -> None:
    """Calls of Python functions by Python functions."""

    def inner() -> None:
        target.wait()

    (lambda: inner())()


def in_a_generator(target: Target) -> None:
    """Generators inside of generators, asked for values by C."""

    def outer():
        yield from inner()

    def inner():
        yield target.wait()

    list(outer())


def in_a_coroutine(target: Target) -> None:
    """A task of an event loop that blocks it."""

    async def main():
        async with asyncio.timeout(None):
            await asyncio.gather(inner())

    async def inner():
        async for _ in numbers():
            return

    async def numbers():
        target.wait()
        yield 1

    asyncio.run(main())


def in_c_code(target: Target) -> None:
    """C that calls Python that calls C."""
    sorted([1], key=lambda number: max([number], key=lambda _: target.wait() or 0))


def in_the_making_of_an_instance(target: Target) -> None:
    """A call of a class, after the interpreter has learned to make it short."""

    class Made:
        def __init__(self, waits: bool) -> None:
            if waits:
                target.wait()

    for _ in range(1000):
        Made(False)
    for number in range(1000):
        Made(number == 999)


def in_code_without_a_file(target: Target) -> None:
    """Code that is made as the program runs, with names of every width."""
    for name in ("größe", "測", "𐎠"):
        source = "\n" * 300 + f"def {name}():\n wait()\n{name}()"
        exec(compile(source, f"<{name}>", "exec"), {"wait": lambda: None})
    exec(compile(source, "<𐎠 \U0001f600>", "exec"), {"wait": target.wait})


def in_a_finalizer(target: Target) -> None:
    """A finalizer that the collector runs."""

    class Finalized:
        def __del__(self) -> None:
            target.wait()

    one = Finalized()
    one.itself = one
    del one
    gc.collect()


def in_an_exception(target: Target) -> None:
    """A handler, a context manager, and lines that come out of order."""

    class Manager:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            target.wait()

    with Manager():
        [
            len(
                [1],
            ),
            2,
        ]


def traced(target: Target) -> None:
    """A thread that is traced."""
    sys.settrace(lambda *_: lambda *_: None)
    try:
        target.wait()
    finally:
        sys.settrace(None)


SHAPES = [
    in_plain_calls,
    in_a_generator,
    in_a_coroutine,
    in_c_code,
    in_the_making_of_an_instance,
    in_code_without_a_file,
    in_a_finalizer,
    in_an_exception,
    traced,
]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_thread_at_rest_is_read_exactly(shape):
    with started(shape) as target:
        target.is_at_rest()
        reading = read(target)
        assert reading["entries"] == told(target.ident)
        assert (reading["outcome"], reading["reason"]) == ("exact", None)
        assert (reading["cut"], reading["hidden"]) == (0, 0)
        assert reading["settled"] == len(reading["entries"])


def test_a_deep_recursion_is_cut_and_counted():
    depth = 10_000

    def recurse(target: Target, more: int) -> None:
        if more:
            recurse(target, more - 1)
        else:
            target.wait()

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 1000)
    try:
        with started(lambda target: recurse(target, depth)) as target:
            target.is_at_rest()
            reading, whole = read(target), told(target.ident)
    finally:
        sys.setrecursionlimit(limit)
    assert reading["outcome"] == "exact"
    assert reading["entries"] == whole[:256]
    assert reading["cut"] == len(whole) - 256 > depth - 256


def collect_much(target: Target) -> None:
    """A collection of many objects."""
    circles = [[] for _ in range(300_000)]
    for circle in circles:
        circle.append(circle)
    target.wait()
    gc.collect()  # the call


def add_up(target: Target) -> None:
    """A loop in C."""
    target.wait()
    sum(range(20_000_000))  # the call


def match_slowly(target: Target) -> None:
    """A regular expression that tries everything."""
    pattern, text = re.compile(r"(a|a?)+$"), "a" * 20 + "b"
    target.wait()
    pattern.match(text)  # the call


def sort_much(target: Target) -> None:
    """A sort of many objects."""
    numbers = [(number * 7919) % 1_000_003 for number in range(1_000_000)]
    target.wait()
    sorted(numbers)  # the call


def sleep_with_the_lock(target: Target) -> None:
    """A call of a library that sleeps, and keeps the GIL."""
    sleep = ctypes.PyDLL(None).usleep
    target.wait()
    sleep(200_000)  # the call


@pytest.mark.parametrize(
    "call", [collect_much, add_up, match_slowly, sort_much, sleep_with_the_lock]
)
def test_a_call_that_holds_the_lock_is_read_while_it_lasts(call):
    line = line_of(call, "# the call")
    seen = 0
    while seen == 0:
        with started(call) as target:
            target.is_at_rest()
            target.release()
            # The call begins when this thread lets go of the lock, which is when sampling begins.
            while not target.ended.is_set():
                for reading, count in _offloop.sample_stacks(target.native_id, 500):
                    if reading["entries"][:1] == [(__file__, call.__qualname__, line)]:
                        seen += count if reading["outcome"] == "exact" else 0


def test_a_loop_in_python_is_read_on_its_lines():
    stop = threading.Event()

    def spin(target: Target) -> None:
        while not stop.is_set():
            add(1)
            add(2)

    def add(number: int) -> int:
        return number + 1

    lines = {line_of(spin, text) for text in ("while", "add(1)", "add(2)")}
    below = {(__file__, spin.__qualname__, line) for line in lines}
    above = {(__file__, add.__qualname__, line_of(add, text)) for text in ("def add", "return")}
    with started(spin) as target:
        found = _offloop.sample_stacks(target.native_id, 500)
        stop.set()
    tops = {reading["entries"][0] for reading, _ in found if reading["outcome"] != "unreadable"}
    ours = {top for top in tops if top[0] == __file__}
    assert ours & below
    assert ours <= below | above
    assert {function for _, function, _ in tops - ours} <= {"Event.is_set"}


def test_the_main_thread_is_read_while_it_sleeps():
    main = threading.main_thread()
    line = line_of(test_the_main_thread_is_read_while_it_sleeps, "# asleep" + "\n")

    def look(_target: Target) -> None:
        while (reading := read(main))["entries"][0][2] != line or reading["outcome"] != "exact":
            pass
        readings.append(reading["entries"][0])

    readings = []
    with started(look) as target:
        while not target.ended.is_set():
            time.sleep(0.05)  # asleep
    assert readings == [(__file__, "test_the_main_thread_is_read_while_it_sleeps", line)]


def test_threads_that_are_none_have_no_stack():
    with started(lambda target: target.wait()) as target:
        target.is_at_rest()
    for native_id in (target.native_id, 0, 1, 2**64 - 1):
        reading = _offloop.stack_of(native_id)
        assert (reading["outcome"], reading["entries"]) == ("unreadable", [])
        assert reading["reason"] == "the interpreter has no such thread"


def test_a_thread_reads_itself():
    reading = _offloop.stack_of(threading.get_native_id())  # here
    line = line_of(test_a_thread_reads_itself, "# here" + "\n")
    assert reading["entries"][0] == (__file__, "test_a_thread_reads_itself", line)
    assert reading["outcome"] == "exact"


PROGRAMS = Path(__file__).parent / "stack_programs.py"


@pytest.mark.parametrize(
    "name",
    [
        "forked",
        "without_the_call",
        "without_the_call_from_the_start",
        "without_any_way",
        "while_the_interpreter_ends",
        "in_a_subinterpreter",
        "greenlets",
    ],
)
def test_in_a_process_of_its_own(name):
    program = subprocess.run(
        [sys.executable, PROGRAMS, name], capture_output=True, text=True, timeout=50
    )
    assert (program.stdout, program.returncode) == (f"{name} passed\n", 0), program.stderr

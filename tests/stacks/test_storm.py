"""No reading of a thread that never rests is wrong, and none does any harm.

OFFLOOP_STACK_READS says how many readings there are: a million takes some minutes.
"""

import ast
import inspect
import itertools
import os
import re
import threading

import pytest

import storm_program
from _offloop_worker import _offloop
from stack_tools import Target, code_objects, started

READS = int(os.environ.get("OFFLOOP_STACK_READS", "30000"))

pytestmark = [pytest.mark.quick, pytest.mark.timeout(60 + READS // 500)]

FILE = storm_program.__file__
SOURCE = inspect.getsource(storm_program)
MADE = re.compile(r"<made (\d+)>")


def lines_of(source: str) -> set[tuple[str, int | None]]:
    """Every function of a source with each of its lines."""
    return {
        (code.co_qualname, line)
        for code in code_objects(compile(source, "", "exec"))
        for _, _, line in code.co_lines()
    }


def calls() -> set[tuple[tuple[str, int], str]]:
    """Which line of which function calls which other: by name, or by the name of a class."""
    found = set()
    for function in ast.walk(ast.parse(SOURCE)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        caller = "Instance.__init__" if function.name == "__init__" else function.name
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                name = "Instance.__init__" if node.id == "Instance" else node.id
                found.add(((caller, node.lineno), name))
    # These are called where the interpreter asks for a value.
    loop = SOURCE[: SOURCE.index("for _ in generator")].count("\n") + 1
    send = SOURCE[: SOURCE.index("one.send")].count("\n") + 1
    return found | {(("storm", loop), "generator"), (("drive", send), "coroutine")}


LINES, CALLS = lines_of(SOURCE), calls()


def check_entry(entry: tuple[str, str, int | None]) -> None:
    """A function stands in the file that it is said to stand in, with this line."""
    file, function, line = entry
    if made := MADE.fullmatch(file):
        source = storm_program.source_of(int(made[1]))
        assert (function, line) in lines_of(source), entry
    elif file == FILE:
        assert (function, line) in LINES, entry


def check_call(callee: tuple[str, str, int | None], caller: tuple[str, str, int | None]) -> None:
    """The one is called in that line of the other."""
    if callee[0] == caller[0] == FILE:
        assert (caller[1:], callee[1]) in CALLS, (callee, caller)
    elif caller[0] == FILE:
        if callee[0] != threading.__file__:
            assert (caller[1], callee[1]) == ("made_of_text", "<module>"), (callee, caller)
    elif callee[0] == FILE and MADE.fullmatch(caller[0]):
        assert callee[1] == "leaf", (callee, caller)


def check(reading: "_offloop._StackReading") -> None:
    """Every entry exists, and in an exact stack each is called by the next one."""
    entries = reading["entries"]
    for entry in entries:
        check_entry(entry)
    if reading["outcome"] == "exact":
        assert entries[-1][1] == "Thread._bootstrap"
        for callee, caller in itertools.pairwise(entries):
            check_call(callee, caller)


def test_no_reading_of_a_storm_is_wrong():
    over = threading.Event()
    with started(lambda _: storm_program.storm(over.is_set)) as target:
        found = _offloop.sample_stacks(target.native_id, READS)
        over.set()
    outcomes = {"exact": 0, "moving": 0, "unreadable": 0}
    functions = set()
    for reading, count in found:
        outcomes[reading["outcome"]] += count
        check(reading)
        functions |= {function for _, function, _ in reading["entries"]}
    assert outcomes["exact"] + outcomes["moving"] > READS // 2, outcomes
    assert {"storm", "first", "recursion", "generator", "made_of_text"} <= functions


def test_threads_that_come_and_go_are_read_or_gone():
    over = threading.Event()
    newest = []

    def come_and_go(_target: Target) -> None:
        while not over.is_set():
            thread = threading.Thread(target=storm_program.first, args=(1,))
            thread.start()
            newest[:] = [thread.native_id]
            thread.join()

    found = {}
    with started(come_and_go):
        reads = 0
        while reads < READS // 10 or len(found) < 2:
            for native_id in tuple(newest):
                reads += 20
                for reading, _ in _offloop.sample_stacks(native_id, 20):
                    check_each(reading)
                    found[reading["reason"]] = reading
        over.set()
    assert "the interpreter has no such thread" in found


def check_each(reading: "_offloop._StackReading") -> None:
    """The entries of a thread that may end at any moment."""
    for entry in reading["entries"]:
        check_entry(entry)

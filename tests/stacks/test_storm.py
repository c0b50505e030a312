"""No reading of a thread that never rests is wrong, and none does any harm.

OFFLOOP_STACK_READS says how many readings there are: a million takes an hour where the
reader and the thread share a processor, and some minutes where they do not.
"""

import ast
import collections
import functools
import inspect
import itertools
import os
import re
import threading
import time
from collections.abc import Iterator

import pytest

import storm_program
from _offloop_worker import _offloop
from stack_tools import Target, code_objects, started

READS = int(os.environ.get("OFFLOOP_STACK_READS", "1000"))

pytestmark = [pytest.mark.quick, pytest.mark.timeout(60 + READS // 100)]

FILE = storm_program.__file__
SOURCE = inspect.getsource(storm_program)
MADE = re.compile(r"<made (\d+)>")


@functools.cache
def lines_of(source: str) -> set[tuple[str, int | None]]:
    """Every function of a source with each of its lines."""
    return {
        (code.co_qualname, line)
        for code in code_objects(compile(source, "", "exec"))
        for _, _, line in code.co_lines()
    }


def names_in(scope: ast.AST) -> Iterator[ast.Name]:
    """The names that are used in a scope, but not in the functions inside of it."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from names_in(node)


@functools.cache
def calls_of(source: str) -> set[tuple[tuple[str, int], str]]:
    """Which line of which function names which other: that is how functions call each other."""
    tree = ast.parse(source)
    scopes: dict[str, ast.AST] = {"<module>": tree}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            scopes["Instance.__init__" if node.name == "__init__" else node.name] = node
    return {
        ((caller, node.lineno), "Instance.__init__" if node.id == "Instance" else node.id)
        for caller, scope in scopes.items()
        for node in names_in(scope)
    }


def line_with(text: str) -> int:
    """The line of the program that holds a text."""
    return SOURCE[: SOURCE.index(text)].count("\n") + 1


LINES = lines_of(SOURCE)
CALLS = calls_of(SOURCE) | {
    # Called where a value is asked for.
    (("storm", line_with("for _ in generator")), "generator"),
    (("drive", line_with("one.send")), "coroutine"),
    (("made_of_text", line_with("exec(loads(")), "<module>"),
}

SHAPES = {"storm", "first", "recursion", "generator", "made_of_text"}
"""Functions of the storm, of each kind one. A storm is read until all were seen."""

Entry = tuple[str, str, int | None]


def made_source(entry: Entry) -> str | None:
    """The text that an entry's code was made of, if it was made as the program ran."""
    made = MADE.fullmatch(entry[0])
    return storm_program.source_of(int(made[1])) if made else None


def check_entry(entry: Entry) -> None:
    """A function stands in the file that it is said to stand in, with this line."""
    if source := made_source(entry):
        assert entry[1:] in lines_of(source), entry
    elif entry[0] == FILE:
        assert entry[1:] in LINES, entry


def check_call(callee: Entry, caller: Entry) -> None:
    """The one is called in that line of the other."""
    if source := made_source(caller):
        assert callee[0] == (FILE if callee[1] == "leaf" else caller[0]), (callee, caller)
        assert (caller[1:], callee[1]) in calls_of(source), (callee, caller)
    elif caller[0] == FILE and callee[0] != threading.__file__:
        assert (caller[1:], callee[1]) in CALLS, (callee, caller)


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
    outcomes = collections.Counter()
    functions: set[str] = set()

    def is_enough() -> bool:
        reads = outcomes.total()
        return reads >= READS and (functions >= SHAPES or reads >= 100 * READS)

    with started(lambda _: storm_program.storm(over.is_set)) as target:
        while not is_enough():
            for reading, count in _offloop.sample_stacks(target.native_id, 500):
                outcomes[reading["outcome"]] += count
                check(reading)
                functions |= {function for _, function, _ in reading["entries"]}
        over.set()
    assert outcomes["exact"] + outcomes["moving"] > outcomes.total() // 2, outcomes
    assert functions >= SHAPES


def test_threads_that_come_and_go_are_read_or_gone():
    over = threading.Event()
    newest = []

    def go() -> None:
        newest[:] = [threading.get_native_id()]
        for number in range(50):
            storm_program.first(number)
            # A thread that waits for the GIL gets it now.
            time.sleep(0)

    def come_and_go(_target: Target) -> None:
        while not over.is_set():
            thread = threading.Thread(target=go)
            thread.start()
            thread.join()

    reads = 0
    with started(come_and_go):
        while reads < READS:
            for native_id in tuple(newest):
                for reading, count in _offloop.sample_stacks(native_id, 20):
                    reads += count
                    check_each(reading)
        over.set()
    [last] = newest
    assert _offloop.stack_of(last)["reason"] == "the interpreter has no such thread"


def check_each(reading: "_offloop._StackReading") -> None:
    """The entries of a thread that may end at any moment."""
    for entry in reading["entries"]:
        check_entry(entry)

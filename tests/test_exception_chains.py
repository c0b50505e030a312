"""Chains, cycles and groups of exceptions arrive in the shape that they had, whatever their size.

Each is compared with what was raised: the true cause is the cause of the remote traceback, and what
was one object is one object.
"""

import dataclasses
import itertools
import sys
import time
import traceback

import pytest

import offloop

pytestmark = pytest.mark.quick

LINEAR_SECONDS_MAX = 5.0
"""For chains of which a tree would take hours; they take a tenth of a second."""


class Keyword(Exception):
    """An error that does not unpickle, so that all those beside it travel each alone."""

    def __init__(self, *, code):
        super().__init__("keyword")
        self.code = code


class Wraps(Exception):
    """An error that holds the one it was raised from, as many libraries' do."""

    def __init__(self, inner):
        super().__init__(inner)
        self.inner = inner


class Coded(ExceptionGroup):
    """A group with an argument and an attribute of its own."""

    def __new__(cls, message, errors, code=0):
        group = super().__new__(cls, message, errors)
        group.code = code
        return group

    def __init__(self, message, errors, code=0):
        pass

    def derive(self, errors):
        return Coded(self.message, errors, self.code)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """An error whose attributes cannot be set."""

    code: int


def linked(depth, make=ValueError):
    """A chain of that many exceptions, as nested ``raise ... from`` make it."""
    error = make(0)
    for number in range(1, depth):
        following = make(number)
        following.__cause__ = following.__context__ = error
        error = following
    return error


def raise_linked(depth, kind="plain"):
    """Raise the last exception of a chain."""
    if kind == "wrapped":
        error = ValueError(0)
        for _ in range(1, depth):
            following = Wraps(error)
            following.__cause__ = following.__context__ = error
            error = following
        raise error
    raise linked(depth, ValueError if kind == "plain" else lambda number: Keyword(code=number))


def raise_cycle(kind):
    """Raise an exception that is, in the end, its own cause."""
    error = linked(3) if kind == "plain" else linked(3, lambda number: Keyword(code=number))
    first = error.__cause__.__cause__
    first.__cause__ = error
    raise error


def raise_shared(kind):
    """Raise a group whose members are in each other, and in its chain."""
    shared = ValueError("shared") if kind == "plain" else Keyword(code=3)
    inner = Coded("inner", [shared, KeyError("other")], 7)
    outer = ExceptionGroup("outer", [shared, inner])
    outer.__cause__ = inner
    shared.__context__ = outer
    raise outer


def raise_nested_groups(depth):
    """Raise a group in a group in a group."""
    error = ValueError("innermost")
    for number in range(depth):
        error = ExceptionGroup(f"level {number}", [error])
    raise error


def raise_beside_its_context():
    """Raise an exception whose cause and context are different ones."""
    try:
        raise KeyError("the context")
    except KeyError:
        raise ValueError("the error") from OSError("the cause")


def raise_frozen():
    """Raise an error that refuses every assignment."""
    raise Frozen(4) from ValueError("the cause")


def chain_of(error):
    """The exception and its true causes; the remote traceback stands between each two."""
    chain = [error]
    while (cause := chain[-1].__cause__.__cause__) is not None and cause not in chain:
        chain.append(cause)
    return chain


@pytest.mark.parametrize("kind", ["plain", "wrapped", "keyword"])
@pytest.mark.parametrize("depth", [2, 14, 40])
def test_chain_arrives_once_each_in_time_that_grows_with_its_length(pool, kind, depth):
    began = time.monotonic()
    error = pool.submit(raise_linked, depth, kind).exception(50)
    assert time.monotonic() - began < LINEAR_SECONDS_MAX
    chain = chain_of(error)
    assert len(chain) == depth
    for link in chain:
        assert link.__cause__.__cause__ is link.__cause__.__context__
    if kind == "wrapped":
        assert all(outer.inner is inner for outer, inner in itertools.pairwise(chain))
    assert "raise_linked" in str(error.__cause__)


def test_chain_that_is_too_long_is_cut_and_says_so(pool):
    began = time.monotonic()
    error = pool.submit(raise_linked, 10_000).exception(50)
    assert time.monotonic() - began < LINEAR_SECONDS_MAX
    assert [link.args for link in chain_of(error)] == [(9_999 - index,) for index in range(1000)]
    (note,) = error.__notes__
    assert "9,000 more" in note


@pytest.mark.parametrize("kind", ["plain", "keyword"])
def test_cycle_arrives_as_a_cycle(pool, kind):
    error = pool.submit(raise_cycle, kind).exception(20)
    chain = chain_of(error)
    assert len(chain) == 3
    assert chain[-1].__cause__.__cause__ is error
    assert "raise_cycle" in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("kind", ["plain", "keyword"])
def test_members_that_groups_share_are_one_object(pool, kind):
    error = pool.submit(raise_shared, kind).exception(20)
    shared, inner = error.exceptions
    assert (type(inner), inner.message, inner.code) == (Coded, "inner", 7)
    assert inner.exceptions[0] is shared
    assert error.__cause__.__cause__ is inner
    assert shared.__cause__.__context__ is error
    assert "raise_shared" in str(error.__cause__)
    assert "sub-exception" in str(error.__cause__)


@pytest.mark.parametrize("depth", [3, 40, 3000])
def test_nested_groups_arrive_as_deep_as_they_were_up_to_the_limit(pool, depth):
    began = time.monotonic()
    error = pool.submit(raise_nested_groups, depth).exception(50)
    assert time.monotonic() - began < LINEAR_SECONDS_MAX
    reached = 0
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
        reached += 1
    # From Python 3.14 on pickle goes as deep as the stack of C allows.
    whole = depth < 1000 or sys.version_info >= (3, 14)
    assert reached == (depth if whole else 1000)
    assert type(error) is (ValueError if whole else offloop.DecodeError)


def test_cause_and_context_that_are_two_arrive_as_two(pool):
    error = pool.submit(raise_beside_its_context).exception(20)
    remote = error.__cause__
    assert (type(remote.__cause__), type(remote.__context__)) == (OSError, KeyError)
    assert remote.__suppress_context__ is True


def test_error_that_refuses_assignments_arrives_with_its_traceback(pool):
    error = pool.submit(raise_frozen).exception(20)
    assert (type(error), error.code) == (Frozen, 4)
    assert "raise_frozen" in str(error.__cause__)
    assert type(error.__cause__.__cause__) is ValueError


def test_exceptions_that_a_worker_keeps_are_as_they_were():
    with offloop.ProcessPool(1) as pool:
        assert pool.submit(keep_one).exception(20).args == ("kept",)
        assert pool.submit(look_at_kept).result(20) == ("the cause", "the context", False)


KEPT = ValueError("kept")


def keep_one():
    """Raise an exception that lives on in the worker, with its chain."""
    KEPT.__cause__, KEPT.__context__ = KeyError("the cause"), KeyError("the context")
    KEPT.__suppress_context__ = False
    raise KEPT


def look_at_kept():
    """The chain of the exception that was raised before."""
    return KEPT.__cause__.args[0], KEPT.__context__.args[0], KEPT.__suppress_context__

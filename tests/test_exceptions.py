"""Exceptions of calls arrive as themselves: type, attributes, notes, causes, groups, traceback."""

import pickle
import subprocess
import sys
import traceback

import pytest

import calls
import offloop

pytestmark = pytest.mark.quick


def test_exception_keeps_type_and_arguments(pool):
    error = pool.submit(calls.fail, ValueError("one", 2)).exception(20)
    assert type(error) is ValueError
    assert error.args == ("one", 2)


def test_remote_traceback_is_the_cause_and_is_printed(pool):
    error = pool.submit(calls.fail, ValueError("far away")).exception(20)
    assert "calls.py" in str(error.__cause__)
    printed = "".join(traceback.format_exception(error))
    assert "raise error" in printed
    assert "far away" in printed


def test_notes_arrive(pool):
    error = pool.submit(calls.raise_with_note).exception(20)
    assert error.__notes__ == ["this is the note"]


def test_cause_is_in_the_chain_or_in_the_printed_traceback(pool):
    error = pool.submit(calls.raise_from_cause).exception(20)
    assert type(error) is RuntimeError
    printed = "".join(traceback.format_exception(error))
    assert "KeyError: 'the cause'" in printed
    assert "direct cause" in printed


def test_context_is_in_the_printed_traceback(pool):
    error = pool.submit(calls.raise_in_context).exception(20)
    printed = "".join(traceback.format_exception(error))
    assert "KeyError: 'the context'" in printed


def test_groups_arrive_whole(pool):
    error = pool.submit(calls.raise_group).exception(20)
    assert type(error) is ExceptionGroup
    assert [type(member) for member in error.exceptions] == [ValueError, calls.OddError]
    assert error.exceptions[1].code == 1


def test_error_with_keyword_only_constructor_arrives_as_itself(pool):
    error = pool.submit(calls.raise_odd_error).exception(20)
    assert type(error) is calls.OddError
    assert (error.code, error.hint) == (42, "odd")
    assert str(error) == "odd (42)"


def test_error_that_forgets_arguments_arrives_as_itself(pool):
    error = pool.submit(calls.raise_two_argument_error).exception(20)
    assert type(error) is calls.TwoArgumentError
    assert (error.first, error.second) == ("one", "two")


def test_system_exit_and_keyboard_interrupt_are_outcomes_like_others(pool):
    with pytest.raises(SystemExit) as exited:
        pool.submit(calls.fail, SystemExit(3)).result(20)
    assert exited.value.code == 3
    error = pool.submit(calls.fail, KeyboardInterrupt("from the call")).exception(20)
    assert type(error) is KeyboardInterrupt
    assert pool.submit(calls.echo, 1).result(20) == 1


def test_error_raised_again_and_again_grows_no_chain(pool):
    future = pool.submit(calls.fail, ValueError("once"))
    for _ in range(3):
        with pytest.raises(ValueError, match="once"):
            future.result(20)


@pytest.mark.parametrize(
    "name", ["WorkerCrashed", "DeadlineExceeded", "QueueFull", "MemoryLimitExceeded"]
)
def test_our_errors_have_one_base_and_travel(name):
    error_type = getattr(offloop, name)
    assert issubclass(error_type, offloop.OffloopError)
    error = error_type("text")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    "name", ["GlobalNotSent", "MemoryLimitExceeded", "OffloopError", "QueueFull", "TaskInterrupted"]
)
def test_errors_of_a_call_travel_without_the_whole_of_offloop(name):
    error = getattr(offloop, name)("text", 2)
    error.add_note("a note")
    error.attribute = 3
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (copy.args, copy.__notes__, copy.attribute) == (("text", 2), ["a note"], 3)
    program = f"import pickle, sys; pickle.loads({pickle.dumps(error)!r}); print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert "offloop" not in output.split()


class OwnError(offloop.OffloopError):
    """A class of a program, derived from ours."""


def test_a_class_derived_from_our_errors_travels_as_itself():
    copy = pickle.loads(pickle.dumps(OwnError("text")))
    assert type(copy) is OwnError
    assert copy.args == ("text",)


def test_our_errors_are_standard_ones_too():
    from concurrent.futures.process import BrokenProcessPool

    assert issubclass(offloop.WorkerCrashed, BrokenProcessPool)
    assert issubclass(offloop.DeadlineExceeded, TimeoutError)
    assert issubclass(offloop.TaskInterrupted, BaseException)
    assert not issubclass(offloop.TaskInterrupted, Exception)


def test_crash_travels_with_its_facts(pool):
    error = pool.submit(calls.exit_at_once, 5).exception(20)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is offloop.WorkerCrashed
    assert (copy.exit_code, copy.pid, copy.signal) == (5, error.pid, None)
    assert copy.may_have_started is True

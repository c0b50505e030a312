"""Arguments that a pool or a loop cannot have: refused at once, by their name and their value."""

import concurrent.futures
from fractions import Fraction

import numpy
import pytest

import offloop

pytestmark = pytest.mark.quick

INTEGERS = ["max_workers", "memory_limit", "max_queue", "max_queue_bytes", "retries"]
SECONDS = ["timeout", "run_timeout", "grace", "start_timeout"]
POLICIES = "'wait', 'refuse' or 'drop_oldest'"
NOT_TEXT = [b"x", 1.5, None, ["wait"]]
NO_LENGTHS = ["a", "1", b"x", [1], object]

WRONG = [
    *((name, value, f"an integer, not {value!r}") for name in INTEGERS for value in ("a", 1.5)),
    ("max_workers", Fraction(2), "an integer, not Fraction(2, 1)"),
    *(
        (name, value, f"a number of seconds >= 0, not {value!r}")
        for name in SECONDS
        for value in NO_LENGTHS
    ),
    ("grace", None, "a number of seconds >= 0, not None"),
    ("start_timeout", None, "a number of seconds >= 0, not None"),
    *(("queue_policy", value, f"{POLICIES}, not {value!r}") for value in NOT_TEXT),
    ("initargs", 3, "an iterable, not 3"),
    ("preload", 3, "an iterable, not 3"),
    ("preload", "json", "an iterable of names, not 'json'"),
    ("preload", ["json", 3], "an iterable of names, not ['json', 3]"),
]


@pytest.mark.parametrize(("name", "value", "instead"), WRONG)
def test_an_argument_of_a_wrong_type_is_named_with_its_value(name, value, instead):
    with pytest.raises(TypeError) as caught:
        offloop.ProcessPool(**{name: value})
    assert str(caught.value) == f"{name} must be {instead}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


LARGE = 2**70
OUT_OF_RANGE = [
    ("max_workers", -1, ValueError, "greater than 0"),
    ("max_workers", LARGE, OverflowError, f"at most 4294967295, not {LARGE}"),
    ("max_tasks_per_child", LARGE, OverflowError, f"at most 4294967295, not {LARGE}"),
    ("max_queue", 0, ValueError, "None or at least 1, not 0"),
    ("max_queue", LARGE, OverflowError, f"at most 4294967295, not {LARGE}"),
    ("max_queue_bytes", LARGE, OverflowError, f"at most {2**63 - 1}, not {LARGE}"),
    ("memory_limit", LARGE, OverflowError, f"at most {2**63 - 1}, not {LARGE}"),
    ("retries", -1, ValueError, "at least 0, not -1"),
    ("retries", LARGE, OverflowError, f"at most 4294967295, not {LARGE}"),
    *(
        (name, value, ValueError, f"a number of seconds >= 0, not {value!r}")
        for name in SECONDS
        for value in (-1, float("nan"), float("inf"), 10**400)
    ),
    ("queue_policy", "a", ValueError, f"{POLICIES}, not 'a'"),
]


@pytest.mark.parametrize(("name", "value", "error", "instead"), OUT_OF_RANGE)
def test_an_argument_out_of_its_range_is_named_with_its_value(name, value, error, instead):
    with pytest.raises(error) as caught:
        offloop.ProcessPool(**{name: value})
    assert (type(caught.value), str(caught.value)) == (error, f"{name} must be {instead}")


@pytest.mark.parametrize("name", ["timeout", "run_timeout", "retries"])
@pytest.mark.parametrize("value", ["a", -1])
def test_options_are_refused_as_the_pools_own_arguments_are(name, value):
    texts = set()
    with offloop.ProcessPool(1) as pool:
        for make in (offloop.ProcessPool, pool.options):
            with pytest.raises((TypeError, ValueError)) as caught:
                make(**{name: value})
            texts.add((caught.type, str(caught.value)))
    assert len(texts) == 1


@pytest.mark.parametrize("value", ["a", 1.5, -1, 0, 2**70])
@pytest.mark.parametrize("name", ["max_workers", "max_tasks_per_child", "initializer"])
def test_what_the_standard_pool_refuses_is_refused_with_its_class(name, value):
    caught = []
    for pool in (concurrent.futures.ProcessPoolExecutor, offloop.ProcessPool):
        try:
            pool(**{name: value}).shutdown()
        except Exception as error:
            caught.append(type(error))
    # The standard pool lets a worker have any number of calls.
    expected = (
        [OverflowError] if (name, value) == ("max_tasks_per_child", 2**70) else caught[:1] * 2
    )
    assert caught == expected


def test_numbers_that_are_no_int_are_good():
    limits = {"timeout": Fraction(61, 2), "retries": numpy.int64(1)}
    with offloop.ProcessPool(numpy.int64(1), max_queue=numpy.uint8(7), **limits) as pool:
        assert pool.options(run_timeout=numpy.float32(30)).submit(abs, -3).result(20) == 3


def test_a_generator_of_arguments_and_of_names_is_used_once():
    with offloop.ProcessPool(
        1,
        initializer=divmod,
        initargs=(number for number in (7, 2)),
        preload=(name for name in ("json",)),
    ) as pool:
        assert pool.submit(abs, -3).result(20) == 3


@pytest.mark.parametrize("value", ["a", 1, None])
def test_a_loop_that_cannot_be_made_says_why_and_leaves_nothing(value, recwarn):
    with pytest.raises(TypeError) as caught:
        offloop.EventLoop(gather_writes=value)
    assert str(caught.value) == f"gather_writes must be True or False, not {value!r}"
    del caught
    assert [str(warning.message) for warning in recwarn] == []

"""What may be sent to a worker and back: functions by value, data classes, arrays, bytes."""

import functools
import os
from dataclasses import dataclass

import numpy
import pytest

import calls
from gates import run_program

pytestmark = pytest.mark.quick


@dataclass
class Point:
    """A dataclass of the test module."""

    x: int
    y: float


def test_lambdas_and_closures_travel(pool):
    factor = 21
    assert pool.submit(lambda value: value * factor, 2).result(20) == 42
    assert list(pool.map(lambda value: value + factor, range(3))) == [21, 22, 23]


def test_partial_method_and_local_class_travel(pool):
    @dataclass
    class Local:
        value: int

        def double(self):
            return Local(2 * self.value)

    assert pool.submit(functools.partial(pow, 2), 5).result(20) == 32
    assert pool.submit(Point(1, 2.0).__eq__, Point(1, 2.0)).result(20) is True
    assert pool.submit(Local(21).double).result(20).value == 42


def test_dataclass_arrives_as_itself(pool):
    point = pool.submit(calls.echo, Point(3, 4.5)).result(20)
    assert type(point) is Point
    assert point == Point(3, 4.5)


@pytest.mark.parametrize("size", [0, 1, 1_000, 10_000, 1_000_000])
def test_arrays_keep_their_contents_and_are_writable_on_both_sides(pool, size):
    array = numpy.arange(size, dtype=numpy.float64)
    back = pool.submit(calls.echo, array).result(20)
    assert numpy.array_equal(array, back)
    assert back.flags.writeable
    back[...] = 1.0
    assert pool.submit(calls.fill_with_sevens, array).result(20) == 7.0 * size
    assert numpy.array_equal(array, numpy.arange(size, dtype=numpy.float64))


def test_arrays_of_every_layout_arrive_equal(pool):
    base = numpy.arange(60_000, dtype=numpy.int32).reshape(200, 300)
    for array in (base.T, base[::2, ::3], numpy.asfortranarray(base), base.astype(object)):
        assert numpy.array_equal(pool.submit(calls.echo, array).result(20), array)


def test_results_that_are_kept_stay_as_they_were(pool):
    results = [
        pool.submit(calls.echo, numpy.full(50_000, number)).result(20) for number in range(40)
    ]
    assert all((result == number).all() for number, result in enumerate(results))


@pytest.mark.parametrize("length", [0, 1, 255, 4096, 65_537, 1 << 20, 50 << 20])
def test_bytes_of_any_length_pass(pool, length):
    value = os.urandom(min(length, 4096)) * max(1, length // 4096)
    assert pool.submit(calls.echo, value).result(30) == value
    assert pool.submit(calls.echo, bytearray(value)).result(30) == value


def test_script_without_main_guard_runs_and_ends(tmp_path):
    done = run_program(
        tmp_path,
        """
        import offloop

        FACTOR = 3

        def multiply(value):
            return FACTOR * value

        pool = offloop.ProcessPool(2)
        print(list(pool.map(multiply, range(4))))
        FACTOR = 5
        print(list(pool.map(multiply, range(4))))
        print(pool.submit(lambda: FACTOR).result())
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[0, 3, 6, 9]", "[0, 5, 10, 15]", "5"]
    assert done.stderr == ""


def test_functions_of_main_call_each_other_and_use_classes_of_main(tmp_path):
    done = run_program(
        tmp_path,
        """
        from dataclasses import dataclass
        import offloop

        @dataclass
        class Point:
            x: int

        def twice(point):
            return Point(2 * point.x)

        def outer(value, depth=2):
            return twice(value) if depth == 0 else outer(value, depth - 1)

        with offloop.ProcessPool(1) as pool:
            back = pool.submit(outer, Point(4)).result()
            print(back, type(back) is Point, isinstance(back, Point), back == Point(8))
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Point(x=8) True True True"

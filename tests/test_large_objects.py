"""Large arguments and results: what arrives is what was sent, and the same objects stay the same.

Arrays, `bytes` and `bytearray` that are large go through shared memory without being pickled. None
of that may be visible to the function that gets them, nor to the caller that gets a result.
"""

import functools
import importlib
import sys

import numpy
import pytest

import calls
from gates import run_program

pytestmark = pytest.mark.quick

LARGE = 100_000


class Signal(numpy.ndarray):
    """An array of a class of its own, which travels as the pickler makes it travel."""


def identities(*values, **named):
    """Return, for each pair of the arguments, whether they are one object."""
    everything = [*values, *named.values()]
    return [first is second for first in everything for second in everything]


def is_inside(value, *containers, held=()):
    """Return whether every container holds that very object."""
    return all(value is container[0] for container in (*containers, *([held] if held else [])))


def double(array):
    """Change an array in place and return it."""
    array *= 2
    return array


def described(array):
    """Return what one can see of an array beside its elements."""
    flags = array.flags
    return type(array), array.dtype, array.shape, flags.c_contiguous, flags.f_contiguous


ARRAYS = {
    "one dimension": numpy.arange(12_500.0),
    "two, in Fortran's order": numpy.asfortranarray(numpy.arange(20_000).reshape(100, 200)),
    "three, not contiguous": numpy.arange(60_000).reshape(100, 200, 3)[:, ::2],
    "bool": numpy.ones(LARGE, dtype=bool),
    "complex": numpy.full(LARGE, 1 + 2j),
    "half": numpy.ones(LARGE, dtype="f2"),
    "swapped bytes": numpy.arange(12_500.0).astype(">f8"),
    "dates": numpy.arange(12_500).astype("datetime64[s]"),
    "records": numpy.ones(12_500, dtype=[("name", "S4"), ("value", "f8")]),
    "texts": numpy.full(12_500, "offloop"),
    "objects": numpy.full(12_500, None),
    "empty": numpy.zeros((0, 7)),
    "no dimension": numpy.array(7.0),
    "own class": numpy.arange(12_500.0).view(Signal),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_array_arrives_as_it_was_sent_both_ways(pool, name):
    array = ARRAYS[name]
    assert pool.submit(described, array).result() == described(array.copy(order="K"))
    back = pool.submit(calls.echo, array).result()
    assert described(back) == described(array.copy(order="K"))
    assert (back == array).all()


def test_array_can_be_changed_there_and_here(pool):
    array = numpy.arange(12_500.0)
    doubled = pool.submit(double, array).result()
    assert array[3] == 3.0
    doubled += 1
    assert doubled[3] == 7.0


@pytest.mark.parametrize(
    "value", [bytes(range(250)) * 400, bytearray(range(250)) * 400], ids=["bytes", "bytearray"]
)
def test_long_byte_strings_keep_type_and_contents(pool, value):
    back = pool.submit(calls.echo, value).result()
    assert type(back) is type(value)
    assert back == value


def test_large_objects_stand_at_their_places(pool):
    array, text = numpy.arange(12_500.0), b"x" * LARGE
    values, named = pool.submit(
        calls.capture, 1, array, "two", text, late=text, array=array.copy()
    ).result()
    assert values[0] == 1
    assert (values[1] == array).all()
    assert values[2:] == ("two", text)
    assert list(named) == ["late", "array"]
    assert named["late"] == text
    assert (named["array"] == array).all()


def test_one_object_at_two_places_stays_one(pool):
    array, changeable = numpy.arange(12_500.0), bytearray(LARGE)
    same, other = [True, True, True, True], [True, False, False, True]
    assert pool.submit(identities, array, array).result() == same
    assert pool.submit(identities, array, again=array).result() == same
    assert pool.submit(identities, changeable, changeable).result() == same
    assert pool.submit(identities, array, array.copy()).result() == other


def test_object_inside_another_stays_one(pool):
    array = numpy.arange(12_500.0)
    assert pool.submit(is_inside, array, [array]).result()
    assert pool.submit(is_inside, array, held=[array]).result()
    assert pool.submit(functools.partial(is_inside, array), [array]).result()


def test_partial_gets_long_bytes(pool):
    values, named = pool.submit(
        functools.partial(calls.capture, b"x" * LARGE), b"y" * LARGE
    ).result()
    assert values == (b"x" * LARGE, b"y" * LARGE)
    assert named == {}


def test_more_large_objects_than_a_frame_has_places_for(pool):
    values = [bytes([number % 251]) * 40_000 for number in range(300)]
    assert pool.submit(calls.capture, *values).result() == (tuple(values), {})


def test_texts_beside_a_large_object_may_be_long_too(pool):
    text, array = "__main__ " * 10_000, numpy.arange(12_500.0)
    values, _ = pool.submit(calls.capture, text, array, b"z" * LARGE).result()
    assert values[0] == text
    assert (values[1] == array).all()
    assert values[2] == b"z" * LARGE


def test_function_that_uses_attributes_is_described_once(tmp_path, monkeypatch):
    """A name such as the `dumps` of `json.dumps` is no global that may still change."""
    source = "import json\ndef write(value):\n    return json.dumps(value, indent=value.real)\n"
    (tmp_path / "by_value.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    function = importlib.import_module("by_value").write
    monkeypatch.delitem(sys.modules, "by_value")
    places = importlib.import_module("offloop._main")
    _, _, _, checks, _ = places.describe(function)
    assert [check[1] for check in checks[1:]] == ["json"]


READ_ONLY = """
    import sys
    import numpy
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context
    import offloop

    def flags(*arrays):
        inner = [one[0] if isinstance(one, list) else one for one in arrays]
        return [one.flags.writeable for one in inner]

    def read_only(count, kind):
        array = numpy.zeros(count, kind)
        array.flags.writeable = False
        return array

    def give():
        return read_only(8, "f8"), [read_only(80_000, "u1")], read_only(900, "i4,f8")

    if __name__ == "__main__":
        kinds = [read_only(8, "f8"), read_only(80_000, "u1"), [read_only(9_000, "f8")],
                 read_only(900, "i4,f8"), numpy.frombuffer(b"x" * 80_000, "u1"),
                 numpy.broadcast_to(numpy.arange(5), (3_000, 5)), numpy.zeros(3)]
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            expected = pool.submit(flags, *kinds).result(), flags(*pool.submit(give).result())
        with offloop.ProcessPool(1) as pool:
            seen = pool.submit(flags, *kinds).result(), flags(*pool.submit(give).result())
        print(expected == seen, expected, seen)
"""


def test_arrays_arrive_as_writable_as_from_the_standard_pool(tmp_path):
    done = run_program(tmp_path, READ_ONLY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True"), done.stdout

"""The private names of the standard library are as they were when offloop was made for them."""

import ast
import itertools
import sys

import pytest

from names_we_use import in_python, in_rust, names_we_use
from private_table import CHECKED, COINCIDENCES, MODULES, TABLE
from standard_names import ABSENT, all_private_names, describe

pytestmark = pytest.mark.quick

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
RECIPE = "docs/design/012-private-names.md says what to do"

ROWS = [(owner, name) for owner, names in TABLE.items() for name in names]


def number(version: str) -> tuple[int, ...]:
    """A version to compare by."""
    return tuple(map(int, version.split(".")))


def expected(owner: str, name: str, version: str) -> tuple[str, ...]:
    """All that a name was seen to be in a version of Python."""
    row = TABLE[owner][name]
    since = max((each for each in row if number(each) <= number(version)), key=number)
    what = row[since]
    return what if isinstance(what, tuple) else (what,)


def test_running_python_is_one_that_the_table_was_checked_on():
    assert RUNNING in CHECKED, f"{RUNNING} is not in CHECKED: {RECIPE}"


@pytest.mark.parametrize(("owner", "name"), ROWS, ids=[".".join(row) for row in ROWS])
def test_private_name_is_what_it_was(owner, name):
    found = describe(owner, name)
    known = expected(owner, name, RUNNING)
    assert found in known, f'not "{RUNNING}": "{found}", which the table lacks: {RECIPE}'


@pytest.mark.parametrize(("owner", "name"), ROWS, ids=[".".join(row) for row in ROWS])
def test_row_tells_every_version_and_no_change_that_is_none(owner, name):
    row = TABLE[owner][name]
    assert [*row] == sorted(row, key=number)
    assert next(iter(row)) == CHECKED[0]
    assert set(row) <= set(CHECKED)
    values = list(row.values())
    assert all(one != next_one for one, next_one in itertools.pairwise(values))
    # What no version has ever had is a mistake in the table.
    assert any(expected(owner, name, version) != (ABSENT,) for version in CHECKED)


def test_every_private_name_that_we_use_is_in_the_table():
    known = {name for names in TABLE.values() for name in names}
    known.update(part for module in MODULES for part in module.split("."))
    known.update(COINCIDENCES)
    missing = {
        name: sorted(places)
        for name, places in names_we_use().items()
        if name in all_private_names() and name not in known
    }
    assert missing == {}, f"the table lacks these, or COINCIDENCES does: {RECIPE}"


def test_every_name_of_the_table_is_used_by_us():
    used = names_we_use()
    unused = [(owner, name) for owner, name in ROWS if name not in used and name != "__init__"]
    assert unused == []
    assert [name for name in COINCIDENCES if name not in used] == []


def test_uses_are_found_however_they_are_written():
    source = """
import _private_module
from standard._private_package import _private_function
class Ours(standard._PrivateClass):
    _attribute = None
    __slots__ = ("_slot",)
    def _method(self): return self._read or getattr(self, "_by_name")
"""
    found = {name for name in in_python(ast.parse(source)) if name.startswith("_")}
    assert found - {"__slots__"} == {
        *("_private_module", "_private_package", "_private_function", "_PrivateClass"),
        *("_attribute", "_slot", "_method", "_read", "_by_name"),
    }
    rust = """
    fn _in_python(&self) {}
    #[getter(_property)]
    fn property(&self) { transport.getattr(intern!(py, "_looked_up")) }
    (c"_in_c", c"_in_c($self)", call)
    """
    assert set(in_rust(rust)) == {"_in_python", "_property", "_looked_up", "_in_c"}

"""Tables of lines are decoded as the interpreter decodes them, for every instruction."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from _offloop_worker import _offloop
from stack_tools import code_objects

pytestmark = pytest.mark.quick

LIBRARY = Path(sysconfig.get_paths()["stdlib"])


def compared(path: Path) -> int:
    """Compare all instructions of a file; how many there are."""
    count = 0
    for code in code_objects(compile(path.read_bytes(), str(path), "exec", dont_inherit=True)):
        ours = _offloop.code_positions(code.co_linetable, code.co_firstlineno)
        assert ours == list(code.co_positions()), (path, code)
        for start, end, line in code.co_lines():
            lines = {position[0] for position in ours[start // 2 : end // 2]}
            assert lines <= {line}, (path, code, start, end)
        count += len(ours)
    return count


FILES = sorted([*LIBRARY.glob("*.py"), *LIBRARY.glob("asyncio/*.py")])


@pytest.mark.parametrize("part", range(4))
def test_positions_of_the_standard_library_are_the_same(part):
    assert sum(map(compared, FILES[part::4])) > 20_000


def test_positions_without_columns_are_the_same():
    source = "import test_positions as t; print(sum(map(t.compared, t.FILES[::10])))"
    program = subprocess.run(
        [sys.executable, "-X", "no_debug_ranges", "-c", source],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=Path(__file__).parent,
    )
    assert program.returncode == 0, program.stderr
    assert int(program.stdout) > 20_000


def test_a_table_that_is_cut_off_has_what_came_before():
    code = test_positions_without_columns_are_the_same.__code__
    whole = _offloop.code_positions(code.co_linetable, code.co_firstlineno)
    for length in range(len(code.co_linetable)):
        part = _offloop.code_positions(code.co_linetable[:length], code.co_firstlineno)
        assert part == whole[: len(part)]
        assert len(part) < len(whole)

"""Names that no UTF-8 and no terminal can hold, of files, functions and tasks."""

import asyncio
import os
import subprocess
import sys

import pytest

import offloop
from offloop._run.calls import function_name
from offloop._run.shown import shown
from offloop._watch import tasks
from offloop._watch.reading import TEXT_MAX, encodable, text_of

pytestmark = pytest.mark.quick

SECONDS_MAX = 50
HALF = os.fsdecode(b"caf\xe9")
"""As the name of a file is read that is no UTF-8."""


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain", "plain"),
        ("größe 漢字 🧑", "größe 漢字 🧑"),
        (HALF, "caf\ufffd"),
        ("a\ud800b\udfff\udc00", "a\ufffdb\ufffd\ufffd"),
        ("\ud83e\uddd1", "🧑"),
    ],
)
def test_text_is_one_that_utf8_can_hold(text, kept):
    assert encodable(text) == text_of(text) == kept
    assert encodable(text).encode().decode() == kept


def test_long_text_is_cut_and_can_be_held():
    found = text_of(HALF * TEXT_MAX)
    assert (len(found), found[-3:]) == (TEXT_MAX, "...")
    assert found.encode()


def test_name_of_a_task_can_be_held():
    async def main():
        return tasks.name_of(asyncio.current_task())

    async def named():
        return await asyncio.create_task(main(), name=HALF)

    assert offloop.run(named()) == "caf\ufffd"


def test_function_of_any_name_is_called_and_counted():
    def call():
        """A function with a name of its own."""

    call.__qualname__ = HALF
    assert function_name(call) == f"{__name__}.caf\ufffd"


@pytest.mark.parametrize(
    ("name", "harmless"),
    [
        ("plain größe 漢字", "plain größe 漢字"),
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("new\nline\ttab\rret", "new\\nline    tab\\rret"),
        ("c1\x9b31m\0", "c1\\x9b31m\\x00"),
        ("rtl\u202egnp.exe", "rtl\\u{202e}gnp.exe"),
        ("sep\u2028zero\u200bwidth\ufeff", "sep\\u{2028}zero\\u{200b}width\\u{feff}"),
        (HALF, "caf\ufffd"),
    ],
)
def test_terminal_only_shows_a_name(name, harmless):
    assert shown(name) == harmless


ODD = """
import asyncio, time, os
from concurrent.futures import ThreadPoolExecutor

def work():
    time.sleep(0.2)

def closed():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(renamed("[/bold]" + EVIL, work)).result()

def renamed(name, function):
    function.__code__ = function.__code__.replace(co_name=name, co_qualname=name)
    function.__qualname__ = name
    return function

EVIL = "\\x1b[2J\\x1b[31mred\\u202e" + os.fsdecode(b"caf\\xe9")

async def main():
    renamed(EVIL, work)()
    await asyncio.sleep(0)
    renamed(EVIL + "2", closed)()
    await asyncio.sleep(0)

asyncio.run(main())
print("it ran")
"""


def test_program_of_any_name_runs_and_is_recorded(tmp_path):
    script = tmp_path / os.fsdecode(b"caf\xe9.py")
    script.write_text(ODD)
    names = {option: os.fsdecode(b"\xe9-" + option.encode()) for option in ("t", "j", "r")}
    words = ["--trace", names["t"], "--journal", names["j"], "--report", names["r"]]
    ended = subprocess.run(
        [sys.executable, "-m", "offloop", "run", *words, script.name],
        cwd=tmp_path,
        capture_output=True,
        timeout=SECONDS_MAX,
    )
    errors = ended.stderr.decode()
    assert (ended.returncode, ended.stdout) == (0, b"it ran\n"), errors
    assert "Traceback" not in errors
    assert "in `\\x1b[2J\\x1b[31mred\\u{202e}caf\ufffd`" in errors
    assert "\x1b" not in errors
    assert "\u202e" not in errors
    page = (tmp_path / names["r"]).read_text(encoding="utf-8")
    assert "caf\ufffd.py" in page
    for name in names.values():
        assert (tmp_path / name).read_bytes().decode()

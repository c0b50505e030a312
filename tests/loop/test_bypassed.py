"""A program that replaces ``Handle._run`` is told once that our loop does not call it.

What is told once in a process is tested in processes of their own.
"""

import sys
import textwrap

import pytest
from test_tools import run_python

WATCH = """
    import asyncio, sys, warnings

    def watch():
        run = asyncio.events.Handle._run

        def watched(handle):
            ran.append(handle)
            return run(handle)

        asyncio.events.Handle._run = watched

    ran = []
    """

MOMENTS = {
    "before the import": """
        watch()
        import offloop
        offloop.run(asyncio.sleep(0))
        """,
    "before the loop is made": """
        import offloop
        watch()
        offloop.run(asyncio.sleep(0))
        """,
    "before the run": """
        import offloop
        loop = offloop.EventLoop()
        watch()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        """,
    "between two runs": """
        import offloop
        loop = offloop.EventLoop()
        loop.run_until_complete(asyncio.sleep(0))
        watch()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        """,
    "in a callback": """
        import offloop

        async def main():
            await asyncio.sleep(0)
            watch()
            await asyncio.sleep(0)

        offloop.run(main())
        """,
    "where the program has rounds of its own": """
        import offloop

        class Own(offloop.EventLoop):
            def _run_once(self):
                super()._run_once()

        loop = Own()
        watch()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        """,
}
AGAIN = """
    watch()
    for _ in range(3):
        offloop.run(asyncio.sleep(0))
    """


def run_program(tmp_path, *parts, options=()):
    """Run a program in a process of its own."""
    (tmp_path / "app.py").write_text("".join(textwrap.dedent(part) for part in parts))
    done = run_python(*options, str(tmp_path / "app.py"))
    assert done.stdout == ""
    return done


@pytest.mark.parametrize("moment", MOMENTS)
def test_program_is_told_once_whenever_it_replaces_the_method(moment, tmp_path):
    done = run_program(tmp_path, WATCH, MOMENTS[moment], AGAIN)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Warning") == 1, done.stderr
    for part in (
        "BypassedWarning: __main__.watch.<locals>.watched was put in the place of",
        "asyncio.events.Handle._run",
        "loop.statistics()",
        "loop._arm_watch()",
    ):
        assert part in done.stderr


def test_warning_can_be_filtered_and_made_an_error(tmp_path):
    filtered = "warnings.simplefilter('ignore', offloop.BypassedWarning)\n"
    quiet = run_program(tmp_path, WATCH, "import offloop\nwatch()\n", filtered, AGAIN)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    failed = run_program(tmp_path, WATCH, MOMENTS["before the run"], options=["-W", "error"])
    assert failed.returncode == 1
    assert "BypassedWarning: __main__.watch.<locals>.watched was put" in failed.stderr


def test_standard_loop_goes_through_it_and_no_program_is_told(tmp_path):
    program = """
        import offloop
        watch()
        asyncio.run(asyncio.sleep(0))
        sys.exit(7 if ran else 8)
        """
    done = run_program(tmp_path, WATCH, program)
    assert (done.returncode, done.stderr) == (7, "")


UNRELATED = {
    "nothing": "",
    "nest_asyncio2": "import nest_asyncio2; nest_asyncio2.apply(loop)",
    "looptime": "import looptime; looptime.patch_event_loop(loop)",
    "another method": "asyncio.events.Handle.cancelled = lambda self: self._cancelled",
    "debug mode": "loop.set_debug(True)",
    "tracing": "sys.settrace(lambda *arguments: None)",
    "undone": "run = asyncio.Handle._run; watch(); asyncio.Handle._run = run",
}
if sys.version_info < (3, 14):
    # Later it makes use of what is deprecated there.
    UNRELATED["nest_asyncio"] = "import nest_asyncio; nest_asyncio.apply(loop)"


@pytest.mark.parametrize("name", UNRELATED)
def test_no_program_is_told_of_anything_else(name, tmp_path):
    program = f"""
        import offloop
        loop = offloop.EventLoop()
        asyncio.set_event_loop(loop)

        async def main():
            await asyncio.sleep(0)
            {UNRELATED[name]}
            await asyncio.sleep(0)

        {UNRELATED[name]}
        loop.run_until_complete(main())
        loop.close()
        """
    done = run_program(tmp_path, WATCH, program, options=["-W", "error"])
    assert (done.returncode, done.stderr) == (0, ""), sys.version

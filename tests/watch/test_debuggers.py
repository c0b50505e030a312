"""What waits at the prompt of a debugger is no fault of the code there."""

import code
import io
import pdb
from textwrap import dedent

import pytest

import offloop


class Typing(io.StringIO):
    """The input of a prompt: one command, once the watch has told of a stall."""

    def __init__(self, heard, command):
        super().__init__()
        self.heard = heard
        self.command = command

    def readline(self, size=-1):
        self.heard.wait_found()
        return self.command


def at_breakpoint(heard):
    debugger = pdb.Pdb(
        stdin=Typing(heard, "continue\n"), stdout=io.StringIO(), nosigint=True, readrc=False
    )
    debugger.prompt = ""

    def block():
        debugger.set_trace()
        return heard

    return block


def at_console(heard):
    def typed(prompt):
        heard.wait_found()
        raise EOFError

    def block():
        code.interact(banner="", readfunc=typed, exitmsg="")

    return block


@pytest.mark.parametrize("make", [at_breakpoint, at_console])
def test_stall_at_a_prompt_blames_no_code(any_loop, heard, make):
    any_loop.call_soon(make(heard))
    any_loop.call_soon(any_loop.stop)
    any_loop.run_forever()
    heard.wait_over()
    named = [stall for stall in heard.stalls if not stall.stack_quality.startswith("missing")]
    for stall in named:
        # On a busy machine the system may be the one that is to blame.
        assert stall.cause in (offloop.StallCause.STOPPED, offloop.StallCause.STARVED)
        assert stall.culprit is None


def test_breakpoint_fails_no_strict_run_and_is_told_once(offloop_command, tmp_path):
    program = """
        import asyncio, io, pdb, time

        class Slow(io.StringIO):
            def readline(self, size=-1):
                time.sleep(0.3)
                return "continue\\n"

        async def main():
            for _ in range(3):
                pdb.Pdb(stdin=Slow(), stdout=io.StringIO(), readrc=False).set_trace()
                await asyncio.sleep(0)

        asyncio.run(main())
    """
    (tmp_path / "app.py").write_text(dedent(program))
    ended = offloop_command("run", "--strict", "--no-report", "--threshold", "0.1", "app.py")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("offloop: ") <= 1, ended.stderr
    assert "to_thread" not in ended.stderr

"""What a person reads of a stall: while it lasts, once in full, and in the report."""

import os
from textwrap import dedent

import pytest

from gates import PATIENCE_SECONDS, is_readable, run_program, start_program

STRICT_STATUS = 3


def read_until(descriptor, wanted):
    """Read a pipe until a text was in it."""
    text = ""
    while wanted not in text:
        assert is_readable(descriptor, PATIENCE_SECONDS), f"{wanted!r} is not in {text!r}"
        piece = os.read(descriptor, 65_536).decode()
        assert piece, f"{wanted!r} is not in {text!r}"
        text += piece
    return text


def test_call_of_c_that_keeps_the_gil_is_told_while_it_lasts(tmp_path):
    """It reads a pipe that the test writes to when it has read the block."""
    program = """
        import asyncio, ctypes, os, sys
        import offloop

        libc = ctypes.PyDLL(None)
        go_on = int(sys.argv[1])

        async def main():
            buffer = ctypes.create_string_buffer(1)
            libc.read(go_on, buffer, 1)

        offloop.watch(0.02)
        offloop.run(main())
    """
    reads, writes = os.pipe()
    with start_program(tmp_path, program, str(reads), pass_fds=[reads], cwd=tmp_path) as process:
        os.close(reads)
        errors = process.stderr.fileno()
        block = read_until(errors, "╰")
        assert "program.py:10 in main" in block
        assert "libc.read(go_on, buffer, 1)" in block
        assert "and still is" in block
        os.write(writes, b"x")
        os.close(writes)
        read_until(errors, "it was ")
        assert process.wait(PATIENCE_SECONDS) == 0


def test_stderr_that_is_not_read_holds_up_no_loop(tmp_path):
    program = """
        import asyncio, os, sys, time
        import offloop

        os.set_blocking(2, False)
        while True:
            try:
                os.write(2, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(2, True)
        told = []
        offloop.watch(0.02, told.append)

        async def main():
            for number in range(3):
                while len([stall for stall in told if stall.duration]) < number:
                    await asyncio.sleep(0)
                time.sleep(0.3)

        offloop.run(main())
        offloop.watch.stop()
        print(sum(stall.duration is not None for stall in told))
    """
    with start_program(tmp_path, program) as process:
        assert process.wait(PATIENCE_SECONDS) == 0
        assert int(process.stdout.read()) >= 3


def test_signal_for_a_broken_pipe_does_not_come_from_the_watch(tmp_path):
    program = """
        import asyncio, os, signal, time
        import offloop

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        reads, writes = os.pipe()
        os.close(reads)
        os.dup2(writes, 2)
        told = []
        offloop.watch(0.02, told.append)

        async def main():
            time.sleep(0.3)

        offloop.run(main())
        offloop.watch.stop()
        print(len(told))
    """
    result = run_program(tmp_path, program)
    assert result.returncode == 0
    assert int(result.stdout) >= 1


SHARED = """
    import asyncio, time

    def helper():
        time.sleep(0.3)

    async def main():
        helper()
        await asyncio.sleep(0)
        helper()

    asyncio.run(main())
"""
EXITS = """
    import sys
    sys.exit(7)
"""


@pytest.mark.parametrize(
    ("options", "status"), [(["--strict"], STRICT_STATUS), ([], 0), (["--no-watch"], 0)]
)
def test_program_as_it_is_is_told_its_line_and_ends_as_asked(run_source, options, status):
    ended = run_source(SHARED, options=("--threshold", "0.02", *options))
    assert ended.returncode == status
    if "--no-watch" in options:
        assert "blocked" not in ended.stderr
        return
    assert "time.sleep(0.3)" in ended.stderr
    assert "await offloop.to_thread(helper)" in ended.stderr
    assert ended.stderr.count("╭─") == 1, "the second time is a line"
    assert "in `helper` (sleep): " in " ".join(ended.stderr.split())


def test_line_that_is_allowed_to_block_is_not_told_and_is_no_failure(run_source):
    allowed = SHARED.replace("sleep(0.3)", "sleep(0.3)  # offloop: allow it starts up")
    ended = run_source(allowed, options=("--strict", "--threshold", "0.02"))
    assert ended.returncode == 0, ended.stderr
    assert "time.sleep" not in ended.stderr


STOPS_ITS_PARENT = """
    import os, signal, time
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(os.getppid(), signal.SIGCONT)
"""


def test_strict_run_does_not_fail_for_what_no_code_did(run_source):
    source = f"""
        import asyncio, subprocess, sys, time

        async def main():
            child = subprocess.Popen([sys.executable, "-c", {dedent(STOPS_ITS_PARENT)!r}])
            while child.poll() is None:
                computed = time.thread_time() + 0.01
                while time.thread_time() < computed:
                    pass
                await asyncio.sleep(0)

        asyncio.run(main())
    """
    ended = run_source(source, options=("--strict", "--threshold", "0.1"))
    assert ended.returncode == 0, ended.stderr
    assert "no code is to blame" in ended.stderr


def test_strict_run_keeps_the_status_of_a_program_that_fails(run_source):
    ended = run_source(SHARED + EXITS, options=("--strict", "--threshold", "0.02"))
    assert ended.returncode == 7


@pytest.mark.parametrize(
    ("threshold", "said"),
    [
        ("nan", "'nan' is not from 0.001 to 3600 seconds"),
        ("0", "'0' is not from"),
        ("4000s", "'4000s' is not from"),
        ("soon", "'soon' is no time; write 50ms, 0.2s or 0.2"),
        ("50ms", None),
        ("0.05", None),
        ("1s", None),
    ],
)
def test_threshold_is_written_in_seconds_or_with_its_unit(run_source, threshold, said):
    ended = run_source("print('ran')", options=("--threshold", threshold))
    if said is None:
        assert (ended.returncode, ended.stdout) == (0, "ran\n"), ended.stderr
    else:
        assert (ended.returncode, ended.stdout) == (2, "")
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr


def test_strict_run_needs_the_watch(run_source):
    ended = run_source("pass", options=("--strict", "--no-watch"))
    assert ended.returncode == 2
    assert "--strict needs the watch" in ended.stderr


def test_strict_run_sees_threads_that_outlive_the_main_program(run_source):
    source = """
        import asyncio, threading, time

        async def main():
            threading.main_thread().join()
            time.sleep(0.3)

        threading.Thread(target=asyncio.run, args=(main(),)).start()
    """
    ended = run_source(source, options=("--strict", "--threshold", "0.02"))
    assert ended.returncode == STRICT_STATUS, ended.stderr

"""What people look at a program with: debuggers, tracers, dev mode, IPython, fault reports."""

import asyncio
import os
import subprocess
import sys
import textwrap

import pytest

from gates import PATIENCE_SECONDS

OUR_LOOP = "offloop._loop.event_loop"


def run_python(*arguments: str, said: str = "", home=None) -> "subprocess.CompletedProcess[str]":
    """Run the interpreter with something on its standard input."""
    environment = {key: value for key, value in os.environ.items() if "ASYNCIO" not in key}
    if home is not None:
        environment |= {"HOME": str(home), "IPYTHONDIR": str(home)}
    return subprocess.run(
        [sys.executable, *arguments],
        input=said,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )


class Traced(asyncio.Protocol):
    """Every method that the loop calls on a connection, to be seen by a tracer."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(1)

    def data_received(self, data):
        self.received = data

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.resumed = True

    def eof_received(self):
        return False

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def called_from_the_loop(run, install) -> list[str]:
    """The functions of this file that a tracer or profiler sees while connections come and go."""
    seen = set()

    def on_event(frame, event, argument):
        if event == "call" and frame.f_code.co_filename == __file__:
            seen.add(frame.f_code.co_name)
        return on_event

    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Traced, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        transport, client = await loop.create_connection(Traced, *address)
        transport.write(b"hello")
        transport.write(bytes(1 << 24))
        loop.call_soon(a_callback)
        loop.call_later(0.001, a_timer)
        await asyncio.sleep(0.002)
        transport.write_eof()
        await client.lost
        server.close()

    install(on_event)
    try:
        run(main())
    finally:
        install(None)
    return sorted(seen & {*vars(Traced), "a_callback", "a_timer"})


def a_callback():
    """Is scheduled by a test."""


def a_timer():
    """Is scheduled by a test."""


@pytest.mark.parametrize("install", [sys.settrace, sys.setprofile])
def test_tracers_and_profilers_see_what_the_loop_calls(run, install):
    before = sys.gettrace(), sys.getprofile()
    methods = [name for name, value in vars(Traced).items() if callable(value)]
    assert called_from_the_loop(run, install) == sorted([*methods, "a_callback", "a_timer"])
    assert (sys.gettrace(), sys.getprofile()) == before


LOOK_AROUND = """
    import asyncio, offloop

    def callback(number):
        doubled = 2 * number
        breakpoint()
        future.set_result(doubled)

    async def main():
        global future
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(callback, 21)
        print("answer", await future)

    offloop.run(main())
    """


def test_debugger_stops_in_a_callback_and_goes_on(tmp_path):
    (tmp_path / "app.py").write_text(textwrap.dedent(LOOK_AROUND))
    done = run_python(str(tmp_path / "app.py"), said="p doubled\nup\ncontinue\n")
    assert "(Pdb) 42" in done.stdout, done.stderr
    assert "event_loop.py" in done.stdout
    assert done.stdout.endswith("answer 42\n")


POST_MORTEM = """
    import asyncio, pdb, offloop

    def callback(number):
        halves = number // 0

    def on_problem(loop, about):
        pdb.post_mortem(about["exception"].__traceback__)
        loop.stop()

    loop = offloop.new_event_loop()
    loop.set_exception_handler(on_problem)
    loop.call_soon(callback, 21)
    loop.run_forever()
    loop.close()
    print("ended")
    """


def test_post_mortem_shows_the_frame_that_failed(tmp_path):
    (tmp_path / "app.py").write_text(textwrap.dedent(POST_MORTEM))
    done = run_python(str(tmp_path / "app.py"), said="p number\nquit\n")
    assert "halves = number // 0" in done.stdout, done.stderr
    assert "(Pdb) 21" in done.stdout
    assert done.stdout.endswith("ended\n")


STUCK = """
    import faulthandler, offloop, sys

    def deep():
        faulthandler.dump_traceback(sys.stdout)

    loop = offloop.new_event_loop()
    loop.call_soon(deep)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    """


def test_fault_report_names_the_callback_and_the_loop(tmp_path):
    (tmp_path / "app.py").write_text(textwrap.dedent(STUCK))
    done = run_python(str(tmp_path / "app.py"))
    functions = [line.split()[-1] for line in done.stdout.splitlines() if " in " in line]
    assert functions == ["deep", "run_forever", "<module>"], done.stderr


EVERYTHING = """
    import asyncio, sys, offloop

    async def answer(reader, writer):
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    async def main():
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\\n")
            line = await reader.read()
            writer.close()
            await writer.wait_closed()
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(1)", stdout=-1)
        printed, _ = await child.communicate()
        loop.call_later(0, abs, -1)
        await asyncio.sleep(0.001)
        await asyncio.to_thread(abs, -1)
        return loop.get_debug(), line, printed

    print(offloop.run(main()))
    """


def test_dev_mode_with_warnings_as_errors_has_nothing_to_say(tmp_path):
    (tmp_path / "app.py").write_text(textwrap.dedent(EVERYTHING))
    done = run_python("-X", "dev", "-W", "error", "-X", "faulthandler", str(tmp_path / "app.py"))
    assert done.stdout == "(True, b'hello\\n', b'1\\n')\n", done.stderr
    # How slow the machine is, is not the question.
    told = [line for line in done.stderr.splitlines() if not line.startswith("Executing ")]
    assert told == []


@pytest.mark.parametrize("how", ["first cell", "configuration"])
def test_ipython_awaits_on_our_loop(tmp_path, how):
    install = "import offloop; offloop.install()"
    cells = "import asyncio\nawait asyncio.sleep(0); kind = type(asyncio.get_running_loop())\n"
    cells += 'print("on", kind.__module__)\nawait offloop.to_process(abs, -3)\n'
    options = ["--simple-prompt", "--no-banner", "-i"]
    if how == "first cell":
        cells = f"{install}\n{cells}"
    else:
        options.append(f"--InteractiveShellApp.exec_lines={install}")
        cells = f"import offloop\n{cells}"
    done = run_python("-m", "IPython", *options, said=cells, home=tmp_path)
    assert f"on {OUR_LOOP}\n" in done.stdout, done.stdout + done.stderr
    assert ": 3\n" in done.stdout


if sys.version_info >= (3, 14):

    @pytest.mark.parametrize("tool", ["ps", "pstree"])
    def test_tasks_of_a_running_program_are_shown_from_outside(tool):
        program = """
            import asyncio, offloop, sys

            async def wait():
                print("waiting", flush=True)
                await asyncio.get_running_loop().connect_read_pipe(asyncio.Protocol, sys.stdin)
                await asyncio.Event().wait()

            async def main():
                async with asyncio.TaskGroup() as group:
                    group.create_task(wait(), name="the one that waits")

            offloop.run(main())
        """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as running:
            try:
                assert running.stdout.readline() == b"waiting\n"
                shown = run_python("-m", "asyncio", tool, str(running.pid))
            finally:
                running.kill()
        assert shown.returncode == 0, shown.stderr
        assert "the one that waits" in shown.stdout
        assert "wait" in shown.stdout
        assert "TaskGroup" in shown.stdout

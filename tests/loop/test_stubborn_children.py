"""Child processes that never end by themselves, and what becomes of tasks that wait for them."""

import asyncio
import gc
import os
import signal
import subprocess
import sys

import pytest

from gates import Watched

STUBBORN = """
import signal, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
"""


async def start_stubborn(**options) -> asyncio.subprocess.Process:
    """A child that ignores every polite signal, once it says that it is ready."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STUBBORN, stdout=subprocess.PIPE, **options
    )
    assert await child.stdout.readline() == b"ready\n"
    return child


def test_wait_for_a_child_that_ignores_the_end_times_out_and_killing_ends_it(run):
    async def main():
        child = await start_stubborn()
        child.terminate()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await child.wait()
        assert child.returncode is None
        child.kill()
        return await asyncio.gather(child.wait(), child.wait(), child.stdout.read())

    assert run(main()) == [-signal.SIGKILL, -signal.SIGKILL, b""]


def test_cancelled_communication_leaves_the_child_to_its_owner(run):
    async def main():
        child = await start_stubborn(stdin=subprocess.PIPE)
        talking = asyncio.create_task(child.communicate(bytes(1 << 20)))
        await asyncio.sleep(0)
        talking.cancel()
        await asyncio.wait([talking])
        assert talking.cancelled()
        assert child.returncode is None
        child.kill()
        return await child.wait()

    assert run(main()) == -signal.SIGKILL


def test_signals_to_a_child_that_has_ended_are_refused_or_ignored_as_ever(run):
    async def main():
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
        assert await child.wait() == 0
        refused = []
        for call in (child.kill, child.terminate, lambda: child.send_signal(signal.SIGINT)):
            try:
                call()
            except ProcessLookupError:
                refused.append(True)
        return refused, await child.wait()

    assert run(main()) == ([True] * 3, 0)


def test_transport_that_is_closed_kills_its_child(run):
    async def main():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.subprocess_exec(
            asyncio.SubprocessProtocol, sys.executable, "-c", STUBBORN
        )
        watched = Watched(transport.get_pid())
        transport.close()
        await loop.run_in_executor(None, watched.wait_exit)
        watched.close()
        transport.close()
        return transport.is_closing()

    assert run(main())


def test_command_that_cannot_be_run_ends_in_the_standard_error_and_leaves_nothing(run, tmp_path):
    not_executable = tmp_path / "file"
    not_executable.write_text("text")
    cases = {
        FileNotFoundError: ("/nowhere/at/all",),
        PermissionError: (str(not_executable),),
        TypeError: (sys.executable, 7),
        ValueError: (sys.executable, "-c", "null\0byte"),
    }

    async def main():
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("/nowhere/at/all")
        before = len(os.listdir("/proc/self/fd"))
        for error, command in cases.items():
            for _ in range(5):
                with pytest.raises(error):
                    await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        gc.collect()
        return len(os.listdir("/proc/self/fd")) - before

    assert run(main()) <= 0

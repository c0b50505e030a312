"""Children where the system, a filter or the program does not want them started in our way."""

import asyncio
import gc
import os
import subprocess
import sys
from asyncio.subprocess import PIPE

import pytest

from gates import PATIENCE_SECONDS, Watched, run_program

CHILDREN = """
import asyncio, errno, sys
import offloop
from forbidden import CLONE_PIDFD, forbid
{filters}
seen = []
sys.addaudithook(lambda event, arguments: seen.append(event))
async def main():
    ends = []
    for script in ("exit 3", "kill -USR1 $$", "read line; exit 4"):
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", script, stdin=-1)
        await process.communicate(b"line\\n")
        ends.append(process.returncode)
    process = await asyncio.create_subprocess_exec("/bin/sleep", "1000")
    process.kill()
    ends.append(await process.wait())
    try:
        await asyncio.create_subprocess_exec("/no/such/program")
    except FileNotFoundError as error:
        ends.append(error.filename)
    return ends
with asyncio.Runner(loop_factory=offloop.EventLoop) as runner:
    print(runner.run(main()), seen.count("subprocess.Popen"))
"""

REFUSED = {
    "nothing": ("", 5),
    # The first is told twice: by us, and by the standard code, which makes it after all.
    "clone with a descriptor": (
        'forbid("clone", errno.EPERM, CLONE_PIDFD)',
        6,
    ),
    "clone with a descriptor, in other words": (
        'forbid("clone", errno.EINVAL, CLONE_PIDFD)',
        6,
    ),
    "the newer clone": ('forbid("clone3", errno.ENOSYS)', 5),
    "signals by a descriptor": ('forbid("pidfd_send_signal", errno.EPERM)', 5),
}


@pytest.mark.parametrize("name", REFUSED)
def test_children_are_started_and_signalled_though_the_system_refuses_a_way(tmp_path, name):
    filters, told = REFUSED[name]
    ended = run_program(tmp_path, CHILDREN.format(filters=filters))
    ends = [3, -10, 4, -9, "/no/such/program"]
    assert ended.stdout == f"{ends} {told}\n", ended.stderr


@pytest.mark.parametrize("way", ["switch", "function", "none"])
def test_the_program_may_forbid_that_a_child_borrows_our_memory(our_loop, monkeypatch, way):
    calls = []
    fork_exec = subprocess._fork_exec

    def noted(*arguments):
        calls.append(arguments[-1])
        return fork_exec(*arguments)

    if way == "switch":
        monkeypatch.setattr(subprocess, "_USE_VFORK", False, raising=False)
    if way != "none":
        monkeypatch.setattr(subprocess, "_USE_POSIX_SPAWN", False)
        monkeypatch.setattr(subprocess, "_fork_exec", noted)

    async def main():
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 5", close_fds=True)
        return await process.wait()

    assert our_loop.run_until_complete(main()) == 5
    assert len(calls) == (way != "none")
    if sys.version_info < (3, 14):
        # The last argument says whether it may; later versions have the switch no more.
        assert calls == {"switch": [False], "function": [True], "none": []}[way]


def test_descriptors_are_passed_whatever_gives_them_and_starts_the_child(run, monkeypatch):
    async def main():
        reader, writer = os.pipe()
        for switch in (True, False):
            monkeypatch.setattr(subprocess, "_USE_VFORK", switch, raising=False)
            process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", f"echo passed >/proc/self/fd/{writer}", pass_fds=iter([writer])
            )
            assert await process.wait() == 0
            assert os.read(reader, 100) == b"passed\n"
        # Refused by us, and so left to the standard code.
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", f"echo passed >/proc/self/fd/{writer}", pass_fds=iter([str(writer)])
        )
        assert await process.wait() == 0
        assert os.read(reader, 100) == b"passed\n"
        os.close(reader)
        os.close(writer)

    run(main())


@pytest.mark.parametrize("number", [-5, -2])
def test_numbers_that_are_no_descriptors_are_refused(run, number):
    async def main():
        with pytest.raises(OSError, match="Bad file descriptor"):
            await asyncio.create_subprocess_exec("/bin/true", stdin=number, stdout=PIPE)

    run(main())
    # The transport that came to nothing has pipes.
    gc.collect()


class Held:
    """An ended child that its debugger has not let go: no other process gets its status."""

    def __init__(self, child):
        self._child = child
        self.looks = 0
        self.held = True

    def __getattr__(self, name):
        return getattr(self._child, name)

    def take_status(self):
        self.looks += 1
        return None if self.held else self._child.take_status()


def test_a_child_that_a_debugger_holds_costs_the_loop_nothing(our_loop):
    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE)
        process._transport._child = child = Held(process._transport._child)
        watched = Watched(process.pid)
        process.stdin.close()
        await our_loop.run_in_executor(None, watched.wait_exit)
        watched.close()
        # In each of these turns the descriptor is readable.
        for _ in range(1000):
            await asyncio.sleep(0)
        looks = child.looks
        assert process.returncode is None
        child.held = False
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.wait() == 0
        return looks

    # A look in each turn would be a thousand; one each 50 ms is a few, on slow machines, too.
    assert 1 <= our_loop.run_until_complete(main()) < 100

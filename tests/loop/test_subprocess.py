"""Child processes: each argument of ``Popen``, errors, signals, and that nothing is left over."""

import asyncio
import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path

import pytest

import offloop
from gates import children_of, run_program
from offloop._loop import subprocesses

CHILDREN = 200
WHERE_DESCRIPTORS_TELL = pytest.mark.parametrize(
    "make_loop",
    ["offloop"] if sys.version_info < (3, 12) else ["asyncio", "offloop"],
    indirect=True,
)
"""Before Python 3.12 the standard loop has a thread wait for each child, which is first to know."""


def open_descriptors() -> list[str]:
    """The descriptors of this process."""
    return sorted(os.listdir("/proc/self/fd"))


def is_open(descriptor: str) -> bool:
    """Whether a descriptor is open still: the one of the listing itself is not."""
    return Path("/proc/self/fd", descriptor).is_symlink()


@pytest.fixture
def children_left():
    """Whether this process has a child of the test's, and not of another test's pool."""
    others = children_of(os.getpid())
    return lambda: bool(set(children_of(os.getpid())) - set(others))


async def sh(script: str, **options):
    """Run a script, and return what it wrote and how it ended."""
    options = {"stdout": PIPE, "stderr": PIPE, **options}
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", script, **options)
    out, err = await process.communicate()
    return out, err, process.returncode


OPTIONS = {
    "nothing": ("echo out; echo err >&2; exit 3", {}),
    "directory": ("pwd", {"cwd": "/usr"}),
    "directory as bytes": ("pwd", {"cwd": b"/usr"}),
    "environment": ("echo $A", {"env": {"A": "b", "PATH": "/bin:/usr/bin"}}),
    "environment of bytes": ("echo $A", {"env": {b"A": b"\xff"}}),
    "empty environment": ("echo $HOME", {"env": {}}),
    "mask": ("umask", {"umask": 0o27}),
    "session": ("cut -d' ' -f6 /proc/$$/stat | grep -qx $$", {"start_new_session": True}),
    "group": ("cut -d' ' -f5 /proc/$$/stat | grep -qx $$", {"process_group": 0}),
    "errors with the output": ("echo out; echo err >&2", {"stderr": STDOUT}),
    "no output": ("echo out", {"stdout": DEVNULL}),
    "no input": ("cat; echo end", {"stdin": DEVNULL}),
    "ignored signals": ("kill -PIPE $$; echo alive", {"restore_signals": True}),
    "kept signals": ("kill -PIPE $$; echo alive", {"restore_signals": False}),
    "killed": ("kill -TERM $$", {}),
    "program of its own name": ("echo $0", {"executable": "/bin/bash"}),
    "descriptors that are not closed": ("echo", {"close_fds": False}),
    "code in the child": ("umask", {"preexec_fn": lambda: os.umask(0o33) and None}),
    "user": ("id -u; id -g; id -G", {"user": 65534, "group": 65534, "extra_groups": [65534]}),
    "size of the pipe": ("echo out", {"pipesize": 4096}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_argument_does_what_it_does_in_the_standard_loop(name, children_left):
    script, options = OPTIONS[name]
    if "user" in options and os.getuid() != 0:
        options = {key: os.getuid() if key == "user" else os.getgid() for key in ("user", "group")}
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        standard = runner.run(sh(script, **options))
    with asyncio.Runner(loop_factory=offloop.EventLoop) as runner:
        assert runner.run(sh(script, **options)) == standard
    assert not children_left()


def test_options_do_something():
    async def main():
        assert await sh("umask", umask=0o27) == (b"0027\n", b"", 0)
        assert await sh("kill -TERM $$") == (b"", b"", -signal.SIGTERM)
        assert await sh("kill -PIPE $$; echo on") == (b"", b"", -signal.SIGPIPE)
        assert (await sh("umask", preexec_fn=lambda: os.umask(0o33) and None))[0] == b"0033\n"
        options = {"start_new_session": True}
        assert (await sh("cut -d' ' -f6 /proc/$$/stat | grep -qx $$", **options))[2] == 0

    with asyncio.Runner(loop_factory=offloop.EventLoop) as runner:
        runner.run(main())


REFUSED = {
    "no such program": (["/no/such/program"], {}),
    "no such program in the path": (["no-such-program"], {}),
    "no program": (["/etc/passwd"], {}),
    "a directory": (["/etc"], {}),
    "no such directory": (["/bin/true"], {"cwd": "/no/such/directory"}),
    "no directory": (["/bin/true"], {"cwd": "/etc/passwd"}),
    "text": (["/bin/true"], {"text": True}),
    "encoding": (["/bin/true"], {"encoding": "utf-8"}),
    "bufsize": (["/bin/true"], {"bufsize": 1}),
    "zero in an argument": (["/bin/true", "a\0b"], {}),
    "zero in the program": (["/bin/tr\0ue"], {}),
    "zero in a variable": (["/bin/true"], {"env": {"A": "b\0c"}}),
    "name of a variable": (["/bin/true"], {"env": {"A=B": "c"}}),
    "a number for a variable": (["/bin/true"], {"env": {"A": 5}}),
    "a number for an argument": (["/bin/true", 5], {}),
    "a number for a directory": (["/bin/true"], {"cwd": 1.5}),
    "descriptor": (["/bin/true"], {"pass_fds": [987654]}),
    "negative descriptor": (["/bin/true"], {"pass_fds": [-1]}),
    "unknown": (["/bin/true"], {"no_such_option": 1}),
    "code in the child": (["/bin/true"], {"preexec_fn": lambda: 1 / 0}),
    "group of another session": (["/bin/true"], {"process_group": 1}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_started_is_refused_as_in_the_standard_loop(name, children_left):
    command, options = REFUSED[name]
    seen = []
    for factory in (asyncio.SelectorEventLoop, offloop.EventLoop):

        async def main():
            gc.collect()
            descriptors = open_descriptors()
            with pytest.raises(Exception) as caught:
                await asyncio.create_subprocess_exec(*command, stdout=PIPE, **options)
            error = caught.value
            seen.append((type(error), error.args, getattr(error, "filename", None)))
            del caught, error
            gc.collect()
            # What other tests have left may go meanwhile.
            assert set(open_descriptors()) <= set(descriptors)

        with warnings.catch_warnings(), asyncio.Runner(loop_factory=factory) as runner:
            warnings.simplefilter("ignore", ResourceWarning)
            runner.run(main())
        assert not children_left()
    standard, ours = seen
    if name == "zero in the program":
        # The text depends on the call by which the standard library starts it.
        standard, ours = standard[0], ours[0]
    if name in ("descriptor", "group of another session") and sys.version_info < (3, 13):
        # Before 3.13 the error names a file that it is not about.
        standard = (*standard[:2], ours[2])
        standard = (standard[0], standard[1][:2], standard[2])
    assert ours == standard


def test_command_for_the_shell(run):
    async def main():
        process = await asyncio.create_subprocess_shell("echo $((1 + 1)); exit 4", stdout=PIPE)
        return await process.communicate(), process.returncode

    assert run(main()) == ((b"2\n", None), 4)


def test_program_is_found_in_the_path_of_the_childs_environment(run, tmp_path):
    program = tmp_path / "program-of-ours"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)

    async def main():
        env = {"PATH": f"/no/such:{tmp_path}:/bin:/usr/bin"}
        process = await asyncio.create_subprocess_exec("program-of-ours", env=env, stdout=PIPE)
        return await process.communicate()

    assert run(main()) == (b"found\n", None)


def test_passed_descriptor_is_open_in_the_child_and_others_are_not(run):
    read, write = os.pipe()
    other = os.dup(read)
    os.set_inheritable(other, True)

    async def main():
        script = f"echo passed >/proc/self/fd/{write}; test -e /proc/self/fd/{other}"
        return (await sh(script, pass_fds=[write]))[2]

    assert run(main()) == 1
    assert os.read(read, 100) == b"passed\n"
    for fd in (read, write, other):
        os.close(fd)


def test_standard_descriptors_of_a_program_that_has_none_reach_the_child(tmp_path):
    program = f"""
import asyncio, os, sys
import offloop
result = os.open({str(tmp_path / "result")!r}, os.O_CREAT | os.O_WRONLY)
high = os.dup2(result, 100)
os.closerange(0, 3)
async def main():
    # The pipes get the numbers 0 to 2 of the parent, in every order.
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", "read line; echo out $line; echo err >&2",
            stdin=-1, stdout=-1, stderr=-1)
        os.write(high, repr(await process.communicate(b"in\\n")).encode() + b"\\n")
        os.open("/dev/null", os.O_RDONLY)
with asyncio.Runner(loop_factory=offloop.EventLoop) as runner:
    runner.run(main())
"""
    ended = run_program(tmp_path, program)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "result").read_text() == "(b'out in\\n', b'err\\n')\n" * 3


def test_many_children_at_once_leave_no_descriptor_thread_or_zombie(run, children_left):
    threads = threading.active_count()

    async def one(number):
        return await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", f"read line; exit {number % 100}", stdin=PIPE, stdout=PIPE
        )

    async def main():
        await sh("true")
        gc.collect()
        descriptors = open_descriptors()
        processes = await asyncio.gather(*map(one, range(CHILDREN)))
        running = threading.active_count()
        await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
        assert [process.returncode for process in processes] == [
            number % 100 for number in range(CHILDREN)
        ]
        del processes
        gc.collect()
        assert open_descriptors() == descriptors
        assert not children_left()
        return running

    running = run(main())
    if sys.version_info >= (3, 12) or running - threads < CHILDREN:
        # The standard loop of 3.11 has a thread for each child.
        assert running == threads


@WHERE_DESCRIPTORS_TELL
def test_status_that_other_code_took_is_255(run, caplog):
    async def main():
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "read line", stdin=PIPE)
        process.stdin.write(b"\n")
        # Nothing of the loop runs until other code has taken the status.
        os.waitpid(process.pid, 0)
        return await process.wait()

    assert run(main()) == 255
    assert "will report returncode 255" in caplog.text


def test_status_that_the_process_object_took_is_not_lost(our_loop):
    async def main():
        command = ("/bin/sh", "-c", "read line; exit 9")
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE)
        popen = process._transport.get_extra_info("subprocess")
        assert isinstance(popen, subprocess.Popen)
        # It ends now: had it ended before, the loop might have taken its status.
        process.stdin.write(b"\n")
        assert popen.wait() == 9
        return await process.wait()

    assert our_loop.run_until_complete(main()) == 9


def test_signals_reach_the_child_while_it_runs_and_no_process_afterwards(run):
    async def main():
        ends = []
        for name in ("terminate", "kill", "send_signal"):
            process = await asyncio.create_subprocess_exec("/bin/sleep", "1000")
            arguments = (signal.SIGUSR1,) if name == "send_signal" else ()
            getattr(process, name)(*arguments)
            ends.append(await process.wait())
            with pytest.raises(ProcessLookupError):
                getattr(process, name)(*arguments)
        return ends

    assert run(main()) == [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGUSR1]


def test_signal_to_a_child_that_has_ended_goes_to_no_process(our_loop):
    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE)
        transport = process._transport
        exited = []

        def process_exited():
            # The transport still knows its process; were its number used, any could be hit.
            transport._proc.pid = os.getpid()
            for send in (transport.terminate, transport.kill):
                send()
            transport.send_signal(signal.SIGUSR1)
            exited.append(transport._child.fileno())

        process._protocol.process_exited = process_exited
        process.stdin.close()
        ended = await process.wait()
        assert exited == [-1]
        return ended

    assert our_loop.run_until_complete(main()) == 0


def test_wrong_signal_is_an_error(run):
    async def main():
        process = await asyncio.create_subprocess_exec("/bin/sleep", "1000")
        with pytest.raises(OSError, match="Invalid argument"):
            process.send_signal(12345)
        process.kill()
        return await process.wait()

    assert run(main()) == -signal.SIGKILL


def test_cancelled_wait_leaves_the_child_alone(run):
    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE, stdout=PIPE)
        for make in (process.wait, process.communicate):
            task = asyncio.ensure_future(make())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert process.returncode is None
        process.kill()
        return await process.wait()

    assert run(main()) == -signal.SIGKILL


def test_cancelled_creation_leaves_no_child(our_loop, children_left):
    async def main():
        gc.collect()
        descriptors = open_descriptors()
        for turns in range(4):
            starting = asyncio.ensure_future(
                asyncio.create_subprocess_exec("/bin/sleep", "1000", stdin=PIPE, stdout=PIPE)
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
        gc.collect()
        assert not children_left()
        return descriptors

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        descriptors = our_loop.run_until_complete(main())
        gc.collect()
    assert open_descriptors() == descriptors


@WHERE_DESCRIPTORS_TELL
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_child_of_a_closed_loop_is_killed_with_its_transport(make_loop):
    loop = make_loop()
    process = loop.run_until_complete(asyncio.create_subprocess_exec("/bin/sleep", "1000"))
    popen = process._transport.get_extra_info("subprocess")
    loop.close()
    del loop, process
    gc.collect()
    assert popen.wait() == -signal.SIGKILL


def test_loop_of_another_thread_has_children_too(make_loop):
    outcomes = []

    def work():
        with asyncio.Runner(loop_factory=make_loop) as runner:
            outcomes.append(runner.run(sh("echo out; exit 5")))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcomes == [(b"out\n", b"", 5)]


EXHAUSTED = """
import asyncio, errno, gc, os, resource, sys, warnings
from asyncio.subprocess import PIPE
from pathlib import Path

import offloop


def open_descriptors():
    return sorted(os.listdir("/proc/self/fd"))


def is_open(descriptor):
    return Path("/proc/self/fd", descriptor).is_symlink()


def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


async def start():
    return await asyncio.create_subprocess_exec("/bin/true", stdin=PIPE, stdout=PIPE, stderr=PIPE)


async def main():
    await (await start()).communicate()
    gc.collect()
    # No number below the highest is free.
    fillers = [os.dup(0) for _ in range(max(map(int, open_descriptors())))]
    descriptors = open_descriptors()
    kept = set(filter(is_open, descriptors))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    outcomes = []
    for room in range(14):
        limit = max(map(int, descriptors)) + 1 + room
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            process = await start()
            await process.communicate()
            outcomes.append(0)
            process = None
        except OSError as error:
            outcomes.append(error.errno)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        gc.collect()
        if sys.version_info < (3, 11, 4):
            # `Popen` itself leaves pipes open there, where one cannot be made (gh-87474).
            for left in filter(is_open, open_descriptors()):
                if left not in kept:
                    os.close(int(left))
        assert open_descriptors() == descriptors, room
        assert not children(), room
    return outcomes


warnings.simplefilter("ignore", ResourceWarning)
loops = {"asyncio": asyncio.SelectorEventLoop, "offloop": offloop.EventLoop}
with asyncio.Runner(loop_factory=loops[sys.argv[1]]) as runner:
    outcomes = runner.run(main())
assert outcomes == sorted(outcomes, reverse=True), outcomes
assert set(outcomes) == {errno.EMFILE, 0}, outcomes
"""


@pytest.mark.parametrize("loop", ["asyncio", "offloop"])
def test_exhausted_descriptors_leave_none_open(loop, tmp_path):
    # A process of its own: in this one, what an earlier test has left may be closed meanwhile.
    ended = run_program(tmp_path, EXHAUSTED, loop)
    assert ended.returncode == 0, ended.stderr


def test_child_whose_end_cannot_be_watched_is_not_left_behind(monkeypatch, children_left):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "no more watches")

    class Loop(offloop.EventLoop):
        pass

    loop = Loop()
    monkeypatch.setattr(Loop, "_add_reader", refuse)
    descriptors = open_descriptors()
    with pytest.raises(OSError, match="no more watches"):
        loop.run_until_complete(asyncio.create_subprocess_exec("/bin/sleep", "9", stdout=PIPE))
    gc.collect()
    assert not children_left()
    assert open_descriptors() == descriptors
    loop.close()


class NoDescriptors:
    """What a system without descriptors of processes offers."""

    @staticmethod
    def can_watch() -> bool:
        return False


def test_without_descriptors_of_processes_the_standard_way_is_taken(our_loop, monkeypatch):
    monkeypatch.setattr(subprocesses, "Child", NoDescriptors)
    assert our_loop.run_until_complete(sh("echo out; exit 6")) == (b"out\n", b"", 6)


class NeverStarts:
    """What a system offers that watches children, but cannot start them natively."""

    can_watch = staticmethod(subprocesses.Child.can_watch)
    watch = staticmethod(subprocesses.Child.watch)

    @staticmethod
    def start(arguments: dict) -> None:
        return None


def test_unusual_children_are_started_by_the_standard_code(our_loop, monkeypatch):
    monkeypatch.setattr(subprocesses, "Child", NeverStarts)
    assert our_loop.run_until_complete(sh("echo out; exit 6")) == (b"out\n", b"", 6)
    with pytest.raises(FileNotFoundError):
        our_loop.run_until_complete(asyncio.create_subprocess_exec("/no/such"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_watcher_that_the_program_chose_is_asked():
    if sys.version_info >= (3, 14):
        # There are none any more; a loop with another one inside is left to it.
        loop = offloop.EventLoop()
        loop._watcher = object()
        assert not subprocesses.are_watched_here(loop)
        loop.close()
        return
    asked = []

    class Watcher(asyncio.ThreadedChildWatcher):
        def add_child_handler(self, pid, callback, *args):
            asked.append(pid)
            super().add_child_handler(pid, callback, *args)

    policy = asyncio.get_event_loop_policy()
    before = policy._watcher
    policy.set_child_watcher(Watcher())
    try:
        with asyncio.Runner(loop_factory=offloop.EventLoop) as runner:
            assert runner.run(sh("exit 8"))[2] == 8
    finally:
        policy._watcher = before
    assert len(asked) == 1


def test_class_that_a_program_put_in_the_place_of_popen_is_used(run, monkeypatch):
    made = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            made.append(args)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    assert run(sh("exit 2"))[2] == 2
    assert made == [(("/bin/sh", "-c", "exit 2"),)]


def test_start_is_audited_and_may_be_forbidden(tmp_path):
    program = """
import asyncio, sys
import offloop
seen = []
def hook(event, arguments):
    if event == "subprocess.Popen":
        seen.append(arguments)
        if arguments[0] == "/bin/false":
            raise PermissionError("not this one")
sys.addaudithook(hook)
async def main():
    process = await asyncio.create_subprocess_exec("/bin/true", "a", cwd="/", env={"A": "b"})
    assert await process.wait() == 0
    try:
        await asyncio.create_subprocess_exec("/bin/false")
    except PermissionError:
        print(seen[0])
with asyncio.Runner(loop_factory=offloop.EventLoop) as runner:
    runner.run(main())
"""
    ended = run_program(tmp_path, program)
    assert ended.stdout.strip() == "('/bin/true', ['/bin/true', 'a'], '/', {'A': 'b'})"


def test_forked_child_of_a_running_loop_starts_children_of_its_own(our_loop):
    async def main():
        return (await sh("echo out; exit 3"))[0]

    async def forks():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            code = 1
            try:
                asyncio._set_running_loop(None)
                code = 0 if offloop.EventLoop().run_until_complete(main()) == b"out\n" else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        process.stdin.close()
        return await process.wait()

    assert our_loop.run_until_complete(forks()) == 0

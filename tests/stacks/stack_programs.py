"""Readings that need a process of their own; the command line names one of the functions."""

import _thread
import errno
import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from _offloop_worker import _offloop
from forbidden import forbid
from stack_tools import Target, read, started, told


def check_a_thread() -> None:
    """A thread at rest is read as the interpreter tells it."""
    with started(lambda target: target.wait()) as target:
        target.is_at_rest()
        reading = read(target)
        assert reading["outcome"] == "exact", reading
        assert reading["entries"] == told(target.ident), reading


def forked() -> None:
    """A forked child reads its own threads, not its parent's."""
    check_a_thread()
    # Only now are there no other threads, so that the interpreter does not warn.
    pid = os.fork()
    if pid == 0:
        check_a_thread()
        own = _offloop.stack_of(threading.get_native_id())
        assert own["outcome"] == "exact", own
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def without_the_call() -> None:
    """Where containers forbid the call that is meant for it, there is another way."""
    check_a_thread()
    forbid("process_vm_readv", errno.EPERM)
    check_a_thread()
    forked()


def without_the_call_from_the_start() -> None:
    """The same where the reader is tried under the filter."""
    forbid("process_vm_readv", errno.EPERM)
    check_a_thread()


def without_any_way() -> None:
    """Where nothing is allowed, that is said, and nothing else."""
    forbid("process_vm_readv", errno.EPERM)
    forbid("pipe2", errno.EPERM)
    reading = _offloop.stack_of(threading.get_native_id())
    assert reading["outcome"] == "unreadable", reading
    assert "forbids reading memory" in str(reading["reason"]), reading
    assert reading["entries"] == []


def while_the_interpreter_ends() -> None:
    """The interpreter takes its structures down while a thread reads them."""
    main = threading.get_native_id()
    reads = threading.Lock()
    reads.acquire()

    def read_on() -> None:
        assert _offloop.stack_of(main)["reason"] is None
        reads.release()
        _offloop.sample_stacks(main, 10**9)

    _thread.start_new_thread(read_on, ())
    reads.acquire()


def in_a_subinterpreter() -> None:
    """A thread that runs code of another interpreter is read in that one."""
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    reader, writer = os.pipe()
    source = f"import os\ndef wait():\n    os.read({reader}, 1)\nwait()\n"

    def run(_target: Target) -> None:
        number = interpreters.create()
        interpreters.run_string(number, source)
        interpreters.destroy(number)

    with started(run) as target:
        while True:
            reading = read(target)
            names = [(function, line) for _, function, line in reading["entries"]]
            if reading["outcome"] == "exact" and names[:2] == [("wait", 3), ("<module>", 4)]:
                break
        assert len(names) == 2, names
        os.write(writer, b"x")
        target.ended.wait()


def greenlets() -> None:
    """Greenlets have stacks of their own, and only the one that runs is the thread's."""
    from greenlet import getcurrent, greenlet

    def main(target: Target) -> None:
        parent = getcurrent()

        def first() -> None:
            second_one.switch()

        def second() -> None:
            deeper()

        def deeper() -> None:
            target.wait()
            parent.switch()

        first_one, second_one = greenlet(first), greenlet(second)
        first_one.switch()
        stop.wait()

    def switch_always(_target: Target) -> None:
        one = greenlet(lambda: bounce())
        while not stop.is_set():
            one.switch()

    def bounce() -> None:
        while True:
            getcurrent().parent.switch()

    stop = threading.Event()
    with started(main) as target:
        target.is_at_rest()
        reading = read(target)
        assert reading["outcome"] == "exact", reading
        assert reading["entries"] == told(target.ident), reading
        names = [function.split(".")[-1] for _, function, _ in reading["entries"]]
        assert names[:3] == ["wait", "deeper", "second"], names
        assert "first" not in names
        stop.set()
    stop.clear()
    with started(switch_always) as target:
        found = _offloop.sample_stacks(target.native_id, 1_000)
        stop.set()
    known = {"switch_always", "bounce", "<lambda>", "is_set"}
    known |= {"_bootstrap", "_bootstrap_inner", "run"}
    seen = {entry[1].split(".")[-1] for reading, _ in found for entry in reading["entries"]}
    assert {"switch_always", "bounce"} <= seen <= known, seen


if __name__ == "__main__":
    name = sys.argv[1]
    globals()[name]()
    assert threading.active_count() == 1, threading.enumerate()
    print(f"{name} passed", flush=True)

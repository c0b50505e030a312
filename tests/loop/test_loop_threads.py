"""Other threads, signals and forks: what reaches the loop from outside of it."""

import asyncio
import os
import select
import signal
import socket
import textwrap
import threading
import time

import pytest

import offloop
from gates import PATIENCE_SECONDS, run_program, start_program

THREADS = 8
CALLS_PER_THREAD = 2000


def test_calls_of_eight_threads_all_run_once_in_each_ones_order(loop):
    seen = [[] for _ in range(THREADS)]
    begin = threading.Barrier(THREADS)
    left = THREADS * CALLS_PER_THREAD

    def receive(thread, number):
        nonlocal left
        seen[thread].append(number)
        left -= 1
        if not left:
            loop.stop()

    def send(thread):
        begin.wait()
        for number in range(CALLS_PER_THREAD):
            loop.call_soon_threadsafe(receive, thread, number)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert seen == [list(range(CALLS_PER_THREAD))] * THREADS


def test_sleeping_loop_is_woken_every_time(loop):
    """One call at a time, each after the last has run: a lost wake-up would hang."""
    ran = threading.Semaphore(0)

    def ping():
        for _ in range(2000):
            loop.call_soon_threadsafe(ran.release)
            if not ran.acquire(timeout=PATIENCE_SECONDS):
                break
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=ping)
    thread.start()
    loop.run_forever()
    thread.join()
    assert not ran.acquire(blocking=False)


@pytest.mark.parametrize("question", ["cancel", "cancelled"])
def test_thread_that_asks_for_a_handle_that_runs_waits_where_the_standard_loop_waits(
    loop, question
):
    running, ended = threading.Event(), threading.Event()
    asked = []
    handles = []

    def run():
        # The thread that runs it does not wait for itself.
        getattr(handles[0], question)()
        running.set()
        # A callback that takes its time: a thread that does not wait has asked by then.
        time.sleep(0.1)
        ended.set()

    def ask():
        running.wait()
        getattr(handles[0], question)()
        asked.append(ended.is_set())
        if len(asked) == 3:
            loop.call_soon_threadsafe(loop.stop)

    handles.append(loop.call_soon_threadsafe(run))
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert asked == [True] * 3 or not hasattr(asyncio.events, "_ThreadSafeHandle")


def test_handle_may_be_cancelled_from_its_own_thread_before_it_runs(loop):
    cancelled = []

    def schedule_and_cancel():
        for _ in range(500):
            handle = loop.call_soon_threadsafe(lambda: None)
            handle.cancel()
            cancelled.append(handle.cancelled())
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=schedule_and_cancel)
    thread.start()
    loop.run_forever()
    thread.join()
    assert cancelled == [True] * 500


def test_call_from_a_thread_to_a_closing_loop_is_refused_or_dropped(make_loop):
    for _ in range(50):
        loop = make_loop()
        refused = threading.Event()

        def call_until_refused(loop=loop, refused=refused):
            with pytest.raises(RuntimeError, match="Event loop is closed"):
                while True:
                    loop.call_soon_threadsafe(int)
            refused.set()

        thread = threading.Thread(target=call_until_refused)
        thread.start()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        thread.join(PATIENCE_SECONDS)
        assert refused.is_set()


def test_loops_run_in_several_threads_at_once(make_loop):
    results = []

    async def main(number):
        for _ in range(50):
            await asyncio.sleep(0)
        return await asyncio.get_running_loop().run_in_executor(None, lambda: number)

    def work(number):
        with asyncio.Runner(loop_factory=make_loop) as runner:
            results.append(runner.run(main(number)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 1, 2, 3]


def test_loop_may_go_on_in_another_thread(make_loop):
    loop = make_loop()
    loop.run_until_complete(asyncio.sleep(0))
    seen = []
    loop.call_soon(lambda: seen.append(threading.current_thread()))
    loop.call_soon(loop.stop)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    thread.join()
    assert seen == [thread]
    loop.close()


def test_signal_handlers_run_on_the_loop_with_their_arguments(loop):
    seen = []

    def on_signal(*arguments):
        seen.append(arguments)
        if len(seen) == 3:
            loop.stop()
        else:
            signal.raise_signal(signal.SIGUSR1)

    loop.add_signal_handler(signal.SIGUSR1, on_signal, "argument", 2)
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    loop.run_forever()
    assert seen == [("argument", 2)] * 3
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert not loop.remove_signal_handler(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_signal_wakes_a_sleeping_loop(loop):
    main = threading.get_ident()
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    thread = threading.Thread(target=signal_once_asleep, args=(main, signal.SIGUSR1))
    thread.start()
    loop.run_forever()
    thread.join()
    loop.remove_signal_handler(signal.SIGUSR1)


def signal_once_asleep(thread: int, number: int) -> None:
    """Send a signal to the main thread once the kernel says that it sleeps."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    path = f"/proc/self/task/{os.getpid()}/stat"
    while time.monotonic() < deadline:
        with open(path) as stat:
            if stat.read().rpartition(") ")[2].startswith("S"):
                break
    signal.pthread_kill(thread, number)


def test_plain_signal_handler_runs_while_the_loop_sleeps(loop):
    previous = signal.signal(signal.SIGUSR1, lambda *_: loop.stop())
    try:
        # The handler does not wake the loop by itself: a signal must end its wait.
        loop.call_later(PATIENCE_SECONDS, pytest.fail)
        main = threading.get_ident()
        thread = threading.Thread(target=signal_once_asleep, args=(main, signal.SIGUSR1))
        thread.start()
        loop.call_later(0.05, int)
        loop.run_forever()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)


UNDER_A_RUNNER = """
    async def main():
        loop = asyncio.get_running_loop()
        loop.call_soon(functools.partial(print, "begun", flush=True))
        await asyncio.sleep(0)
        try:
            {wait}
        finally:
            print("cleaned up")
    run = functools.partial(offloop.run, main())
    """

ON_A_BARE_LOOP = """
    def stick():
        try:
            print("begun", flush=True)
            while True: {wait}
        finally:
            print("cleaned up")
    loop = offloop.EventLoop()
    loop.call_soon(stick)
    run = loop.run_forever
    """


@pytest.mark.parametrize(
    ("program", "wait"),
    [
        (UNDER_A_RUNNER, "await asyncio.sleep(60)"),
        (UNDER_A_RUNNER, "await asyncio.Event().wait()"),
        (UNDER_A_RUNNER, "while True: await asyncio.sleep(0)"),
        (ON_A_BARE_LOOP, "pass"),
        (ON_A_BARE_LOOP, "loop.call_soon(int)"),
    ],
    ids=["timer", "idle", "busy rounds", "stuck in a callback", "stuck in scheduling"],
)
def test_interrupt_ends_the_program_wherever_the_loop_is(tmp_path, program, wait):
    source = (
        "import asyncio, functools, offloop\n"
        + textwrap.dedent(program.format(wait=wait))
        + "try:\n    run()\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
    )
    with start_program(tmp_path, source) as process:
        try:
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
    assert rest.splitlines() == ["cleaned up", "interrupted"]


FORKING = """
    import asyncio, os, socket, offloop, warnings
    warnings.simplefilter("ignore")

    async def exchange(text):
        reader, writer = await asyncio.open_unix_connection(sock=socket_pair[0])
        other_reader, other_writer = await asyncio.open_unix_connection(sock=socket_pair[1])
        other_writer.write(text)
        received = await reader.readexactly(len(text))
        for each in (writer, other_writer):
            each.close()
            await each.wait_closed()
        return received

    async def main():
        global socket_pair
        pending = asyncio.create_task(asyncio.sleep(0.05, "slept"))
        await asyncio.sleep(0)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                try:
                    asyncio.get_running_loop()
                except RuntimeError:
                    socket_pair = socket.socketpair()
                    status = 7 if offloop.run(exchange(b"child")) == b"child" else 2
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        socket_pair = socket.socketpair()
        print(os.waitstatus_to_exitcode(status), await exchange(b"parent"), await pending)

    offloop.run(main())
    """


def test_child_of_a_fork_in_mid_run_runs_a_loop_of_its_own_and_does_no_harm(tmp_path):
    done = run_program(tmp_path, FORKING)
    assert (done.stdout, done.stderr) == ("7 b'parent' slept\n", "")


CANCELLING_IN_A_CHILD = """
import os, signal, threading, warnings
import offloop

warnings.simplefilter("ignore")
loop = offloop.new_event_loop()
running, go_on = threading.Event(), threading.Event()

def run():
    running.set()
    go_on.wait()

handle = loop.call_soon_threadsafe(run)
thread = threading.Thread(target=loop.run_forever)
thread.start()
running.wait()
child = os.fork()
if child == 0:
    # The thread that runs it is its parent's.
    signal.alarm(20)
    handle.cancel()
    os._exit(7 if handle.cancelled() else 8)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
loop.call_soon_threadsafe(loop.stop)
go_on.set()
thread.join()
loop.close()
"""


def test_child_does_not_wait_for_what_a_thread_of_its_parent_runs(tmp_path):
    done = run_program(tmp_path, CANCELLING_IN_A_CHILD)
    assert (done.stdout, done.stderr) == ("7\n", "")


def test_threadsafe_call_to_a_loop_that_does_not_run_yet_waits_for_it(loop):
    seen = []
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen.append, "early"))
    thread.start()
    thread.join()
    assert seen == []
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == ["early"]


def test_idle_loop_is_not_woken(our_loop):
    """Nothing is ready and no time has come: the loop's thread must not run at all."""
    ours, theirs = socket.socketpair()
    switches = []

    def count():
        with open(f"/proc/self/task/{threading.get_native_id()}/status") as status:
            return int(status.read().split("\nvoluntary_ctxt_switches:")[1].split()[0])

    def end():
        ours.recv(1)
        switches.append(count())
        our_loop.stop()

    def send():
        # Timed from outside: half a second in which the loop has nothing to do.
        select.select([], [], [], 0.5)
        theirs.send(b"x")

    our_loop.add_reader(ours, end)
    thread = threading.Thread(target=send)
    our_loop.call_soon(lambda: switches.append(count()))
    our_loop.call_soon(thread.start)
    our_loop.run_forever()
    thread.join()
    assert switches[1] - switches[0] < 20
    our_loop.remove_reader(ours)
    ours.close()
    theirs.close()


def test_lanes_run_on_the_loop(our_loop):
    assert our_loop.run_until_complete(offloop.to_process(abs, -3)) == 3
    assert our_loop.run_until_complete(offloop.to_thread(abs, -3)) == 3

"""Programs of the field: they behave as without the watch, and are told the truth."""

import asyncio
import ctypes
import gc
import os
import selectors
import signal
import sys
import textwrap
import threading
import time

import pytest
from heard import THRESHOLD_SECONDS, Heard

import offloop
from gates import PATIENCE_SECONDS, run_program

pytestmark = pytest.mark.quick


def test_signals_that_a_program_waits_for_are_left_to_it(tmp_path):
    program = """
        import os, signal
        import offloop

        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        offloop.watch(0.02, words=False)
        os.kill(os.getpid(), signal.SIGUSR1)
        print(signal.sigwait({signal.SIGUSR1}).name)
    """
    result = run_program(tmp_path, program)
    assert (result.returncode, result.stdout) == (0, "SIGUSR1\n")


def test_threads_of_the_watch_take_no_signal(heard):
    del heard
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/status") as file:
            status = dict(line.split(":\t", 1) for line in file.read().splitlines())
        if status["Name"].startswith("offloop-w"):
            blocked = int(status["SigBlk"], 16)
            assert blocked >> (signal.SIGTERM - 1) & 1, status["Name"]


def test_watch_that_is_changed_again_and_again_leaves_nothing_behind(make_loop):
    before = asyncio._set_running_loop
    try:
        for _ in range(50):
            offloop.watch(THRESHOLD_SECONDS, words=False)
        inner, depth = asyncio._set_running_loop, 0
        while hasattr(inner, "function"):
            inner, depth = inner.function, depth + 1
        # The switch, and what looks for losses.
        assert (inner, depth) == (before, 2)
        loop = make_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    finally:
        offloop.watch.stop()
    assert asyncio._set_running_loop is before


def test_callback_that_changes_the_watch_is_not_waited_for(our_loop):
    heard, second = Heard(), Heard()
    changed = threading.Event()

    def change(stall):
        heard(stall)
        if stall.duration is not None:
            offloop.watch(THRESHOLD_SECONDS, second, words=False)
            changed.set()

    with offloop.watch(THRESHOLD_SECONDS, change, words=False):
        our_loop.call_soon(heard.wait_found)
        our_loop.call_soon(our_loop.stop)
        our_loop.run_forever()
        assert changed.wait(PATIENCE_SECONDS)
        our_loop.call_soon(second.wait_found)
        our_loop.call_soon(our_loop.stop)
        our_loop.run_forever()
        second.wait_over()


@pytest.mark.parametrize("name", ["\udc80bad", "", "plain"])
def test_name_of_a_thread_is_no_matter_to_its_loop(make_loop, heard, name):
    done = []

    def run():
        loop = make_loop()
        done.append(loop.run_until_complete(asyncio.sleep(0, "done")))
        loop.close()

    thread = threading.Thread(target=run, name=name)
    thread.start()
    thread.join()
    assert done == ["done"]


def test_selector_of_a_program_is_as_it_was_afterwards(heard):
    loop = asyncio.SelectorEventLoop()
    selector = loop._selector
    calls = []

    def counted(timeout=None, select=selector.select):
        calls.append(timeout)
        return select(timeout)

    selector.select = counted
    loop.run_until_complete(asyncio.sleep(0))
    assert vars(selector)["select"] is counted
    assert calls
    loop.close()


class VirtualSelector:
    """A selector that waits for nothing: time goes on at once."""

    def __init__(self, loop_time):
        self._selector = selectors.DefaultSelector()
        self._time = loop_time
        self.selects = 0

    def __getattr__(self, name):
        return getattr(self._selector, name)

    def select(self, timeout=None):
        self.selects += 1
        self._time[0] += timeout or 0.0
        return self._selector.select(0)


def test_loop_with_a_time_of_its_own_gets_no_timer(heard):
    now = [0.0]
    selector = VirtualSelector(now)
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: now[0]
    loop.run_until_complete(asyncio.sleep(1_000))
    assert (now[0], selector.selects < 10) == (1_000.0, True)
    loop.close()


def test_stall_of_the_standard_loop_is_told_once_after_the_watch_was_turned_off_elsewhere():
    heard = Heard()
    loop = asyncio.SelectorEventLoop()

    async def main():
        for _ in range(3):
            thread = threading.Thread(target=turn_off_and_on)
            thread.start()
            thread.join()
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        heard.wait_found()
        await asyncio.sleep(0)

    def turn_off_and_on():
        offloop.watch.stop()
        offloop.watch(THRESHOLD_SECONDS, heard, words=False)

    turn_off_and_on()
    try:
        loop.run_until_complete(main())
        stalls = heard.all_of(Heard.wait_found.__qualname__)
    finally:
        offloop.watch.stop()
        loop.close()
    assert [stall.duration is None for stall in stalls] == [True, False]


def test_loop_that_is_collected_without_close_warns_as_without_the_watch(heard):
    loop = offloop.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    gc.disable()
    del loop
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    gc.enable()


def test_what_keeps_the_loop_last_is_told_and_counts(our_loop):
    """A callback sleeps for a short time, and computes for a long one."""
    heard = Heard()

    def compute():
        heard.wait_found()
        while time.monotonic() < until[0]:
            pass

    def both():
        time.sleep(2 * THRESHOLD_SECONDS)
        until[0] = time.monotonic() + 40 * THRESHOLD_SECONDS
        compute()

    until = [0.0]
    with offloop.watch(THRESHOLD_SECONDS, heard, words=False):
        our_loop.call_soon(both)
        our_loop.call_soon(our_loop.stop)
        our_loop.run_forever()
        over = heard.all_of(both.__qualname__)[-1]
    assert over.stack[0].function == compute.__qualname__
    assert over.cause in ("python", "unknown", "starved")


@pytest.mark.parametrize("module", ["_interpreters", "_xxsubinterpreters"])
def test_another_interpreter_is_left_alone(tmp_path, module):
    program = f"""
        import asyncio, threading, time
        import offloop
        try:
            import {module} as interpreters
        except ImportError:
            print("ok")
            raise SystemExit

        told = []
        offloop.watch(0.02, told.append, words=False)

        async def main():
            inner = interpreters.create()
            for _ in range(3):
                time.sleep(0.06)
                await asyncio.sleep(0.01)
            interpreters.destroy(inner)

        offloop.run(main())
        offloop.watch.stop()
        assert told
        print("ok")
    """
    result = run_program(tmp_path, program)
    assert (result.returncode, result.stdout) == (0, "ok\n"), result.stderr


def test_report_is_left_out_where_there_is_no_standard_error(tmp_path):
    (tmp_path / "app.py").write_text("print('mine')")
    command = f"{os.path.dirname(sys.executable)}/offloop run {tmp_path}/app.py 2>&-"
    with os.popen(command) as output:
        assert output.read() == "mine\n"


@pytest.mark.parametrize("switch", ["changed", "turned on again"])
def test_loop_that_beats_is_not_blamed_for_a_beat_of_another_threshold(any_loop, switch):
    heard = Heard()

    async def main():
        # Its beats are due each 0.25 s.
        offloop.watch(1.0, words=False)
        await asyncio.sleep(0)
        if switch == "turned on again":
            offloop.watch.stop()
        changed = time.monotonic()
        offloop.watch(THRESHOLD_SECONDS, heard, words=False)
        await asyncio.sleep(0.3)
        heard.wait_found()
        await asyncio.sleep(0)
        return changed

    try:
        changed = any_loop.run_until_complete(main())
        heard.wait_over()
    finally:
        offloop.watch.stop()
    assert [stall for stall in heard.stalls if stall.started < changed] == []


def test_threshold_that_is_lowered_counts_for_a_loop_that_runs(any_loop):
    heard = Heard()

    async def main():
        offloop.watch(5.0, words=False)
        await asyncio.sleep(0)
        offloop.watch(THRESHOLD_SECONDS, heard, words=False)
        # A beat that was set before is due at the latest by then.
        await asyncio.sleep(5.0 / 4 + 0.1)
        heard.wait_found()
        await asyncio.sleep(0)

    try:
        any_loop.run_until_complete(main())
        found = heard.wait_found()
    finally:
        offloop.watch.stop()
    assert "Heard.wait_found" in {entry.function for entry in found.stack}


def test_wait_for_the_gil_is_not_the_callbacks_that_follows(our_loop, heard):
    c_library = ctypes.PyDLL(None)

    def tick():
        # Whenever the GIL is taken, the loop soon wants it back.
        our_loop.call_later(THRESHOLD_SECONDS / 2, tick)

    def hold():
        c_library.usleep(round(25e6 * THRESHOLD_SECONDS))
        our_loop.call_soon_threadsafe(our_loop.stop)

    tick()
    started = threading.Event()
    thread = threading.Thread(target=lambda: started.wait() and hold())
    thread.start()
    our_loop.call_soon(started.set)
    our_loop.run_forever()
    thread.join()
    over = heard.all_of(hold.__qualname__)[-1]
    assert (over.is_round, over.callback) == (True, None)
    assert over.stack[0].function == hold.__qualname__


def test_timer_of_the_callback_that_hears_of_a_deadlock_counts(tmp_path):
    program = """
        import asyncio
        import offloop

        async def waits_for(other):
            await tasks[other]

        def hear(loss):
            if loss.kind == "deadlock":
                loop.call_later(0, print, "called")
                loop.call_later(0.001, loop.stop)

        loop = offloop.new_event_loop()
        tasks = [loop.create_task(waits_for(other)) for other in (1, 0)]
        offloop.watch(on_loss=hear, words=False)
        loop.run_forever()
    """
    # A timer that is not seen is a loop that waits for ever.
    result = run_program(tmp_path, program)
    assert (result.returncode, result.stdout) == (0, "called\n"), result.stderr


@pytest.mark.parametrize("seconds", [0.2, 2])
def test_program_may_end_while_its_callback_runs(tmp_path, seconds):
    program = f"""
        import asyncio, sys, threading, time
        import offloop

        begun = threading.Event()

        def hear(stall):
            begun.set()
            until = time.monotonic() + {seconds}
            while time.monotonic() < until:
                time.sleep(0.001)

        class Slow:
            def __del__(self):
                until = time.monotonic() + 1
                while time.monotonic() < until:
                    time.sleep(0.001)

        async def main():
            begun.wait(20)

        offloop.watch(0.02, hear, words=False)
        loop = offloop.EventLoop()
        loop.run_until_complete(main())
        loop.close()
        sys.modules["slow"] = Slow()
        print("ended")
    """
    result = run_program(tmp_path, program)
    assert (result.returncode, result.stdout, result.stderr) == (0, "ended\n", "")


def test_interrupt_while_a_loop_joins_the_watch_goes_on(our_loop, monkeypatch):
    def enumerate_threads():
        monkeypatch.undo()
        raise KeyboardInterrupt

    interrupts = []

    def run():
        try:
            our_loop.run_until_complete(asyncio.sleep(0))
        except KeyboardInterrupt as interrupt:
            interrupts.append(interrupt)
        our_loop.run_until_complete(asyncio.sleep(0))

    with offloop.watch(THRESHOLD_SECONDS, words=False):
        monkeypatch.setattr(threading, "enumerate", enumerate_threads)
        # A thread of which the watch knows nothing yet.
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert len(interrupts) == 1


@pytest.mark.parametrize("leave", ["pass", "os._exit(5)"])
def test_child_that_is_forked_by_the_callback_ends_where_the_callback_does(tmp_path, leave):
    program = f"""
        import asyncio, os, threading, time, warnings
        import offloop

        # 3.12 warns of a fork beside threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        children, forked = [], threading.Event()

        def hear(stall):
            if stall.duration is None and not children:
                child = os.fork()
                if child == 0:
                    {leave}
                else:
                    children.append(child)
                    forked.set()

        async def main():
            assert forked.wait(20)
            _, status = os.waitpid(children[0], 0)
            print(os.waitstatus_to_exitcode(status))

        offloop.watch(0.02, hear, words=False)
        offloop.run(main())
    """
    result = run_program(tmp_path, program)
    assert (result.returncode, result.stdout) == (0, "5\n" if "5" in leave else "0\n")


TRACERS = {
    "settrace": """
        seen = []

        def trace(frame, event, argument):
            seen.append((frame.f_code.co_name, event, frame.f_lineno))
            return trace

        threading.settrace(trace)
        sys.settrace(trace)
    """,
    "setprofile": """
        seen = []

        def profile(frame, event, argument):
            seen.append((frame.f_code.co_name, event, frame.f_lineno))

        sys.setprofile(profile)
    """,
}


@pytest.mark.parametrize("make", ["offloop.new_event_loop()", "asyncio.SelectorEventLoop()"])
@pytest.mark.parametrize("tracer", TRACERS)
def test_program_that_is_traced_sees_the_same_and_is_told_its_line(tmp_path, tracer, make):
    program = f"""
        import asyncio, sys, threading, time
        import offloop

        def block():
            time.sleep(0.1)

        async def main():
            block()

        {textwrap.indent(textwrap.dedent(TRACERS[tracer]), " " * 8).strip()}
        told = []
        if sys.argv[1] == "watched":
            offloop.watch(0.02, told.append, words=False)
        loop = {make}
        loop.run_until_complete(main())
        loop.close()
        sys.settrace(None)
        sys.setprofile(None)
        threading.settrace(None)
        offloop.watch.stop()
        found = [stall for stall in told if stall.duration is not None]
        assert {{stall.culprit.function for stall in found if stall.culprit}} <= {{"block"}}
        assert bool(found) == (sys.argv[1] == "watched")
        print([event for event in seen if event[0] in ("block", "main")])
    """
    plain, watched = (run_program(tmp_path, program, way) for way in ("plain", "watched"))
    assert (watched.returncode, watched.stderr) == (0, "")
    assert watched.stdout == plain.stdout
    assert "block" in plain.stdout


def test_program_may_turn_tracemalloc_on_and_off_in_its_stalls(tmp_path):
    # Before the mend of cpython#128679 a thread state that is made meanwhile is a crash.
    program = """
        import asyncio, threading, time, tracemalloc
        import offloop

        told = threading.Event()

        async def main():
            # The witness has its thread state once it has told a stall.
            told.wait()
            for _ in range(40):
                until = time.monotonic() + 0.03
                while time.monotonic() < until:
                    tracemalloc.start()
                    tracemalloc.stop()
                await asyncio.sleep(0)

        with offloop.watch(0.01, lambda _: told.set(), words=False, stalls_per_minute=1_000):
            asyncio.run(main())
        print(offloop.watch.statistics().stalls > 0)
    """
    ended = run_program(tmp_path, program)
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr

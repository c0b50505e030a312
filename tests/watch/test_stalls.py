"""Stalls are told while they last, with the line, and once more when they are over."""

import asyncio
import contextlib
import ctypes
import sys
import threading
import time

import pytest
from heard import THRESHOLD_SECONDS, Heard

import offloop
from gates import PATIENCE_SECONDS, run_program

pytestmark = pytest.mark.quick


def line_of(function, text):
    """The number of the line of a function that has a text in it."""
    code = function.__code__
    with open(code.co_filename) as file:
        lines = file.read().splitlines()
    first = code.co_firstlineno - 1
    return next(number + 1 for number in range(first, len(lines)) if text in lines[number])


class Blocking:
    """Ways to block until the watch has told a stall, and not before."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard

    def wait(self):
        self._heard.wait_found()

    def spin(self):
        while not self._heard.found():
            pass


def in_wait(stall):
    """Whether a callback waits in it for the watch."""
    return any(entry.function == Heard.wait_found.__qualname__ for entry in stall.stack)


def run_blocked(loop, block):
    """Run a loop in which one callback blocks, and further ones follow."""

    async def main():
        await asyncio.sleep(0)
        block()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    return main


@pytest.mark.parametrize("way", ["wait", "spin"])
def test_stall_is_told_while_it_lasts_and_when_it_is_over(any_loop, heard, way):
    block = getattr(Blocking(heard), way)
    main = run_blocked(any_loop, block)
    told = heard.all_of(block.__qualname__)
    [found, over] = told
    for stall in told:
        if stall.stack_quality.startswith("missing"):
            # A machine that is too busy keeps the watchdog from reading it, and no line is named.
            assert stall.cause in (offloop.StallCause.STARVED, offloop.StallCause.UNKNOWN)
            continue
        entries = [(entry.function, entry.lineno) for entry in stall.stack]
        names = [name for name, _ in entries]
        assert (main.__qualname__, line_of(main, "block()")) in entries
        assert names.index(block.__qualname__) < names.index(main.__qualname__)
        # On a busy machine the interpreter may have to be asked.
        assert stall.stack_quality in ("exact", "moving", "fallback")
        assert not stall.is_round
        assert stall.thread == "MainThread"
    assert (found.number, found.duration) == (over.number, None)
    assert over.duration >= THRESHOLD_SECONDS
    assert found.reported == over.reported >= found.started + THRESHOLD_SECONDS


def test_what_a_callback_did_before_it_was_watched_is_no_part_of_its_stall(any_loop):
    heard = Heard()

    def block():
        until = time.monotonic() + THRESHOLD_SECONDS * 4
        while time.monotonic() < until:
            pass
        return time.monotonic()

    async def main():
        await asyncio.sleep(0)
        watched = block()
        with offloop.watch(THRESHOLD_SECONDS, heard, words=False):
            heard.wait_found()
            await asyncio.sleep(0)
            await asyncio.to_thread(heard.wait_over)
        return watched

    watched = any_loop.run_until_complete(main())
    assert min(stall.started for stall in heard.stalls) >= watched


def test_lines_of_a_stall_are_of_the_blocking_call(our_loop, heard):
    lock = threading.Lock()
    lock.acquire()

    def let_go():
        heard.wait_found()
        lock.release()

    def block():
        lock.acquire()

    thread = threading.Thread(target=let_go)
    thread.start()
    our_loop.call_soon(block)
    our_loop.call_soon(our_loop.stop)
    our_loop.run_forever()
    thread.join()
    entry = heard.all_of(block.__qualname__)[0].stack[0]
    line = line_of(block, "lock.acquire()")
    assert entry == offloop.StackEntry(__file__, line, block.__qualname__)


def test_log_names_the_line_that_is_to_blame(any_loop, caplog):
    heard = Heard()
    with offloop.watch(THRESHOLD_SECONDS, heard, words=False, log=True):
        run_blocked(any_loop, heard.wait_found)
        heard.wait_over()
    records = [record for record in caplog.records if record.name == "offloop.watch"]
    assert [record.stall for record in records] == heard.stalls
    waits = Heard.wait_for
    line = line_of(waits, "_changed.wait_for(")
    place = f"{waits.__code__.co_filename}:{line} in {waits.__qualname__}"
    told = [record.getMessage() for record in records]
    assert any(place in text and "; instead: " in text for text in told), told


def test_thread_may_have_a_name_that_is_no_utf8(heard):
    def run():
        with asyncio.Runner() as runner:
            runner.get_loop().call_soon(heard.wait_found)
            runner.run(asyncio.sleep(0))

    thread = threading.Thread(target=run, name="reader of \udcff")
    thread.start()
    thread.join()
    assert {stall.thread[:10] for stall in heard.stalls} == {"reader of "}


def test_many_short_callbacks_of_one_round_are_told_together(our_loop, heard):
    def short():
        until = time.monotonic() + THRESHOLD_SECONDS / 8
        while time.monotonic() < until:
            pass

    for _ in range(40):
        our_loop.call_soon(short)
    our_loop.call_soon(our_loop.stop)
    our_loop.run_forever()
    over = heard.wait_over()
    if over.is_round:
        # On a busy machine the system may be the one that is to blame.
        assert over.cause in ("callbacks", "starved")
    else:
        # One of them was kept from its core for as long as a stall.
        assert over.duration >= THRESHOLD_SECONDS


def test_short_callbacks_of_many_rounds_are_no_stall(our_loop):
    heard = Heard()
    with offloop.watch(PATIENCE_SECONDS, heard, words=False):
        our_loop.run_until_complete(asyncio.sleep(2 * THRESHOLD_SECONDS))
        for _ in range(1_000):
            our_loop.run_until_complete(asyncio.sleep(0))
    assert heard.stalls == []


def test_waiting_is_no_stall(any_loop, heard):
    any_loop.run_until_complete(asyncio.sleep(5 * THRESHOLD_SECONDS))
    offloop.watch.stop()
    # The host may have kept the thread from its core; nothing of the program's is blamed for it.
    assert [stall.stack for stall in heard.found() if stall.stack_quality == "exact"] == []


def test_stack_ends_with_what_the_loop_has_called(any_loop, heard):
    async def main():
        heard.wait_found()

    any_loop.run_until_complete(main())
    found = heard.wait_found()
    assert (found.stack_quality, found.stack[-1].function) == ("exact", main.__qualname__)


def test_every_stall_has_a_number_of_its_own(our_loop, heard):
    for count in (1, 2, 3):
        our_loop.call_soon(heard.wait_found, count)
        our_loop.call_soon(our_loop.stop)
        our_loop.run_forever()
        heard.wait_over(count)
    first = heard.stalls[0].number
    numbers = [stall.number - first for stall in heard.stalls]
    assert numbers == [0, 0, 1, 1, 2, 2]


def test_loops_of_several_threads_are_told_apart(heard):
    both = threading.Barrier(2, timeout=PATIENCE_SECONDS)

    def block():
        both.wait()
        heard.wait_found(2)

    def run():
        with asyncio.Runner(loop_factory=offloop.new_event_loop) as runner:
            runner.get_loop().call_soon(block)
            runner.run(asyncio.sleep(0))

    threads = [threading.Thread(target=run, name=name) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heard.wait_over(2)
    assert {stall.thread for stall in heard.found()} == {"first", "second"}
    assert len({stall.number for stall in heard.over()}) == 2


def test_stall_of_a_loop_inside_a_callback_of_another_is_no_stall_of_the_outer_while_it_waits(
    our_loop, heard
):
    """The outer loop is blocked by the inner one, and is told so; the inner one waits."""

    def inside():
        asyncio._set_running_loop(None)
        inner = offloop.new_event_loop()
        future = inner.create_future()
        thread = threading.Thread(
            target=lambda: (
                heard.wait_found(),
                inner.call_soon_threadsafe(future.set_result, None),
            )
        )
        thread.start()
        inner.run_until_complete(future)
        thread.join()
        inner.close()
        asyncio._set_running_loop(our_loop)
        our_loop.stop()

    our_loop.call_soon(inside)
    our_loop.run_forever()
    heard.wait_over()
    assert len({stall.number for stall in heard.stalls}) == 1


def test_watch_that_is_changed_or_stopped_while_a_callback_runs(our_loop):
    first, second = Heard(), Heard()

    def change():
        offloop.watch(THRESHOLD_SECONDS, first, words=False)

    def stop():
        offloop.watch.stop()

    def block(heard):
        heard.wait_found()

    calls = (change, (block, first), (offloop.watch, THRESHOLD_SECONDS, second), (block, second))
    for call in calls:
        function, *arguments = call if isinstance(call, tuple) else (call,)
        our_loop.call_soon(function, *arguments)
        our_loop.call_soon(our_loop.stop)
        our_loop.run_forever()
    second.wait_over()
    our_loop.call_soon(stop)
    our_loop.call_soon(time.sleep, 2 * THRESHOLD_SECONDS)
    our_loop.call_soon(our_loop.stop)
    our_loop.run_forever()
    # To turn the watch on may itself take as long as a stall.
    of_waits = [
        [stall.duration is None for stall in heard.stalls if in_wait(stall)]
        for heard in (first, second)
    ]
    assert of_waits[0][:1] == [True]
    assert of_waits[1] == [True, False]


def test_error_of_the_callback_is_told_and_the_next_stall_too(our_loop, monkeypatch):
    heard, raised = Heard(), []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: raised.append(error.exc_value))

    def hear(stall):
        heard(stall)
        raise ValueError(stall.number)

    with offloop.watch(THRESHOLD_SECONDS, hear, words=False):
        for count in (1, 2):
            our_loop.call_soon(heard.wait_found, count)
            our_loop.call_soon(our_loop.stop)
            our_loop.run_forever()
            heard.wait_over(count)
    assert [error.args for error in raised] == [(stall.number,) for stall in heard.stalls]
    assert len({error.args for error in raised}) == 2


def test_stalls_are_in_the_journal(our_loop, heard):
    from offloop import _state

    before = _state.snapshot()
    our_loop.call_soon(heard.wait_found)
    our_loop.call_soon(our_loop.stop)
    our_loop.run_forever()
    over = heard.wait_over()
    events = _state.events_after(before.last_event).events
    kinds = [(event.kind, event.stall.number, event.stall.duration) for event in events]
    number = over.number
    assert kinds == [("loop_stall", number, None), ("loop_stall", number, over.duration)]
    assert _state.snapshot().events.loop_stalls == before.events.loop_stalls + 1


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"threshold": 0}, ValueError, "threshold must be from 0.001 to 3600 seconds, not 0"),
        ({"threshold": float("nan")}, ValueError, "not nan"),
        ({"threshold": 4e3}, ValueError, "not 4000.0"),
        ({"threshold": True}, TypeError, "a number of seconds, not True"),
        ({"threshold": "1"}, TypeError, "not '1'"),
        ({"on_stall": 7}, TypeError, "on_stall must be callable or None, not 7"),
        ({"on_stall": asyncio.sleep}, TypeError, "on_stall must be a plain function"),
        ({"stalls_per_minute": 0}, ValueError, "at least 1, not 0"),
        ({"stalls_per_minute": 1.5}, TypeError, "an integer, not 1.5"),
        ({"stalls_per_minute": True}, TypeError, "an integer, not True"),
        ({"words": 3}, TypeError, "words must be True or False, not 3"),
        ({"log": "x"}, TypeError, "log must be True or False, not 'x'"),
        ({"losses": None}, TypeError, "losses must be True or False, not None"),
        ({"on_loss": 4}, TypeError, "on_loss must be callable or None, not 4"),
        ({"variables": 3}, TypeError, "variables must be an iterable, not 3"),
        ({"variables": [3]}, TypeError, "variables must hold context variables, not 3"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, error, words):
    with pytest.raises(error, match=words):
        offloop.watch(**arguments)


def test_stalls_beyond_the_limit_are_recorded_and_not_told(our_loop):
    heard = Heard()
    before = offloop.watch.statistics().stalls
    with offloop.watch(THRESHOLD_SECONDS, heard, words=False, stalls_per_minute=1):
        our_loop.call_soon(heard.wait_found)
        our_loop.call_soon(our_loop.stop)
        our_loop.run_forever()
        over = heard.wait_over()
        for _ in range(2):
            our_loop.call_soon(time.sleep, 2 * THRESHOLD_SECONDS)
            our_loop.call_soon(our_loop.stop)
            our_loop.run_forever()
    assert [(stall.number, stall.duration is None) for stall in heard.stalls] == [
        (over.number, True),
        (over.number, False),
    ]
    assert offloop.watch.statistics().stalls >= before + 3


def test_child_that_is_forked_is_watched_and_the_parent_too(tmp_path):
    program = """
        import asyncio, os, sys, threading, warnings
        import offloop

        def run(name):
            told = threading.Event()
            stalls = []

            def hear(stall):
                stalls.append(stall)
                if stall.duration is not None:
                    told.set()

            HEARS.append(hear)

            async def main():
                while not stalls:
                    pass
            with asyncio.Runner(loop_factory=offloop.EventLoop) as runner:
                runner.run(main())
            assert told.wait(20), stalls
            print(name, [stall.duration is None for stall in stalls], flush=True)

        # The watch has threads; that is known here.
        warnings.simplefilter("ignore", DeprecationWarning)
        HEARS = []
        offloop.watch(0.02, lambda stall: HEARS[-1](stall), words=False)
        run("before")
        if not (child := os.fork()):
            run("child")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        run("parent")
    """
    result = run_program(tmp_path, program)
    assert result.stdout.splitlines() == [
        f"{name} [True, False]" for name in ("before", "child", "parent")
    ], result.stderr


@pytest.mark.parametrize(
    "end",
    [
        "raise SystemExit(3)",
        "os._exit(3)",
        "threading.Thread(target=block).start(); sys.exit(3)",
    ],
)
def test_program_that_ends_during_a_stall_ends(tmp_path, end):
    program = f"""
        import asyncio, os, sys, threading
        import offloop

        stalls = []
        offloop.watch(0.02, stalls.append, words=False)

        def block():
            while not stalls:
                pass

        async def main():
            block()
            stalls.clear()
            {end}
        offloop.run(main())
    """
    result = run_program(tmp_path, program)
    assert (result.returncode, result.stderr) == (3, "")


def test_loop_that_ends_while_its_stall_is_told_lets_go(our_loop):
    """A stall whose loop is closed and gone is told to its end."""
    heard = Heard()
    with offloop.watch(THRESHOLD_SECONDS, heard, words=False):
        with contextlib.closing(offloop.new_event_loop()) as loop:
            loop.call_soon(heard.wait_found)
            loop.call_soon(loop.stop)
            loop.run_forever()
        del loop
        heard.wait_over()
    assert len(heard.stalls) == 2


def test_cure_of_what_sleeps_with_the_gil_is_a_process(our_loop, heard):
    usleep = ctypes.PyDLL(None).usleep

    def block():
        usleep(300_000)

    run_blocked(our_loop, block)
    # It is examined once or more, at times only when it is over.
    stall = heard.all_of(block.__qualname__)[-1]
    assert stall.cause == "sleep"
    assert "to_process" in stall.advice

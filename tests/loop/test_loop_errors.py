"""What goes wrong around the loop: each fault ends in asyncio's own exception with its own text."""

import asyncio
import functools
import gc
import logging
import threading
import warnings

import pytest

import offloop
from steps import forget, turn


class Stop(BaseException):
    """Not an `Exception`, as the cancellation scopes of some libraries are not."""


def fail(error: BaseException) -> None:
    """A callback that raises."""
    raise error


@pytest.mark.parametrize("error", [ValueError("wrong"), Stop("base"), GeneratorExit()])
def test_what_a_callback_raises_goes_to_the_exception_handler(loop, error):
    reports, order = [], []
    loop.set_exception_handler(lambda *report: reports.append(report))
    handle = loop.call_soon(fail, error)
    loop.call_soon(order.append, "next")
    loop.call_later(0, fail, error)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    (first_loop, first), (_, second) = reports
    assert first_loop is loop
    assert first["exception"] is second["exception"] is error
    assert first["handle"] is handle
    assert first["message"].startswith("Exception in callback fail(")
    assert first.keys() == {"message", "exception", "handle"}
    assert order == ["next"]


@pytest.mark.parametrize("error", [KeyboardInterrupt("key"), SystemExit(3)])
def test_interrupt_and_exit_leave_the_loop_which_can_go_on(loop, error):
    order = []
    loop.call_soon(order.append, "before")
    loop.call_soon(fail, error)
    loop.call_soon(order.append, "after")
    with pytest.raises(type(error)) as caught:
        loop.run_forever()
    assert caught.value is error
    assert order == ["before"]
    assert not loop.is_running()
    assert asyncio._get_running_loop() is None
    turn(loop)
    assert order == ["before", "after"]


def test_default_handler_logs_the_traceback(loop, caplog):
    loop.call_soon(fail, ValueError("to be read in the log"))
    turn(loop)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.message.startswith("Exception in callback fail(")
    assert record.exc_info[1].args == ("to be read in the log",)


def test_exception_handler_that_fails_is_reported_and_survived(loop, caplog):
    loop.set_exception_handler(lambda *report: fail(LookupError("in the handler")))
    loop.call_soon(fail, ValueError("first"))
    turn(loop)
    assert "Unhandled error in exception handler" in caplog.text


def test_running_loop_cannot_be_run_again_or_closed(run, make_loop):
    async def main():
        loop, other = asyncio.get_running_loop(), make_loop()
        coroutine = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="This event loop is already running"):
            loop.run_until_complete(coroutine)
        with pytest.raises(RuntimeError, match="Cannot run the event loop while another loop is"):
            other.run_until_complete(coroutine)
        coroutine.close()
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()
        other.close()
        assert loop.is_running()
        await asyncio.sleep(0)

    run(main())


def test_running_loop_survives_a_second_run_forever(our_loop):
    # The standard loop of Python 3.13 forgets at this that it is running.
    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="This event loop is already running"):
            loop.run_forever()
        await asyncio.sleep(0)
        return asyncio.get_running_loop() is loop

    assert our_loop.run_until_complete(main())


CALLS = {
    "call_soon": lambda loop: loop.call_soon(print),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(print),
    "call_later": lambda loop: loop.call_later(1, print),
    "call_at": lambda loop: loop.call_at(1, print),
    "run_forever": lambda loop: loop.run_forever(),
    "run_in_executor": lambda loop: loop.run_in_executor(None, print),
    "add_signal_handler": lambda loop: loop.add_signal_handler(10, print),
    "add_reader": lambda loop: loop.add_reader(0, print),
    "add_writer": lambda loop: loop.add_writer(0, print),
}


@pytest.mark.parametrize("name", CALLS)
def test_closed_loop_refuses(loop, name):
    loop.close()
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        CALLS[name](loop)
    assert loop.is_closed()
    assert (loop.remove_reader(0), loop.remove_writer(0)) == (False, False)
    assert repr(loop).endswith("running=False closed=True debug=False>")


WRONG_CALLS = {
    "no callback": lambda loop: loop.call_soon(),
    "no delay": lambda loop: loop.call_later(),
    "no callback after the delay": lambda loop: loop.call_later(1),
    "delay of nothing": lambda loop: loop.call_later(None, print),
    "time of nothing": lambda loop: loop.call_at(None, print),
    "unknown keyword": lambda loop: loop.call_soon(print, kontext=None),
    "callback twice": lambda loop: loop.call_soon(print, callback=print),
    "arguments": lambda loop: loop.create_future(1),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_wrong_call_is_a_type_error(loop, name):
    with pytest.raises(TypeError):
        WRONG_CALLS[name](loop)
    turn(loop)


def test_delay_and_callback_may_be_given_by_keyword(loop):
    seen = []
    callback = functools.partial(seen.append, "called")
    loop.call_soon(callback=callback)
    loop.call_soon_threadsafe(callback=callback, context=None)
    loop.call_later(delay=0, callback=callback)
    loop.call_later(0, callback=callback, context=None)
    loop.call_at(when=0, callback=callback)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert seen == ["called"] * 5


def test_debug_mode_checks_threads_and_callbacks(loop):
    loop.set_debug(True)

    async def coroutine():
        """Not a callback."""

    with pytest.raises(TypeError, match=r"coroutines cannot be used with call_soon\(\)"):
        loop.call_soon(coroutine)
    with pytest.raises(TypeError, match=r"a callable object was expected by call_at\(\), got 7"):
        loop.call_at(0, 7)
    refused = []

    def elsewhere():
        for call in (loop.call_soon, functools.partial(loop.call_later, 0)):
            try:
                call(refused.append, "must not run")
            except RuntimeError as error:
                refused.append(str(error))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=elsewhere)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert [text[:41] for text in refused] == ["Non-thread-safe operation invoked on an e"] * 2


def test_debug_mode_names_slow_callbacks_and_tasks(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0

    async def slow_coroutine():
        await asyncio.sleep(0)

    handle = loop.call_soon(loop.stop)
    loop.run_forever()
    loop.run_until_complete(slow_coroutine())
    assert handle._source_traceback
    lines = [record.message for record in caplog.records if "Executing" in record.message]
    assert lines[0].startswith("Executing <Handle ")
    assert "stop() created at" in lines[0]
    assert lines[0].endswith(" seconds")
    assert any("<Task " in line and "slow_coroutine" in line for line in lines)
    caplog.clear()
    loop.slow_callback_duration = 60.0
    turn(loop)
    assert not [record for record in caplog.records if "Executing" in record.message]


def test_debug_mode_tells_where_a_failing_callback_came_from(loop, caplog):
    loop.set_debug(True)
    loop.call_soon(fail, ValueError("wrong"))
    turn(loop)
    assert "Object created at (most recent call last):" in caplog.text
    assert "test_debug_mode_tells_where_a_failing_callback_came_from" in caplog.text


def test_loop_may_be_subclassed_and_its_methods_overridden():
    class Counting(offloop.EventLoop):
        def __init__(self, name):
            super().__init__()
            self.name = name
            self.scheduled = 0

        def call_soon(self, callback, *args, context=None):
            self.scheduled += 1
            return super().call_soon(callback, *args, context=context)

        def time(self):
            return 100 + super().time()

        def call_exception_handler(self, context):
            self.problem = context["message"]

    loop = Counting("mine")
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.call_soon(fail, ValueError())
    turn(loop)
    assert loop.name == "mine"
    assert loop.scheduled >= 3
    assert loop.problem.startswith("Exception in callback fail(")
    timer = loop.call_later(50, print)
    assert timer.when() > 100 + offloop.EventLoop.time(loop)
    loop.close()


def test_subclass_may_have_rounds_and_set_up_of_its_own():
    class Rounds(offloop.EventLoop):
        rounds = 0

        def _run_once(self):
            self.rounds += 1
            super()._run_once()

        def _run_forever_cleanup(self):
            super()._run_forever_cleanup()
            self.cleaned = True

    loop = Rounds()
    loop.run_until_complete(asyncio.sleep(0))
    assert loop.rounds >= 3
    assert loop.cleaned
    loop.close()


def test_tasks_of_the_loop_are_found(run):
    async def main():
        other = asyncio.create_task(asyncio.sleep(60), name="other")
        names = sorted(task.get_name() for task in asyncio.all_tasks())
        current = asyncio.current_task()
        other.cancel()
        await asyncio.wait([other])
        return names == sorted(["other", current.get_name()]), other.cancelled()

    assert run(main()) == (True, True)


def test_loop_that_was_not_closed_warns_and_closes_itself(make_loop):
    loop = make_loop()
    loop.run_until_complete(asyncio.sleep(0))
    held = [loop]
    del loop
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        forget(held)


def test_closed_loop_warns_of_nothing(make_loop):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop = make_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        del loop
        gc.collect()


def test_async_generators_are_shut_down(run):
    async def main():
        async def generate():
            try:
                yield 1
            finally:
                closed.append(True)

        generator = generate()
        return await anext(generator), generator

    closed = []
    first, generator = run(main())
    assert (first, closed) == (1, [True])
    del generator

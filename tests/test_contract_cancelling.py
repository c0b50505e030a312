"""Every way to cancel that a program may use stops the call: the only worker is free again.

The call burns a core for ever, so a worker that still ran it could not answer the next call.
"""

import asyncio

import anyio
import pytest

import calls
import offloop
from gates import PATIENCE_SECONDS, OpenGate
from peers import NEEDS_UVLOOP


@pytest.fixture
def single():
    """A pool of one worker."""
    with offloop.ProcessPool(1) as pool:
        yield pool


async def wait_started(gate: OpenGate) -> int:
    """Wait for a call to report, the loop staying free."""
    return await asyncio.to_thread(gate.wait_started)


async def is_free(pool: offloop.ProcessPool) -> bool:
    """Whether the only worker answers."""
    return await asyncio.wait_for(pool.run(abs, -1), PATIENCE_SECONDS) == 1


def test_cancelled_future_of_run_in_executor_stops_the_call(run, single, gate):
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(single, calls.loop_for_ever, gate.paths)
        await wait_started(gate)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        assert await is_free(single)

    run(main())


def test_timeout_around_run_in_executor_stops_the_call(run, single, gate):
    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                future = loop.run_in_executor(single, calls.loop_for_ever, gate.paths)
                await wait_started(gate)
                limit.reschedule(loop.time())
                await future
        assert await is_free(single)

    run(main())


def test_shielded_call_goes_on_when_its_waiter_is_cancelled(run, single, gate):
    async def main():
        call = asyncio.ensure_future(single.run(calls.hold, gate.paths, "went on"))
        waiter = asyncio.shield(call)
        await wait_started(gate)
        waiter.cancel()
        gate.release()
        assert await call == "went on"

    run(main())


@pytest.mark.parametrize("uses_uvloop", [False, pytest.param(True, marks=NEEDS_UVLOOP)])
def test_cancel_scope_of_anyio_stops_the_call(single, gate, uses_uvloop):
    async def main():
        async with anyio.create_task_group() as group:

            async def cancel_when_started():
                await wait_started(gate)
                group.cancel_scope.cancel()

            group.start_soon(cancel_when_started)
            await single.run(calls.loop_for_ever, gate.paths)
        assert group.cancel_scope.cancelled_caught
        assert await is_free(single)

    anyio.run(main, backend_options={"use_uvloop": uses_uvloop})


def test_failing_task_of_an_anyio_group_stops_the_others(gate):
    async def main():
        async def fail():
            await wait_started(gate)
            await wait_started(gate)
            raise ValueError("one of three")

        with offloop.ProcessPool(2) as pool:
            with pytest.raises(ExceptionGroup) as group:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(pool.run, calls.loop_for_ever, gate.paths)
                    tasks.start_soon(pool.run, calls.loop_for_ever, gate.paths)
                    tasks.start_soon(fail)
            assert [str(error) for error in group.value.exceptions] == ["one of three"]
            assert await is_free(pool)

    anyio.run(main)

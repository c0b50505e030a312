"""What a test leaves behind fails it: tasks, errors, coroutines, executors, threads."""

SOURCE = """
    import asyncio, threading
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    import pytest

    KEPT = []

    async def fails():
        raise ValueError("lost")

    @pytest.mark.asyncio
    async def test_task():
        KEPT.append(asyncio.create_task(asyncio.sleep(100)))
        await asyncio.sleep(0)

    def test_task_of_a_run():
        async def main():
            KEPT.append(asyncio.create_task(asyncio.sleep(100)))
            await asyncio.sleep(0)

        asyncio.run(main())

    def test_task_of_a_loop_that_is_closed():
        loop = asyncio.new_event_loop()
        KEPT.append(loop.create_task(asyncio.sleep(100)))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    @pytest.mark.asyncio
    async def test_exception():
        asyncio.create_task(fails())
        await asyncio.sleep(0.01)

    @pytest.mark.asyncio
    async def test_coroutine():
        fails()

    @pytest.mark.asyncio
    async def test_deadlock():
        async def first():
            await asyncio.sleep(0)
            await second

        async def other():
            await asyncio.wait([one])

        one = asyncio.create_task(first())
        second = asyncio.create_task(other())
        await asyncio.sleep(0.01)

    def test_executor():
        KEPT.append(ThreadPoolExecutor(2))
        KEPT[-1].submit(abs, -1).result()

    def test_thread():
        KEPT.append(threading.Event())
        threading.Thread(target=KEPT[-1].wait, name="forgotten").start()

    def test_end():
        KEPT[-1].set()

    # What is done well.

    @pytest.mark.asyncio
    async def test_well():
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0.01))
        results = await asyncio.gather(fails(), return_exceptions=True)
        assert len(results) == 1
        with pytest.raises(ValueError):
            await asyncio.create_task(fails())
        await asyncio.to_thread(abs, -1)
        task = asyncio.create_task(asyncio.sleep(100))
        task.cancel()
        fails().close()

    def test_executor_that_is_shut_down():
        with ThreadPoolExecutor(2) as pool:
            pool.submit(abs, -1).result()

    def test_executor_without_workers():
        KEPT.append(ThreadPoolExecutor(2))

    def test_executor_that_is_gone():
        ThreadPoolExecutor(1).submit(abs, -1).result()

    def test_thread_that_ends():
        threading.Thread(target=abs, args=(-1,)).start()

    def test_daemon():
        threading.Thread(target=threading.Event().wait, daemon=True).start()

    @pytest.fixture(scope="module")
    def pool():
        with ThreadPoolExecutor(1) as pool:
            yield pool

    def test_pool_of_the_module(pool):
        pool.submit(abs, -1).result()
"""

LEFT = {
    "test_task": ("teardown", "task", "was still pending when its loop ended"),
    "test_task_of_a_run": ("call", "task", "was still pending when its loop ended"),
    "test_task_of_a_loop_that_is_closed": ("call", "task", "was pending when its loop was closed"),
    "test_exception": ("call", "exception", "an exception was lost: ValueError: lost"),
    "test_coroutine": ("call", "coroutine", "a coroutine was never awaited: fails"),
    "test_deadlock": ("call", "deadlock", "tasks await each other in a circle"),
    "test_executor": ("teardown", "executor", "a ThreadPoolExecutor with 1 worker was not shut"),
    "test_thread": ("teardown", "thread", "thread forgotten still runs"),
}


def test_each_leak_fails_its_test_once_and_nothing_else_does(suite):
    ran = suite(SOURCE, "--offloop-json=gate.json")
    expected = {test: when for test, (when, _, _) in LEFT.items()}
    assert ran.failed() == expected, ran.text
    found = [
        (each["test"].split("::")[1], each["phase"], each["kind"])
        for each in ran.json()["findings"]
    ]
    assert sorted(found) == sorted((test, when, kind) for test, (when, kind, _) in LEFT.items())
    for test, (_, _, words) in LEFT.items():
        assert words in ran.outcome(test)[1], test


def test_each_kind_can_be_allowed(suite):
    kinds = {kind for _, kind, _ in LEFT.values()}
    ran = suite(SOURCE, f"--offloop-allow={','.join(sorted(kinds))}")
    assert (ran.status, ran.failed()) == (0, {}), ran.text


def test_a_task_of_a_fixture_may_live_as_long_as_the_fixture(suite):
    source = """
        import asyncio
        import pytest, pytest_asyncio

        @pytest_asyncio.fixture
        async def server():
            task = asyncio.create_task(asyncio.sleep(100))
            yield task
            task.cancel()

        @pytest_asyncio.fixture
        async def forgotten():
            yield asyncio.create_task(asyncio.sleep(100))

        @pytest.mark.asyncio
        async def test_ended(server): ...

        @pytest.mark.asyncio
        async def test_left(forgotten): ...
    """
    assert suite(source).failed() == {"test_left": "teardown"}


def test_the_tasks_of_frameworks_are_theirs(suite):
    source = """
        import anyio, pytest

        pytestmark = pytest.mark.anyio

        @pytest.fixture(params=["asyncio"], scope="module")
        def anyio_backend(request):
            return request.param

        @pytest.fixture(scope="module")
        async def shared(anyio_backend):
            yield 1

        async def test_first(shared):
            await anyio.sleep(0)

        async def test_group(shared):
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 0.01)
    """
    ran = suite(source, plugins=("anyio",))
    assert (ran.status, ran.failed()) == (0, {}), ran.text

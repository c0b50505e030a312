"""A test answers for what it leaves, and for nothing that a fixture, a loop or a library owns."""

SOURCE = """
    import asyncio, gc, threading, time
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    from unittest import mock
    import pytest, pytest_asyncio

    KEPT = []

    def spin(seconds):
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass

    # What a fixture ends.

    @pytest_asyncio.fixture
    async def serve():
        made = []

        async def make():
            made.append(asyncio.create_task(asyncio.Event().wait()))
            await asyncio.sleep(0)

        yield make
        for task in made:
            task.cancel()
        await asyncio.gather(*made, return_exceptions=True)

    @pytest.mark.asyncio
    async def test_factory_of_a_fixture(serve):
        await serve()

    @pytest_asyncio.fixture
    async def group():
        async with asyncio.TaskGroup() as group:
            yield group

    @pytest.mark.asyncio
    async def test_group_of_a_fixture(group):
        group.create_task(asyncio.sleep(0.01))

    @pytest.fixture(scope="module")
    def processes():
        with ProcessPoolExecutor(1) as processes:
            yield processes

    def test_process_of_a_wider_fixture(processes):
        assert processes.submit(abs, -1).result() == 1

    def test_pool_of_a_module_that_is_imported():
        import has_a_pool

        assert has_a_pool.POOL.submit(abs, -1).result() == 1

    @pytest.mark.asyncio
    async def test_pool_that_the_process_shares():
        import offloop

        assert await offloop.to_process(abs, -1) == 1

    # What a test leaves beside that.

    @pytest.fixture
    def ending():
        over = threading.Event()
        thread = threading.Thread(target=over.wait)
        thread.start()
        yield
        over.set()
        thread.join()

    def test_thread_beside_one_that_ends(ending):
        KEPT.append(threading.Event())
        threading.Thread(target=KEPT[-1].wait, name="left").start()

    class Stoppable(threading.Thread):
        def __init__(self):
            super().__init__(name="stoppable")
            self.over = threading.Event()

        def run(self):
            self.over.wait()

        def join(self):
            self.over.set()
            super().join()

    def test_thread_that_ends_when_it_is_joined():
        KEPT.append(Stoppable())
        KEPT[-1].start()

    def test_threads_end():
        for kept in KEPT:
            getattr(kept, "over", kept).set()

    def test_own_pool():
        import offloop

        KEPT.append(offloop.ProcessPool(1))
        assert KEPT[-1].submit(abs, -1).result() == 1

    def test_own_pool_that_is_shut_down():
        import offloop

        with offloop.ProcessPool(1) as pool:
            assert pool.submit(abs, -1).result() == 1

    @pytest.mark.parametrize("turn", [1, 2])
    def test_tasks_of_one_name(turn):
        loop = asyncio.new_event_loop()
        KEPT.append(loop.create_task(asyncio.sleep(100), name="consumer"))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    async def notify(): ...

    def call_it():
        notify()

    @pytest.mark.asyncio
    @pytest.mark.parametrize("turn", [1, 2])
    async def test_coroutine_of_one_line(turn):
        call_it()

    # What a test replaces.

    @pytest.fixture
    def clock():
        with mock.patch("time.monotonic", side_effect=[10, 15]):
            yield

    def test_clock(clock):
        assert time.monotonic() == 10
        assert time.monotonic() == 15

    @pytest.fixture
    def broken():
        broken = mock.Mock(side_effect=RuntimeError)
        with (
            mock.patch("threading.enumerate", broken),
            mock.patch("asyncio.all_tasks", broken),
            mock.patch("os.getcwd", broken),
        ):
            yield

    def test_functions(broken): ...

    @pytest.mark.asyncio
    async def test_functions_of_a_test():
        broken = mock.Mock(side_effect=RuntimeError)
        with mock.patch("threading.enumerate", broken), mock.patch("os.getcwd", broken):
            await asyncio.sleep(0)
            spin(0.3)

    @pytest.mark.asyncio
    async def test_debugged(request):
        request.config.hook.pytest_enter_pdb(config=request.config, pdb=None)
        spin(0.3)

    @pytest.mark.asyncio
    async def test_after_it():
        spin(0.3)
"""

LEFT = {
    "test_thread_beside_one_that_ends": "teardown",
    "test_thread_that_ends_when_it_is_joined": "teardown",
    "test_own_pool": "teardown",
    "test_tasks_of_one_name[1]": "call",
    "test_tasks_of_one_name[2]": "call",
    "test_coroutine_of_one_line[1]": "call",
    "test_coroutine_of_one_line[2]": "call",
    "test_functions_of_a_test": "call",
    "test_after_it": "call",
}


def test_each_test_answers_for_its_own(suite, tmp_path):
    (tmp_path / "has_a_pool.py").write_text(
        "from concurrent.futures import ThreadPoolExecutor\nPOOL = ThreadPoolExecutor(1)\n"
    )
    ran = suite(SOURCE)
    assert ran.failed() == LEFT, ran.text
    assert "thread stoppable still runs" in ran.text
    assert "test_debugged (call): a debugger held the program" in ran.text


def test_executors_of_loops_are_theirs(suite):
    source = """
        import asyncio, threading
        import pytest, uvloop

        @pytest.fixture(scope="session")
        def event_loop_policy():
            return uvloop.EventLoopPolicy()

        @pytest.mark.asyncio(loop_scope="session")
        async def test_loop_of_the_session():
            assert await asyncio.to_thread(abs, -1) == 1

        @pytest.fixture(scope="session")
        def served():
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever)
            thread.start()
            yield loop
            asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

        def test_loop_that_runs_in_a_thread(served):
            future = asyncio.run_coroutine_threadsafe(asyncio.to_thread(abs, -1), served)
            assert future.result() == 1
    """
    ran = suite(source, "-W", "ignore::DeprecationWarning")
    assert (ran.status, ran.failed()) == (0, {}), ran.text


def test_a_coroutine_that_is_collected_later_fails_the_run_and_no_test(suite):
    source = """
        import asyncio, gc
        import pytest

        async def notify(): ...

        def test_keeps_it():
            with pytest.raises(RuntimeError) as raised:
                asyncio.create_task(notify())

        def test_after():
            gc.collect()
    """
    ran = suite(source)
    assert (ran.status, ran.failed()) == (1, {}), ran.text
    assert "came too late for its test" in ran.text
    assert "never awaited: notify" in ran.text


def test_a_run_that_is_broken_off_leaves_no_task(suite):
    source = """
        import asyncio
        import pytest

        async def leave():
            raise SystemExit(3)

        async def main():
            child = asyncio.create_task(leave())
            await asyncio.sleep(10)

        def test_exit():
            with pytest.raises(SystemExit):
                asyncio.run(main())
    """
    ran = suite(source)
    assert (ran.status, ran.failed()) == (0, {}), ran.text

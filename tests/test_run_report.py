"""The report of `offloop run`: adopted pools, lag, freezes and busiest functions are told truly."""

import asyncio
import math
import os
from dataclasses import replace

import pytest

import offloop
from offloop._run import loop_block
from offloop._run.calls import PROCESSES, CallTable
from offloop._run.loops_seen import LOOPS_KEPT, LoopsSeen
from offloop._state import FunctionStatistics
from peers import NEEDS_UVLOOP


def squeezed(text: str) -> str:
    """The text with every run of white space as one space, as wrapped lines are compared."""
    return " ".join(text.split())


def worst_lag_seconds(report: str) -> float:
    """The worst lag that a report tells."""
    worst, unit = report.split("worst ")[1].split()[:2]
    return float(worst) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[unit]


@pytest.mark.parametrize(
    "imported",
    [
        "from concurrent.futures import ProcessPoolExecutor",
        "from concurrent.futures.process import ProcessPoolExecutor",
    ],
)
def test_standard_pool_is_adopted_and_stays_a_standard_pool(run_source, imported):
    ended = run_source(
        f"""
        {imported}
        import concurrent.futures, os
        class Mine(ProcessPoolExecutor):
            def submit(self, fn, /, *args, **kwargs):
                return super().submit(fn, *args, **kwargs)
        with Mine(1) as mine, ProcessPoolExecutor(max_workers=1) as pool:
            assert isinstance(pool, ProcessPoolExecutor)
            assert isinstance(mine, concurrent.futures.Executor)
            assert issubclass(Mine, concurrent.futures.process.ProcessPoolExecutor)
            print(list(pool.map(lambda x: x * x, range(4), chunksize=2)))
            print(list(mine.map(lambda x: x + 1, range(4))))
            try:
                pool.submit(os._exit, 3).result()
            except concurrent.futures.process.BrokenProcessPool as error:
                print(type(error).__name__)
            print(pool.submit(abs, -1).result())
        """
    )
    assert ended.stdout.splitlines() == ["[0, 1, 4, 9]", "[1, 2, 3, 4]", "WorkerCrashed", "1"]
    report = squeezed(ended.stderr)
    assert "8 calls in 2 pools (2 adopted), 1 crashed" in report
    assert "_exit: 1 of 1 calls ended their worker (the last by exit status 3)" in report


def test_workers_of_an_adopted_pool_can_be_ended(run_source, gate):
    ended = run_source(
        """
        import sys
        sys.path.append(sys.argv[1])
        import calls
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool
        pool = ProcessPoolExecutor(1)
        future = pool.submit(calls.sleep_for_ever, calls.Gate(*sys.argv[2:]))
        open(sys.argv[2]).readline()
        # On Python 3.14 kill_workers calls this; earlier versions have neither.
        getattr(pool, "kill_workers", lambda: pool._force_shutdown("kill"))()
        print(isinstance(future.exception(), BrokenProcessPool))
        """,
        os.path.dirname(__file__),
        gate.paths.started,
        gate.paths.released,
    )
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr


def test_no_adopt_and_an_explicit_fork_context_keep_the_standard_pool(run_source):
    source = """
        import concurrent.futures, multiprocessing, warnings
        warnings.simplefilter("ignore")
        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            print(pool.submit(abs, -1).result(), hasattr(pool, "_executor_manager_thread"))
        """
    kept = run_source(source)
    assert kept.stdout == "1 True\n"
    assert "app.py:5: the standard pool, because of an explicit fork context" in kept.stderr
    left = run_source(source, options=("--no-adopt",))
    assert left.stdout == "1 True\n"
    assert "kept" not in left.stderr


@pytest.mark.parametrize(
    "loop",
    [
        "asyncio.new_event_loop()",
        pytest.param("__import__('uvloop').new_event_loop()", marks=NEEDS_UVLOOP),
    ],
)
def test_loop_made_at_module_level_is_measured(run_source, loop):
    ended = run_source(
        f"""
        import asyncio, time
        loop = {loop}
        async def main():
            await asyncio.sleep(0.1)
            time.sleep(0.25)
            await asyncio.sleep(0.1)
        loop.run_until_complete(main())
        loop.close()
        """
    )
    assert ended.returncode == 0
    assert worst_lag_seconds(ended.stderr) >= 0.23


def test_loop_that_blocks_to_its_very_end_is_measured(run_source):
    ended = run_source(
        """
        import asyncio, time
        async def main():
            time.sleep(0.3)
        asyncio.run(main())
        """
    )
    assert worst_lag_seconds(ended.stderr) >= 0.28


def test_leaving_an_executor_inside_a_coroutine_is_named_with_its_line(run_source):
    ended = run_source(
        """
        import asyncio, time, offloop
        from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor
        async def threads():
            with ThreadPoolExecutor() as pool:
                pool.submit(time.sleep, 0.2)
        async def processes():
            pool = ProcessPoolExecutor(1)
            pool.submit(time.sleep, 0.2)
            pool.shutdown()
        async def harmless():
            async with offloop.ProcessPool(1) as pool:
                pool.submit(time.sleep, 0.2)
        async def main():
            await threads()
            await processes()
            await harmless()
        asyncio.run(main())
        with ThreadPoolExecutor() as pool:
            pool.submit(time.sleep, 0.02)
        """
    )
    report = squeezed(ended.stderr)
    assert "app.py:5 in `threads`: leaving `with ThreadPoolExecutor`" in report
    assert "app.py:10 in `processes`: calling `ProcessPoolExecutor.shutdown`" in report
    assert report.count("on the loop's thread stopped it for") == 2


def test_leaving_a_pool_of_ours_inside_a_coroutine_is_named_with_its_line(run_source):
    ended = run_source(
        """
        import asyncio, time, offloop
        async def main():
            with offloop.ProcessPool(1) as pool:
                pool.submit(time.sleep, 0.2)
            pool = offloop.ProcessPool(1)
            pool.submit(time.sleep, 0.2)
            pool.shutdown()
        asyncio.run(main())
        with offloop.ProcessPool(1) as pool:
            pool.submit(time.sleep, 0.02)
        """
    )
    report = squeezed(ended.stderr)
    assert "app.py:4 in `main`: leaving `with ProcessPool`" in report
    assert "app.py:8 in `main`: calling `ProcessPool.shutdown`" in report
    assert report.count("on the loop's thread stopped it for") == 2


def test_leaving_an_adopted_pool_inside_a_coroutine_is_named_as_what_it_stands_for(run_source):
    ended = run_source(
        """
        import asyncio, time
        from concurrent.futures import ProcessPoolExecutor
        async def main():
            with ProcessPoolExecutor(1) as pool:
                pool.submit(time.sleep, 0.2)
        asyncio.run(main())
        """
    )
    report = squeezed(ended.stderr)
    assert "app.py:5 in `main`: leaving `with ProcessPoolExecutor`" in report
    assert report.count("on the loop's thread stopped it for") == 1


def test_report_leaves_our_own_classes_as_they_are(run_source):
    source = """
        import concurrent.futures
        import offloop
        from offloop._process_pool import PoolView
        adopted = concurrent.futures.ProcessPoolExecutor
        for each in (offloop.ProcessPool, PoolView, adopted):
            for base in each.__mro__:
                if base.__module__.startswith("offloop") or base is adopted:
                    for name, value in sorted(vars(base).items()):
                        code = getattr(value, "__code__", None)
                        print(base.__name__, name, code and code.co_filename)
        """
    measured, plain = run_source(source), run_source(source, options=("--no-report",))
    assert "ProcessPool submit" in measured.stdout or "_Executor submit" in measured.stdout
    assert measured.stdout == plain.stdout


def test_report_tells_what_became_of_calls_and_workers(run_source):
    ended = run_source(
        """
        import os, signal, time, offloop
        from offloop import _state
        pool = offloop.ProcessPool(1, grace=60)
        pid = pool.submit(os.getpid).result()
        pool.options(run_timeout=0.05).submit(time.sleep, 60).exception()
        running = pool.submit(time.sleep, 0.1)
        while not (running.running() or running.done()):
            time.sleep(0.001)
        pool.submit(time.sleep, 60).cancel()
        running.result()
        os.kill(pid, signal.SIGKILL)
        while not _state.snapshot().events.crashes:
            time.sleep(0.001)
        print(pid)
        pool.submit(abs, -1).result()
        pool.submit(os._exit, 3).exception()
        """
    )
    report = squeezed(ended.stderr)
    assert "6 calls in 1 pool, 1 crashed, 1 cancelled, 1 expired" in report
    assert "2 workers started, 1 of them in place of a crashed one, 2 crashed" in report
    pid = ended.stdout.strip()
    assert f"worker {pid} was ended by signal SIGKILL while it ran no call" in report
    assert "posix._exit: 1 of 1 calls ended their worker (the last by exit status 3)" in report


def test_report_names_the_busiest_functions(run_source):
    ended = run_source(
        """
        import asyncio, time, offloop
        def busy(seconds):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                pass
        async def main():
            await asyncio.gather(*(offloop.to_process(busy, 0.05) for _ in range(4)))
            await asyncio.gather(*(offloop.to_thread(time.sleep, 0.01) for _ in range(3)))
        asyncio.run(main())
        """
    )
    rows = [line.split() for line in ended.stderr.splitlines()]
    assert any(row[:3] == ["busy", "processes", "4"] for row in rows)
    assert any(row[:3] == ["time.sleep", "threads", "3"] for row in rows)


def test_busiest_functions_are_those_that_a_reader_knows(run_source):
    ended = run_source(
        """
        import asyncio, functools, time, offloop
        def busy(seconds, scale=1):
            end = time.monotonic() + seconds * scale
            while time.monotonic() < end:
                pass
        class Model:
            def predict(self, seconds):
                busy(seconds)
            def __call__(self, seconds):
                busy(seconds)
        async def main():
            loop = asyncio.get_running_loop()
            async with offloop.ProcessPool(2) as pool:
                await pool.run(busy, 0.02)
                await loop.run_in_executor(pool, functools.partial(busy, 0.02, scale=2))
                await pool.run(Model().predict, 0.02)
                await pool.run(Model(), 0.02)
                await asyncio.to_thread(list, pool.map(busy, [0.005] * 8, chunksize=4))
        asyncio.run(main())
        """
    )
    rows = [line.split() for line in ended.stderr.splitlines()]
    assert any(row[:3] == ["busy", "processes", "2"] for row in rows), ended.stderr
    assert any(row[:3] == ["Model.predict", "processes", "1"] for row in rows)
    assert any(row[:3] == ["Model.__call__", "processes", "1"] for row in rows)
    assert any(row[:5] == ["busy", "(in", "chunks)", "processes", "2"] for row in rows)
    assert "<" not in ended.stderr, "a run time was not measured"


def test_functions_without_a_name_behave_as_without_a_report(run_source):
    source = """
        import functools, offloop
        FACTOR = 2
        class Odd:
            def __call__(self, value):
                if value < 0:
                    raise ValueError(value)
                return FACTOR * value
        with offloop.ProcessPool(1) as pool:
            print(pool.submit(Odd(), 1).result(), type(pool.submit(Odd(), -1).exception()))
            FACTOR = 5
            print(pool.submit(functools.partial(Odd(), 1)).result())
            print(pool.submit(functools.partial(int, base=2), "101").result())
            print(type(pool.submit(3).exception()))
        """
    assert run_source(source).stdout == run_source(source, options=("--no-report",)).stdout


def test_rows_of_one_name_are_added_up():
    table = CallTable()
    row = FunctionStatistics("f", 2, 1.0, 1, 1, None, 9)
    table.add_processes([row, replace(row, name="__main__.f"), replace(row, name="g")])
    table.add_processes([FunctionStatistics("never", 0, 0.0, 0, 0, None, None)])
    f, g = table.uses(PROCESSES)
    assert (f.name, f.calls, f.run_seconds, f.ended, f.crashes) == ("f", 4, 2.0, 8, 2)
    assert (g.name, g.ended, g.last_crash) == ("g", 4, "signal SIGKILL")


def test_no_report_prints_nothing(run_source):
    ended = run_source("print('only this')", options=("--no-report",))
    assert (ended.stdout, ended.stderr) == ("only this\n", "")


ECHO = """
    import asyncio, time
    async def main():
        async def echo(reader, writer):
            writer.write(await reader.readexactly(50_000))
            writer.close()
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(bytes(50_000))
        await reader.readexactly(50_000)
        writer.close()
        server.close()
        time.sleep(0.15)
    asyncio.run(main())
    """


def test_loop_of_ours_tells_its_load_traffic_and_lag(run_source):
    report = squeezed(run_source(ECHO).stderr)
    assert " % busy, " in report
    assert " callbacks/s, deepest queue " in report
    assert "2 connections, 100 kB received, 100 kB sent" in report
    longest, unit = report.split("between polls")[1].split(" max ")[1].split()[:2]
    assert float(longest) * {"ms": 1e-3, "s": 1.0}[unit] >= 0.15
    assert "1 us " in report


@pytest.mark.parametrize("name", ["asyncio", pytest.param("uvloop", marks=NEEDS_UVLOOP)])
def test_other_loops_tell_their_lag_alone(run_source, name):
    report = run_source(ECHO, options=("--loop", name)).stderr
    assert f", {name}" in squeezed(report)
    assert "busy" not in report
    assert "between polls" not in report


def test_busiest_of_many_loops_are_shown(run_source):
    report = squeezed(
        run_source(
            """
            import asyncio, threading
            async def main():
                await asyncio.sleep(0)
            for _ in range(30):
                asyncio.run(main())
            thread = threading.Thread(target=asyncio.run, args=(main(),), name="side-thread")
            thread.start()
            thread.join()
            """
        ).stderr
    )
    assert report.count("% busy") == 3
    assert "and 28 more loops" in report
    assert "MainThread" in report


def test_loops_are_not_kept_alive_and_the_busiest_are_remembered():
    seen = LoopsSeen()
    loops = []
    for number in range(LOOPS_KEPT + 10):
        loop = offloop.new_event_loop()
        seen.note(loop)
        for _ in range(100 * (number == 3) + 1):
            loop.call_soon(sum, range(1000 * (number == 3)))
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        seen.note(loop)
        if number == 3:
            busy = loop.statistics()
        loops.append(loop)
    standard = asyncio.SelectorEventLoop()
    seen.note(standard)
    standard.close()
    assert seen.count == LOOPS_KEPT + 10
    del loop, loops
    assert len(seen.busiest(100)) == LOOPS_KEPT
    assert busy in [loop.statistics for loop in seen.busiest(100)]


def test_lag_bar_has_a_column_for_each_third_of_a_decade():
    def drawn(*buckets, is_ascii=False):
        return loop_block.lag_bar(offloop.LagHistogram(buckets=buckets), is_ascii).plain

    empty = "·" * 21
    assert drawn() == f"1 us {empty} 10 s"
    assert drawn((1e-7, 1), (math.inf, 1)) == f"1 us █{empty[2:]}█ 10 s"
    assert drawn((1e-3, 1000), (1.05e-3, 1)) == f"1 us {empty[:8]}█▁{empty[10:]} 10 s"
    assert drawn((1e-3, 8), is_ascii=True) == f"1 us {' ' * 8}#{' ' * 12} 10 s"


def test_sizes_have_three_digits():
    sizes = [loop_block.size(count) for count in (0, 999, 1000, 12_345, 999_600, 5 * 10**15)]
    assert sizes == ["0 B", "999 B", "1 kB", "12.3 kB", "1 MB", "5e+03 TB"]

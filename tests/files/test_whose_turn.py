"""Turns at a file: odd sizes, closing under a call, executors and loops that are gone."""

import asyncio
import concurrent.futures
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting_threads import Gate, let_run

import offloop
from gates import PATIENCE_SECONDS
from offloop._files.turns import SHARE_BYTES, share

LARGE = os.urandom(1024 * 1024)


class EagerExecutor(ThreadPoolExecutor):
    """Has done a call before it says that it was given one, once that is wanted."""

    eager = False

    def submit(self, *arguments, **keywords):
        future = super().submit(*arguments, **keywords)
        if self.eager:
            concurrent.futures.wait([future], PATIENCE_SECONDS)
        return future


@pytest.mark.parametrize("size", [sys.maxsize, sys.maxsize // 4])
@pytest.mark.parametrize("name", ["read", "readline"])
@pytest.mark.parametrize("mode", ["r", "rb"])
def test_sizes_beyond_any_file_read_what_there_is(run, tmp_path, mode, name, size):
    path = tmp_path / "file"
    path.write_text("one\ntwo\n")

    async def main():
        results = []
        for used in (0, SHARE_BYTES):
            async with offloop.open(path, mode) as file, asyncio.timeout(PATIENCE_SECONDS):
                share.used = used
                try:
                    results.append(await getattr(file, name)(size))
                except (MemoryError, OverflowError):
                    # So says the built-in one, of bytes.
                    results.append(MemoryError)
                await file.seek(0)
                results.append(await file.read())
        return results

    with open(path, mode) as file:
        try:
            expected = getattr(file, name)(size)
        except (MemoryError, OverflowError):
            expected = MemoryError
    whole = "one\ntwo\n" if mode == "r" else b"one\ntwo\n"
    assert run(main()) == [expected, whole] * 2


def test_a_size_that_is_no_size_is_refused_and_the_file_goes_on(run, tmp_path):
    path = tmp_path / "file"
    path.write_text("text")

    async def main():
        async with offloop.open(path) as file, asyncio.timeout(PATIENCE_SECONDS):
            for used in (0, SHARE_BYTES):
                share.used = used
                with pytest.raises(OverflowError):
                    await file.read(1 << 70)
            return await file.read()

    assert run(main()) == "text"


def test_a_cancelled_close_waits_for_the_calls_behind_it(run, tmp_path):
    path = tmp_path / "file"

    async def main():
        executor = EagerExecutor(2)
        asyncio.get_running_loop().set_default_executor(executor)
        file = await offloop.open(path, "wb")
        gate = Gate()
        large = asyncio.create_task(file.write(LARGE))
        await let_run()
        closing = asyncio.create_task(file.close())
        await let_run()
        small = asyncio.create_task(file.write(b"small"))
        await let_run()
        closing.cancel()
        executor.eager = True
        await gate.open()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await large == len(LARGE)
            assert await small == 5
            await file.close()
        return file.closed

    assert run(main())
    assert path.read_bytes() == LARGE + b"small"


def test_a_cancelled_close_waits_for_the_reads_behind_it(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(LARGE)

    async def main():
        executor = EagerExecutor(2)
        asyncio.get_running_loop().set_default_executor(executor)
        file = await offloop.open(path, "rb")
        gate = Gate()
        large = asyncio.create_task(file.read(500_000))
        await let_run()
        closing = asyncio.create_task(file.close())
        await let_run()
        small = asyncio.create_task(file.read(5))
        await let_run()
        closing.cancel()
        executor.eager = True
        await gate.open()
        async with asyncio.timeout(PATIENCE_SECONDS):
            pieces = await asyncio.gather(large, small)
            await file.close()
        return b"".join(pieces)

    assert run(main()) == LARGE[:500_005]


def test_without_an_executor_closing_says_so_each_time_and_locks_nothing(run, tmp_path):
    async def main():
        file = await offloop.open(tmp_path / "file", "wb")
        await file.write(b"x")
        await asyncio.get_running_loop().shutdown_default_executor()
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(3):
                with pytest.raises(RuntimeError, match="shutdown"):
                    await file.close()
            # What touches memory only goes on.
            await file.write(b"y")
        return file

    file = run(main())
    assert not file.closed
    asyncio.run(file.close())
    assert (tmp_path / "file").read_bytes() == b"xy"


async def abandon_a_read(fd):
    file = await offloop.open(fd, "rb")
    reading = asyncio.create_task(file.read(1))
    await let_run()
    reading.cancel()
    await asyncio.wait([reading])
    return file


def test_a_file_that_another_loop_has_not_done_with_can_only_be_closed():
    reader, writer = os.pipe()
    loop = asyncio.new_event_loop()
    file = loop.run_until_complete(abandon_a_read(reader))
    loop.close()
    os.write(writer, b"abc")

    async def main():
        async with asyncio.timeout(PATIENCE_SECONDS):
            for call in (file.read, file.tell, file.flush):
                with pytest.raises(RuntimeError, match="the file is in use by another event loop"):
                    await call()
            await file.close()
            await file.close()
            with pytest.raises(ValueError, match="closed file"):
                await file.read()

    asyncio.run(main())
    assert file.closed
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)
    os.close(writer)


def test_a_file_may_go_from_loop_to_loop(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(LARGE)

    async def read(file):
        reads = [asyncio.create_task(file.read(size)) for size in (300_000, 10)]
        return b"".join(await asyncio.gather(*reads))

    async def begin():
        file = await offloop.open(path, "rb")
        return file, await read(file)

    file, first = run(begin())
    rest = asyncio.run(read(file)) + asyncio.run(read(file))
    asyncio.run(file.close())
    assert first + rest == LARGE[: len(first + rest)]

"""One operation at a time, in the order of the calls; cancelling loses neither place nor data."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting_threads import Gate, let_run

import offloop
from gates import open_descriptors

LARGE = os.urandom(1024 * 1024)


async def calls_have_ended():
    """Wait until each of the executor's two threads has ended what it was given before."""
    barrier = threading.Barrier(2, timeout=30)
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, barrier.wait) for _ in range(2)))


class CancellingExecutor(ThreadPoolExecutor):
    """Cancels a task when its call has ended, before the task is told."""

    def submit(self, *arguments):
        future = super().submit(*arguments)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self.reading.cancel))
        return future


def test_operations_run_in_the_order_of_their_calls(run, tmp_path, count_calls):
    path = tmp_path / "file"
    path.write_bytes(LARGE)

    async def main():
        count_calls()
        gate = Gate()
        async with offloop.open(path, "rb") as file:
            await gate.open()
            gate = Gate()
            # The first is too large for the loop, so it waits, and the rest waits behind it.
            sizes = [300_000, 10, 5000, 300_000, 1, 20]
            reads = [asyncio.create_task(file.read(size)) for size in sizes]
            await let_run()
            assert not any(read.done() for read in reads)
            await gate.open()
            pieces = await asyncio.gather(*reads)
        assert [len(piece) for piece in pieces] == sizes
        assert b"".join(pieces) == LARGE[: sum(sizes)]

    run(main())


def test_writes_of_many_tasks_are_whole_and_in_order(run, tmp_path):
    path = tmp_path / "file"
    lines = [f"{number} ".encode() * 500 + b"\n" for number in range(300)]

    async def main():
        async with offloop.open(path, "wb") as file:
            await asyncio.gather(*(file.write(line) for line in lines))

    run(main())
    assert path.read_bytes() == b"".join(lines)


@pytest.mark.parametrize("mode", ["rb", "r"])
@pytest.mark.parametrize("size", [500_000, -1])
def test_a_cancelled_read_leaves_the_position(run, tmp_path, count_calls, mode, size):
    path = tmp_path / "file"
    text = "".join(f"line ß {number}\n" for number in range(90_000))
    path.write_text(text, encoding="utf-8")
    encoding = None if "b" in mode else "utf-8"

    async def main():
        count_calls()
        async with offloop.open(path, mode, encoding=encoding) as file:
            first = await file.readline()
            position = await file.tell()
            gate = Gate()
            reading = asyncio.create_task(file.read(size))
            following = asyncio.create_task(file.tell())
            await let_run()
            reading.cancel()
            await let_run()
            assert reading.cancelled()
            # Its successor waits until the read, which cannot be stopped, has ended.
            assert not following.done()
            await gate.open()
            assert await following == position
            return first, await file.read()

    first, rest = run(main())
    assert first + rest == (text.encode() if encoding is None else text)


def test_a_read_that_is_cancelled_when_it_has_just_ended_is_undone(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(LARGE)

    async def main():
        async with offloop.open(path, "rb") as file:
            reading = asyncio.create_task(file.read(600_000))
            with CancellingExecutor(1) as executor:
                executor.reading = reading
                asyncio.get_running_loop().set_default_executor(executor)
                with pytest.raises(asyncio.CancelledError):
                    await reading
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
            assert await file.tell() == 0
            assert await file.read(600_000) == LARGE[:600_000]

    run(main())


def test_a_read_of_a_fifo_can_be_cancelled_while_it_waits(run, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)

    async def main():
        writer = os.open(path, os.O_RDWR)
        async with offloop.open(path, "rb") as file:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(file.readline(), 0.01)
            # The first is in its thread, and takes a line. The rest has not begun.
            os.write(writer, b"one\ntwo\nthree")
            line = await file.readline()
            os.close(writer)
            return line, await file.read()

    assert run(main()) == (b"two\n", b"three")


def test_a_write_that_has_begun_is_completed_when_it_is_cancelled(run, tmp_path, count_calls):
    path = tmp_path / "file"

    async def main():
        count_calls()
        async with offloop.open(path, "wb") as file:
            gate = Gate()
            large = asyncio.create_task(file.write(LARGE))
            queued = asyncio.create_task(file.write(b"never"))
            await let_run()
            large.cancel()
            queued.cancel()
            await let_run()
            assert large.cancelled()
            assert queued.cancelled()
            await gate.open()
            await file.write(b"end")

    run(main())
    assert path.read_bytes() == LARGE + b"end"


def test_what_a_cancelled_task_left_in_the_buffers_is_written(run, tmp_path, count_calls):
    path = tmp_path / "file"

    async def main():
        count_calls()
        file = await offloop.open(path, "w", encoding="ascii")
        gate = Gate()
        writing = asyncio.create_task(file.write("x" * 200_000))
        await let_run()
        writing.cancel()
        await let_run()
        closing = asyncio.create_task(file.close())
        await let_run()
        closing.cancel()
        await let_run()
        assert closing.cancelled()
        assert not file.closed
        await gate.open()
        # Closing happens once the write has ended; another close waits for that.
        await file.close()
        assert file.closed

    run(main())
    assert path.read_text() == "x" * 200_000


def test_opening_for_a_cancelled_task_leaks_nothing(run, tmp_path, count_calls):
    async def main():
        count_calls()
        before = open_descriptors()
        gate = Gate()
        opening = asyncio.ensure_future(offloop.open(tmp_path / "new", "w"))
        await let_run()
        opening.cancel()
        await let_run()
        assert opening.cancelled()
        await gate.open()
        await calls_have_ended()
        await let_run()
        await calls_have_ended()
        assert open_descriptors() <= before

    run(main())


def test_no_descriptor_is_leaked(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"text")

    async def main():
        async def use():
            async with offloop.open(path, "rb") as file:
                await file.read()
            async with offloop.open(path, "w") as file:
                await file.write("text")
            await offloop.read_file(path)
            for wrong in (tmp_path / "missing", tmp_path):
                with pytest.raises(OSError):
                    await offloop.open(wrong)
                with pytest.raises(OSError):
                    await offloop.read_file(wrong)
            with pytest.raises(LookupError):
                await offloop.open(path, encoding="no such encoding")
            with pytest.raises(ValueError):
                await offloop.open(path, newline="x")

        await use()
        before = open_descriptors()
        for _ in range(300):
            await use()
        # Fewer, if what an earlier test left was closed meanwhile.
        assert open_descriptors() <= before

    run(main())


def test_a_file_that_was_not_closed_warns_and_keeps_what_was_written(run, tmp_path):
    path = tmp_path / "file"

    async def main():
        file = await offloop.open(path, "w")
        await file.write("text")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(main())
        gc.collect()
    unclosed = [warning for warning in caught if warning.category is ResourceWarning]
    assert any("unclosed file" in str(warning.message) for warning in unclosed)
    assert path.read_text() == "text"


def test_a_child_goes_on_with_the_file_of_its_parent(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\nthree\n")
    program = f"""
import asyncio, os, offloop
async def main():
    file = await offloop.open({str(path)!r}, "rb")
    print(await file.readline(), flush=True)
    return file
async def rest(file):
    print([line async for line in file], await offloop.read_file({str(path)!r}), flush=True)
    await file.close()
file = asyncio.run(main())
child = os.fork()
if child == 0:
    asyncio.run(rest(file))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
asyncio.run(rest(file))
"""
    # The parent has read all of it in advance, as a buffered file does, and so has the child.
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    rest = f"{[b'two' + bytes([10]), b'three' + bytes([10])]} {path.read_bytes()}"
    assert done.stdout.splitlines() == [str(b"one\n"), rest, rest]

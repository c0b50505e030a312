"""What is cached is read on the loop's thread, anything else in its executor, with the same bytes.

Where the file system of the tests cannot say what it has cached, everything goes to the executor,
and the counts say so.
"""

import asyncio
import os
import random
import stat
import threading

import pytest

import offloop
from _offloop_worker._offloop import Stage
from gates import run_program
from offloop._files.raw import RawFile

MIB = 1024 * 1024
LARGE = os.urandom(3 * MIB + 17)


def test_small_cached_files_are_read_without_the_executor(run, tmp_path, count_calls, cacheable):
    path = tmp_path / "small"
    path.write_bytes(b"first\nsecond\nthird")

    async def main():
        executor = count_calls()
        async with offloop.open(path, "rb") as file:
            lines = [line async for line in file]
            assert await file.seek(6) == 6
            assert await file.read(6) == b"second"
            assert await file.tell() == 12
        async with offloop.open(path) as file:
            text = await file.readline() + await file.read()
        whole = await offloop.read_file(path), await offloop.read_file(path, encoding="ascii")
        return lines, text, whole, executor.calls

    lines, text, whole, calls = run(main())
    assert lines == [b"first\n", b"second\n", b"third"]
    assert text == "first\nsecond\nthird"
    assert whole == (text.encode(), text)
    assert (calls == 0) is cacheable


def test_what_is_not_cached_is_read_in_the_executor(run, cold, count_calls):
    data = os.urandom(200_000)
    path = cold(data)

    async def main():
        executor = count_calls()
        async with offloop.open(path, "rb") as file:
            first = await file.read(1000)
            assert executor.calls > 0
            return first + await file.read()

    assert run(main()) == data


def test_a_whole_file_that_is_not_cached_is_read_in_the_executor(run, cold, count_calls):
    path = cold(b"text" * 5000)

    async def main():
        executor = count_calls()
        return await offloop.read_file(path), executor.calls

    assert run(main()) == (b"text" * 5000, 1)


def test_lines_of_a_file_that_is_not_cached_are_whole(run, cold):
    lines = [f"{number} " + "x" * (number % 3000) + "\n" for number in range(2000)]
    path = cold("".join(lines).encode())

    async def main():
        async with offloop.open(path, encoding="utf-8") as file:
            return [line async for line in file]

    assert run(main()) == lines


@pytest.mark.parametrize("size", [1, 4096, 65_536, 256 * 1024, 1_000_000, -1])
def test_large_files_are_read_whole_in_pieces_of_any_size(run, tmp_path, size):
    path = tmp_path / "large"
    data = LARGE if size != 1 else LARGE[:3000]
    path.write_bytes(data)

    async def main():
        pieces = []
        async with offloop.open(path, "rb") as file:
            while piece := await file.read(size):
                pieces.append(piece)
        return pieces

    pieces = run(main())
    assert b"".join(pieces) == data
    assert all(len(piece) == size for piece in pieces[:-1])


def test_large_reads_leave_the_loop(run, tmp_path, count_calls):
    path = tmp_path / "large"
    path.write_bytes(LARGE)

    async def main():
        async with offloop.open(path, "rb") as file:
            executor = count_calls()
            assert await file.read(MIB) == LARGE[:MIB]
            assert executor.calls == 1
            assert await file.read() == LARGE[MIB:]
            assert executor.calls == 2

    run(main())


def test_reading_lets_other_callbacks_run(run, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(LARGE)

    async def main():
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        async with offloop.open(path, "rb") as file:
            while await file.read(16 * 1024):
                pass
        of_bytes, turns = turns, 0
        for _ in range(1000):
            await offloop.read_file(tmp_path / "small")
        of_files, turns = turns, 0
        async with offloop.open(tmp_path / "small") as file:
            for _ in range(10_000):
                await file.read(0)
        counting.cancel()
        return of_bytes, of_files, turns

    (tmp_path / "small").write_bytes(b"small")
    of_bytes, of_files, of_operations = run(main())
    assert of_bytes >= len(LARGE) // (256 * 1024)
    assert of_files >= 1000 * 8 // 256
    assert of_operations >= 10_000 * 2 // 256 - 1


def test_writing_goes_to_the_executor_when_its_buffer_is_full(run, tmp_path, count_calls):
    path = tmp_path / "written"

    async def main():
        async with offloop.open(path, "wb") as file:
            executor = count_calls()
            for _ in range(16):
                assert await file.write(b"x" * 4096) == 4096
            assert executor.calls == 0
            assert path.stat().st_size == 0
            await file.write(b"y")
            assert executor.calls == 1
            await file.flush()
            assert path.stat().st_size == 16 * 4096 + 1

    run(main())


WRITTEN = {
    "utf-8": ("utf-8", None, None),
    "with a mark": ("utf-8-sig", None, None),
    "two bytes": ("utf-16", None, "\r\n"),
    "shifts": ("iso2022_jp", "replace", None),
    "long replacements": ("ascii", "namereplace", "\r\n"),
    "dropped": ("latin-1", "ignore", ""),
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("buffering", [-1, 100, 9000])
def test_text_is_written_to_the_file_by_the_executor_only(
    run, tmp_path, monkeypatch, count_calls, name, buffering
):
    encoding, errors, newline = WRITTEN[name]
    options = {"encoding": encoding, "errors": errors, "newline": newline}
    writers = set()
    write = RawFile.write

    def noted(raw, data):
        writers.add(threading.get_ident())
        return write(raw, data)

    monkeypatch.setattr(RawFile, "write", noted)
    chance = random.Random(name)
    words = "x" * 50, "ß" * 30, "🎉語" * 20, "\n", "\n" * 70, "y" * 9000, ""
    texts = ["".join(chance.choices(words, k=chance.randrange(1, 9))) for _ in range(400)]

    async def main():
        executor = count_calls()
        async with offloop.open(tmp_path / "ours", "w", buffering, **options) as file:
            for text in texts:
                await (file.write(text) if chance.random() < 0.9 else file.writelines([text, ""]))
        return executor.calls

    calls = run(main())
    assert threading.get_ident() not in writers
    with open(tmp_path / "standard", "w", **options) as file:
        file.writelines(texts)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "standard").read_bytes()
    if buffering == -1:
        # Once in 64 KiB, of which the last text may leave some.
        size = (tmp_path / "ours").stat().st_size
        assert calls <= 4 + 1.8 * size / 65_536


def test_flushing_what_is_empty_needs_no_executor(run, tmp_path, count_calls):
    async def main():
        async with offloop.open(tmp_path / "file", "w") as file:
            executor = count_calls()
            await file.flush()
            await file.write("x")
            assert executor.calls == 0
            for _ in range(3):
                await file.flush()
            return executor.calls

    assert run(main()) == 1


def test_sparse_files_are_read_as_zeros(run, tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(2 * MIB)
        file.write(b"start")
        file.seek(2 * MIB)
        file.write(b"end")

    async def main():
        async with offloop.open(path, "rb") as file:
            start = await file.read(8)
            await file.seek(-6, os.SEEK_END)
            return start, await file.read(), len(await offloop.read_file(path))

    assert run(main()) == (b"start\0\0\0", b"\0\0\0end", 2 * MIB + 3)


def test_a_file_that_grows_is_read_on(run, tmp_path):
    path = tmp_path / "log"
    path.write_text("one\n")

    async def main():
        seen = []
        async with offloop.open(path) as file:
            for line in ("two\n", "three\n", "x" * 300_000 + "\n", ""):
                seen.append(await file.readline())
                assert await file.readline() == ""
                with path.open("a") as log:
                    log.write(line)
        return seen, await offloop.read_file(path, encoding="ascii")

    seen, whole = run(main())
    assert seen == ["one\n", "two\n", "three\n", "x" * 300_000 + "\n"]
    assert whole == "".join(seen)


@pytest.mark.parametrize(
    "path", ["/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"]
)
def test_files_that_the_kernel_makes_up_are_read(run, path):
    async def main():
        async with offloop.open(path) as file:
            return await file.readline(), await offloop.read_file(path)

    line, whole = run(main())
    assert line
    assert whole.decode().startswith(line[:5])


def test_devices_are_opened_by_the_executor(run, count_calls):
    async def main():
        executor = count_calls()
        async with offloop.open("/dev/zero", "rb") as file:
            assert await file.read(5) == b"\0" * 5
        async with offloop.open("/dev/null", "rb") as file:
            assert await file.read() == b""
        return executor.calls

    assert run(main()) >= 4


def test_a_fifo_blocks_neither_when_opened_nor_when_read(run, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)

    async def main():
        opening = asyncio.ensure_future(offloop.open(path, encoding="utf-8"))
        done, _ = await asyncio.wait([opening], timeout=0.05)
        assert not done
        writer = await asyncio.to_thread(os.open, path, os.O_WRONLY)
        file = await opening
        assert stat.S_ISFIFO(os.fstat(file.fileno()).st_mode)
        reading = asyncio.create_task(file.readline())
        done, _ = await asyncio.wait([reading], timeout=0.05)
        assert not done
        os.write(writer, b"line\nabc")
        assert await reading == "line\n"
        assert await file.read(3) == "abc"
        os.close(writer)
        assert await file.read() == ""
        await file.close()

    run(main())


def test_loops_in_several_threads_read_at_once(tmp_path):
    path = tmp_path / "shared"
    path.write_bytes(LARGE)
    results = []

    async def main():
        async with offloop.open(path, "rb") as file:
            return b"".join([piece async for piece in file])

    def work():
        results.append(asyncio.run(main()) == LARGE)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


QUESTIONS = """
import asyncio, errno, os, sys
import offloop
from forbidden import forbid
path = sys.argv[1]
forbid(sys.argv[2], errno.EPERM)
async def main():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        async with offloop.open(path) as file:
            print(await file.readline(), end="")
            await file.seek(0)
            print(await file.read(), end="")
        print(await offloop.read_file(path))
    assert len(os.listdir("/proc/self/fd")) == before
asyncio.run(main())
"""


@pytest.mark.parametrize("question", ["statx", "fstatfs"])
def test_files_that_may_not_be_asked_about_are_read_nevertheless(tmp_path, question):
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\n")
    ended = run_program(tmp_path, QUESTIONS, str(path), question)
    assert ended.stdout == ("one\none\ntwo\n" + f"{path.read_bytes()}\n") * 2, ended.stderr


def test_staged_bytes_go_only_into_memory_that_may_be_written(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb", buffering=0) as file:
        stage = Stage(file.fileno())
        stage.wait(10)
        whole = bytearray(10)
        constant = bytes(10)
        for refused in (constant, memoryview(whole)[::2]):
            with pytest.raises(BufferError):
                stage.take_into(refused)
        assert (constant, whole) == (bytes(10), bytes(10))
        assert stage.take_into(memoryview(whole)[2:6]) == 4
        assert whole == b"\0\0000123\0\0\0\0"

"""Arguments, errors and attributes: those of the built-in ``open``, on every loop."""

import asyncio
import builtins
import os
import sys
from pathlib import Path

import pytest

import offloop

WRONG = [
    ({"mode": "rw"}, ValueError),
    ({"mode": "rr"}, ValueError),
    ({"mode": "q"}, ValueError),
    ({"mode": ""}, ValueError),
    ({"mode": "tb"}, ValueError),
    ({"mode": 3}, TypeError),
    ({"mode": "rb", "encoding": "utf-8"}, ValueError),
    ({"mode": "rb", "errors": "strict"}, ValueError),
    ({"mode": "rb", "newline": ""}, ValueError),
    ({"buffering": 0}, ValueError),
    ({"buffering": "x"}, TypeError),
    ({"buffering": 1 << 31}, OverflowError),
    ({"mode": "wb", "buffering": 1 << 70}, OverflowError),
    ({"closefd": False}, ValueError),
    ({"encoding": "no such"}, LookupError),
    ({"newline": "x"}, ValueError),
    ({"encoding": 3}, TypeError),
    ({"mode": "x"}, FileExistsError),
]


@pytest.mark.parametrize(("arguments", "kind"), WRONG, ids=lambda value: str(value))
def test_wrong_arguments_raise_what_the_built_in_function_raises(run, tmp_path, arguments, kind):
    path = tmp_path / "file"
    path.write_text("text")
    with pytest.raises(kind) as expected:
        builtins.open(path, **arguments).close()

    async def main():
        await offloop.open(path, **arguments)

    with pytest.raises(kind) as raised:
        run(main())
    assert str(raised.value) == str(expected.value)
    assert path.read_text() == "text"


@pytest.mark.parametrize("path", ["missing", ".", "a\0b", b"missing", Path("missing")])
@pytest.mark.parametrize("mode", ["r", "rb", "r+", "wb"])
def test_wrong_paths_raise_what_the_built_in_function_raises(run, tmp_path, path, mode):
    if path not in (".", "a\0b"):
        path = os.path.join(os.fsencode(tmp_path) if isinstance(path, bytes) else tmp_path, path)
        mode = mode.replace("wb", "r")
    expected = outcome_of_opening(path, mode)

    async def main():
        await offloop.open(path, mode)

    async def whole():
        await offloop.read_file(path)

    for attempt in (main, whole) if mode == "r" else (main,):
        with pytest.raises(type(expected)) as raised:
            run(attempt())
        assert str(raised.value) == str(expected)
        assert getattr(raised.value, "filename", None) == getattr(expected, "filename", None)


def outcome_of_opening(path, mode):
    with pytest.raises((OSError, ValueError)) as expected:
        builtins.open(path, mode).close()
    return expected.value


def test_no_path_is_a_type_error():
    with pytest.raises(TypeError, match=r"expected str, bytes or os\.PathLike object, not float"):
        offloop.open(3.5)


def test_a_file_knows_what_the_built_in_one_knows(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one\r\ntwo\n")

    async def main():
        with builtins.open(path, encoding="utf-8", newline="") as standard:
            async with offloop.open(path, encoding="utf-8", newline="") as file:
                assert await file.readlines() == standard.readlines()
                for name in ("name", "mode", "encoding", "errors", "newlines", "line_buffering"):
                    assert getattr(file, name) == getattr(standard, name), name
                for name in ("readable", "writable", "seekable", "isatty"):
                    assert getattr(file, name)() == getattr(standard, name)(), name
                assert os.path.samestat(os.fstat(file.fileno()), path.stat())
                assert not os.get_inheritable(file.fileno())
                assert not file.closed
                assert repr(path.name)[1:-1] in repr(file)
        assert file.closed

    async def binary():
        async with offloop.open(path, "rb") as file:
            assert await file.peek(3) >= b"one"
            buffer = bytearray(5)
            assert await file.readinto(buffer) == 5
            assert buffer == b"one\r\n"
            assert await file.read1(2) == b"tw"
            assert await file.read() == b"o\n"
            assert await file.read() == b""
            assert file.mode == "rb"
            with pytest.raises(AttributeError):
                file.encoding
        async with offloop.open(path) as file:
            with pytest.raises(AttributeError):
                await file.read1()

    run(main())
    run(binary())


def test_a_closed_file_says_so(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"text")

    async def main():
        for mode in ("r", "rb", "w", "wb", "r+"):
            file = await offloop.open(path, mode)
            await file.close()
            await file.close()
            assert file.closed
            calls = [(file.tell,), (file.flush,), (file.seek, 0)]
            if "w" in mode:
                calls.append((file.write, b"x" if "b" in mode else "x"))
            else:
                calls += [(file.read,), (file.readline,), (file.readlines,)]
            for call, *arguments in calls:
                with pytest.raises(ValueError, match="closed"):
                    await call(*arguments)
            with pytest.raises(ValueError):
                async for _ in file:
                    pass

    run(main())


def test_an_awaited_file_is_a_context_manager_too(run, tmp_path):
    async def main():
        async with await offloop.open(tmp_path / "file", "w") as file:
            assert await file.write("text") == 4
            await file.writelines(["a\n", "b\n"])
        assert file.closed

    run(main())
    assert (tmp_path / "file").read_text() == "texta\nb\n"


def test_an_opener_and_a_descriptor_can_be_given(run, tmp_path):
    path = tmp_path / "file"

    async def main():
        def opener(name, flags):
            return os.open(name, flags | os.O_APPEND, 0o600)

        async with offloop.open(path, "w", opener=opener) as file:
            await file.write("one ")
        fd = os.open(path, os.O_RDWR)
        async with offloop.open(fd, "rb", closefd=False) as file:
            assert await file.read() == b"one "
        async with offloop.open(fd, "wb") as file:
            await file.write(b"two")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        assert await offloop.read_file(path) == b"one two"

    run(main())
    assert path.stat().st_mode & 0o777 == 0o600


class Number:
    """An object that stands for a number."""

    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number


@pytest.mark.parametrize("buffering", [-1, 0, 1, 100])
def test_objects_that_stand_for_numbers_are_taken_for_them(run, tmp_path, buffering):
    path = tmp_path / "file"

    async def main():
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        async with offloop.open(Number(fd), "w", Number(abs(buffering))) as file:
            await file.write("one\ntwo\n")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        mode = "rb" if buffering == 0 else "r"
        async with offloop.open(path, mode, buffering=Number(buffering)) as file:
            return await file.readline(), await offloop.read_file(Number(os.dup(file.fileno())))

    if buffering == 0:
        with pytest.raises(ValueError, match="can't have unbuffered text I/O"):
            run(main())
        return
    line, rest = run(main())
    assert (line, rest) in (("one\n", b""), ("one\n", b"one\ntwo\n"))


def test_a_full_disk_is_reported_and_the_file_closed(run):
    async def main():
        file = await offloop.open("/dev/full", "wb")
        await file.write(b"x")
        with pytest.raises(OSError, match="No space left on device"):
            await file.flush()
        with pytest.raises(OSError, match="No space left on device"):
            await file.close()
        assert file.closed
        with pytest.raises(OSError, match="No space left on device"):
            await offloop.write_file("/dev/full", b"x")

    run(main())


@pytest.mark.parametrize("text", ["", "plain", "ß\r\nline\rend\n", "🎉" * 1000])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig", "locale"])
def test_whole_files_are_written_and_read(run, tmp_path, text, encoding):
    path = tmp_path / "file"

    async def main():
        await offloop.write_file(path, "longer than what comes" * 1000, encoding=encoding)
        await offloop.write_file(path, text, encoding=encoding)
        with builtins.open(path, encoding=encoding) as file:
            expected = file.read()
        assert await offloop.read_file(path, encoding=encoding) == expected
        with builtins.open(path, "rb") as file:
            assert await offloop.read_file(path) == file.read()

    run(main())


def test_whole_files_refuse_what_open_refuses(run, tmp_path):
    path = tmp_path / "file"

    async def main():
        await offloop.write_file(path, bytearray(b"\xff\xfe"))
        with pytest.raises(UnicodeDecodeError):
            await offloop.read_file(path, encoding="utf-8")
        assert await offloop.read_file(path, encoding="utf-8", errors="ignore") == ""
        with pytest.raises(LookupError):
            await offloop.read_file(path, encoding="no such")
        for data, encoding in (("text", None), (b"bytes", "utf-8")):
            with pytest.raises(TypeError, match="text is written with an encoding"):
                await offloop.write_file(path, data, encoding=encoding)
        with pytest.raises(TypeError):
            await offloop.write_file(path, 3)

    run(main())


def test_opening_is_audited_as_the_built_in_function_is():
    opened = []

    def hook(event, arguments):
        if event == "open" and str(arguments[0]).endswith("/self/comm"):
            opened.append(arguments[1])

    async def main():
        async with offloop.open("/proc/self/comm"):
            pass
        await offloop.read_file("/proc/self/comm")

    sys.addaudithook(hook)
    asyncio.run(main())
    assert len(opened) >= 2

"""Writes that fail: the data of a call that raised is not written later, and none is written twice.

The size of files is limited in a process of its own, at random places, and random operations are
applied to an async file and to a built-in one.
"""

import contextlib
import os

import pytest

import offloop
from gates import run_program

BINARY = """
import asyncio, builtins, random, resource, sys
from pathlib import Path
import offloop

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def outcome(call):
    try:
        result = call()
        return await result if hasattr(result, "__await__") else result
    except OSError as error:
        return error.errno

async def compare(seed):
    chance = random.Random(seed)
    paths = folder / "ours", folder / "standard"
    buffering = chance.choice([0, 100, 4096, 20_000])
    limits = None
    with builtins.open(paths[1], "wb", buffering) as standard:
        ours = await offloop.open(paths[0], "wb", buffering)
        log = []
        for number in range(60):
            if chance.random() < 0.3:
                limits = None if limits is not None else paths[1].stat().st_size + chance.choice(
                    [0, 10, 5000])
                limit(resource.RLIM_INFINITY if limits is None else limits)
            name = chance.choice(["write"] * 6 + ["writelines", "flush", "tell", "seek"])
            data = bytes([33 + number]) * chance.choice([1, 90, 1500, 4096, 9000, 70_000])
            arguments = {
                "write": (data,), "writelines": ([data, b"\\n"],), "seek": (0, 2),
            }.get(name, ())
            expected = await outcome(lambda: getattr(standard, name)(*arguments))
            result = await outcome(lambda: getattr(ours, name)(*arguments))
            log.append((name, len(data), limits, expected))
            assert result == expected, (seed, buffering, result, log)
        limit(resource.RLIM_INFINITY)
        await ours.close()
    same = paths[0].read_bytes() == paths[1].read_bytes()
    assert same, (seed, buffering, log)

folder = Path(sys.argv[1])
for seed in range(200):
    asyncio.run(compare(seed))
print("done")
"""

TEXT = """
import asyncio, random, resource, sys
from pathlib import Path
import offloop

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def fail_at_random(seed):
    chance = random.Random(seed)
    path = folder / "text"
    newline = chance.choice([None, "", "\\r\\n"])
    encoding = chance.choice(["utf-8", "latin-1", "utf-16", "utf-8-sig"])
    buffering = chance.choice([-1, 20_000])
    written, failed = [], 0
    file = await offloop.open(path, "w", buffering, encoding=encoding, newline=newline)
    for number in range(300):
        if chance.random() < 0.1:
            limit(path.stat().st_size + chance.choice([0, 10, 30_000]))
        elif chance.random() < 0.1:
            limit(resource.RLIM_INFINITY)
        text = f"{number} " + chance.choice("x\\xdf") * chance.choice([1, 90, 1500]) + "\\n"
        try:
            await file.write(text)
            written.append(text)
        except OSError:
            failed += 1
    limit(resource.RLIM_INFINITY)
    await file.close()
    with open(path, encoding=encoding, newline="" if newline != "\\r\\n" else None) as result:
        assert result.read() == "".join(written), (seed, failed)
    return failed

folder = Path(sys.argv[1])
print("done", sum(asyncio.run(fail_at_random(seed)) for seed in range(40)))
"""


def test_binary_files_fail_as_the_built_in_ones_do(tmp_path):
    ended = run_program(tmp_path, BINARY, str(tmp_path))
    assert ended.stdout == "done\n", ended.stderr


def test_text_of_a_write_that_raised_is_not_written(tmp_path):
    ended = run_program(tmp_path, TEXT, str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    done, failed = ended.stdout.split()
    assert (done, int(failed) > 100) == ("done", True)


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_writes_that_fail_are_not_kept(run, mode):
    data = b"x" * 100_000 if "b" in mode else "x" * 100_000

    async def main():
        file = await offloop.open("/dev/full", mode)
        for _ in range(5):
            with pytest.raises(OSError, match="No space left on device"):
                await file.write(data)
        # Nothing is left to be written.
        await file.flush()
        await file.close()

    run(main())


def test_unbuffered_files_write_and_fail_as_the_built_in_ones_do(run, tmp_path):
    path = tmp_path / "file"

    async def main():
        async with offloop.open(path, "wb", buffering=0) as file:
            for wrong in (5, [1, 2], "text", None):
                with pytest.raises(TypeError, match="a bytes-like object is required"):
                    await file.write(wrong)
        full = await offloop.open("/dev/full", "wb", buffering=0)
        with pytest.raises(OSError, match="No space left on device"):
            await full.write(b"x")
        # Nothing is left to be written.
        await full.close()

    run(main())
    assert path.read_bytes() == b""


def test_a_full_pipe_that_does_not_block_takes_nothing_twice(run):
    async def main():
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        async with offloop.open(writer, "wb", buffering=0, closefd=False) as file:
            while await file.write(b"x" * 4096) is not None:
                pass
        written = 0
        file = await offloop.open(writer, "wb", buffering=8192)
        for _ in range(5):
            try:
                written += await file.write(b"y" * 5000)
            except BlockingIOError as error:
                written += error.characters_written
        os.set_blocking(reader, False)
        with contextlib.suppress(BlockingIOError):
            while set(os.read(reader, 65536)) == set(b"x"):
                pass
        await file.close()
        rest = os.read(reader, 65536)
        os.close(reader)
        return written, rest

    written, rest = run(main())
    assert rest == b"y" * written

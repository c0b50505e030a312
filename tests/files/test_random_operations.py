"""Random operations on an async file and on the built-in one: the same results, the same bytes."""

import asyncio
import builtins
import io
import random
import sys

import pytest
from page_cache import drop_from_cache

import offloop

SEEDS = 12
OPERATIONS = 60
TEXT = (
    "plain Grüße 🎉\n",
    "line\n",
    "\r\n",
    "\r",
    "no end",
    "",
    "ß" * 40,
    "x" * 9000,
    "\n\n",
    "\x00",
)
TEXT_MODES = "r", "w", "a", "x", "r+", "w+", "a+", "rt"
if sys.version_info < (3, 12):
    # What a built-in file gives that is read and written in turns depends on the size of its buffer
    # there, which is not ours.
    TEXT_MODES = tuple(mode for mode in TEXT_MODES if "+" not in mode)
BINARY_MODES = "rb", "wb", "ab", "xb", "r+b", "w+b", "a+b", "rb+"
NEWLINES = None, "", "\n", "\r", "\r\n"
NAMES = (
    *("read", "readline", "write", "writelines", "seek", "tell", "truncate", "flush"),
    *("read", "readline", "readlines", "tell", "read1", "readinto", "end"),
)
ENCODINGS = "utf-8", "utf-16", "utf-8-sig", "latin-1", "ascii", "shift_jis"
ERRORS = None, "strict", "replace", "ignore", "surrogateescape", "backslashreplace"


class Both:
    """The two files, and what they told of their positions."""

    def __init__(self, ours, standard, chance):
        self.ours = ours
        self.standard = standard
        self.chance = chance
        self.binary = not isinstance(standard, io.TextIOWrapper)
        self.positions = [(0, 0)]
        self.log = []

    async def apply(self, name, ours_arguments, standard_arguments=None):
        """Call the same method of both and compare what becomes of it."""
        if standard_arguments is None:
            standard_arguments = ours_arguments
        self.log.append((name, standard_arguments))
        expected = outcome(lambda: getattr(self.standard, name)(*standard_arguments))
        try:
            result = ("returned", await getattr(self.ours, name)(*ours_arguments))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            result = raised(error)
        if name == "tell" and result[0] == expected[0] == "returned":
            self.positions.append((result[1], expected[1]))
        if name not in ("tell", "seek") or result[0] == "raised" or self.binary:
            assert result == expected, self.log[-8:]

    async def step(self, data):
        """Apply one operation, chosen by chance."""
        size = self.chance.choice([-1, 0, 1, 5, 100, 5000, 300_000, None])
        name = self.chance.choice(NAMES)
        if name in ("read", "readline"):
            await self.apply(name, (size,))
        elif name == "readlines":
            await self.apply(name, (self.chance.choice([-1, 10, 10_000]),))
        elif name == "read1" and self.binary:
            # How much one call gives depends on the buffers; not what it gives.
            await self.apply(name, (1,))
        elif name == "readinto" and self.binary:
            await self.readinto(self.chance.choice([0, 1, 700, 20_000]))
        elif name == "write":
            await self.apply(name, (data(),))
        elif name == "writelines":
            await self.apply(name, ([data() for _ in range(self.chance.randrange(4))],))
        elif name == "seek":
            ours, standard = self.chance.choice(self.positions)
            await self.apply(name, (ours,), (standard,))
        elif name == "end":
            await self.apply("seek", (0, 2))
        elif name == "truncate":
            await self.apply(name, (self.chance.choice([None, 0, 10, 20_000]),))
        elif name in ("tell", "flush"):
            await self.apply(name, ())

    async def readinto(self, size):
        """Fill a buffer from both."""
        ours, standard = bytearray(size), bytearray(size)
        await self.apply("readinto", (ours,), (standard,))
        assert ours == standard


def raised(error):
    """What is compared of an exception."""
    return "raised", type(error), str(error).replace("RawFile", "_io.FileIO")


def outcome(call):
    """What a call returns or raises."""
    try:
        return "returned", call()
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return raised(error)


async def compare(chance, paths, mode, options, data, before):
    """Open both, apply random operations, close both, and compare the files."""
    for path in paths:
        if "x" in mode:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(before)
            if chance.random() < 0.3:
                drop_from_cache(path)
    with builtins.open(paths[1], mode, **options) as standard:
        ours = await offloop.open(paths[0], mode, **options)
        both = Both(ours, standard, chance)
        for _ in range(OPERATIONS):
            await both.step(data)
        await both.apply("close", ())
        assert ours.closed
        await both.apply("read", ())
    assert paths[0].read_bytes() == paths[1].read_bytes(), both.log[-8:]


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("mode", TEXT_MODES)
def test_text_files_do_what_the_built_in_ones_do(tmp_path, mode, seed):
    chance = random.Random(f"{mode} {seed}")
    paths = tmp_path / "ours", tmp_path / "standard"
    encoding = chance.choice(ENCODINGS)

    def data():
        return "".join(chance.choice(TEXT) for _ in range(chance.choice([1, 1, 3, 30])))

    before = "".join(data() for _ in range(chance.choice([0, 3, 30])))
    options = {
        "encoding": encoding,
        "errors": chance.choice(ERRORS),
        "newline": chance.choice(NEWLINES),
        "buffering": chance.choice([-1, -1, 1, 2, 100, 20_000]),
    }
    # What the encoding cannot say stays out of the file, or is in it to be met.
    bytes_before = before.encode(encoding if chance.random() < 0.8 else "utf-8", "ignore")
    asyncio.run(compare(chance, paths, mode, options, data, bytes_before))


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("mode", BINARY_MODES)
def test_binary_files_do_what_the_built_in_ones_do(tmp_path, mode, seed):
    chance = random.Random(f"{mode} {seed}")
    paths = tmp_path / "ours", tmp_path / "standard"

    def data():
        block = chance.randbytes(chance.choice([0, 1, 100, 8192, 70_000]))
        return chance.choice([bytes, bytearray])(block + b"\n" * chance.randrange(2))

    before = b"".join(data() for _ in range(chance.choice([0, 3, 30])))
    # Where an appending file stands after a seek depends on when its buffer is written, and the
    # default size of that is ours.
    options = {"buffering": chance.choice([4096, 8192, 0, 2, 100, 20_000])}
    if not mode.startswith("a") and chance.random() < 0.5:
        del options["buffering"]
    asyncio.run(compare(chance, paths, mode, options, data, before))

"""Everything that a stack is made of. What is tried calls ``compare`` from inside of it.

It is compiled once in each process, by the extension, which gives it ``compare``.
"""

CALLS_UNTIL_SPECIALISED = 200

# Given by `stacks.rs`, which runs this.
compare = globals()["compare"]


def plain(call):
    """A frame that Python code called."""
    return [
        1,
        call(),
    ]


def from_c():
    """Frames that C code called, and which it called them from."""
    return sorted([2, 1], key=lambda number: plain(compare) and number)


def with_cells(call):
    """A frame with cells, whose code does not begin with the function's first line."""

    def inner():
        return call()

    inner()


def generator():
    """A frame that is part of a generator."""
    yield compare()
    try:
        raise LookupError
    except LookupError:
        yield from (compare() for _ in range(1))


async def coroutine():
    """A frame that is part of a coroutine."""
    await inner_coroutine()


async def inner_coroutine():
    """Another one, inside of it."""
    compare()


class Größe:
    """Instances are made by a call that the interpreter makes shorter after some time."""

    def __init__(self, turn):
        if turn == CALLS_UNTIL_SPECIALISED - 1:
            compare()

    def 測(self):
        """Two bytes for each character."""
        compare()

    def 𐎠(self):
        """Four."""
        compare()


plain(compare)
plain(from_c)
with_cells(compare)
list(generator())
try:
    coroutine().send(None)
except StopIteration:
    compare()
for turn in range(CALLS_UNTIL_SPECIALISED):
    made = Größe(turn)
made.測()
made.𐎠()

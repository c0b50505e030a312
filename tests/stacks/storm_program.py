"""A program that never stops calling and returning, in every way there is.

Each call between its functions is written as the name of the function that is called, so that the
calls that exist can be found in its source. Nothing here calls anything of the standard library's
that is written in Python.
"""

from marshal import dumps, loads

MADE_COUNT = 211
MADE_LINES = 60


def storm(is_over) -> None:
    """Go on until it is over."""
    number = 0
    while not is_over():
        first(number)
        second(number)
        recursion(number % 97)
        for _ in generator(number % 5):
            first(number)
        drive(coroutine(number % 3))
        made_of_text(number)
        Instance(number)
        from_c(number)
        failing(number)
        number += 1


def first(number: int) -> int:
    """Call and return."""
    total = leaf(number)
    total += other_leaf(number)
    return total


def second(number: int) -> int:
    """The same from other lines, so that frames of the two lie at the same place."""
    total = other_leaf(number)

    total += leaf(number)

    return total


def leaf(number: int) -> int:
    """Calls nothing."""
    return number + 1


def other_leaf(number: int) -> int:
    """Calls nothing, with more variables."""
    double = number * 2
    if double > 4:
        double //= 4
    return double


def recursion(depth: int) -> int:
    """A stack that grows and shrinks."""
    if depth == 0:
        return leaf(depth)
    return recursion(depth - 1)


def generator(count: int):
    """Frames that come and go with their state."""
    for number in range(count):
        yield leaf(number)
    if count:
        yield from generator(count - 1)


async def coroutine(depth: int) -> int:
    """Coroutines that await each other."""
    if depth:
        return await coroutine(depth - 1)
    return leaf(depth)


def drive(one) -> None:
    """Runs a coroutine to its end."""
    try:
        one.send(None)
    except StopIteration:
        leaf(0)


def made_of_text(number: int) -> None:
    """Code that is made, run once and freed, so that the next one lies where it lay."""
    exec(loads(MADE[number % len(MADE)]), {"leaf": leaf})


def source_of(number: int) -> str:
    """A text like the one before, but for its names and for what is on which of its lines."""
    name = f"made_{number}"
    before = "\n" * (number % MADE_LINES) + "leaf(0)\n" * (number % 7)
    body = " leaf(1)\n" * (number % 5 + 1)
    return f"{before}def {name}(leaf):\n{body}{name}(leaf)\n"


MADE = [
    dumps(compile(source_of(number), f"<made {number}>", "exec")) for number in range(MADE_COUNT)
]


class Instance:
    """Made by a call of its class."""

    def __init__(self, number: int) -> None:
        self.number = leaf(number)


def from_c(number: int) -> None:
    """C that calls back."""
    sorted((number, 1), key=leaf)
    list(map(other_leaf, (1, 2)))


def failing(number: int) -> None:
    """Exceptions through several frames."""
    try:
        raising(number)
    except LookupError:
        leaf(number)
    finally:
        other_leaf(number)


def raising(number: int) -> None:
    """Raises."""
    leaf(number)
    raise LookupError

"""Parts of programs under watch: objects that tell if they are touched, lines by their marks."""

import asyncio
from pathlib import Path
from typing import Any

TOUCHED: list[str] = []
"""What was run of the objects below."""

HASHED: list[object] = []
"""What was told apart by code of a task's."""


def line_of(file: str, mark: str) -> int:
    """The line of a source file that ends with a comment."""
    lines = Path(file).read_text().splitlines()
    (number,) = [at for at, line in enumerate(lines, start=1) if line.endswith(f"# {mark}")]
    return number


def _telling(name: str) -> Any:
    def method(self: Any, *args: Any, **keywords: Any) -> Any:
        TOUCHED.append(name)
        raise AssertionError(f"{name} was called")

    return method


class HostileClass(type):
    """A class whose own attributes are code of the program's."""

    for _name in ("__getattribute__", "__instancecheck__", "__subclasscheck__", "__repr__"):
        locals()[_name] = _telling(f"type.{_name}")


SPECIAL = (
    *(
        "__getattr__",
        "__repr__",
        "__str__",
        "__hash__",
        "__eq__",
        "__bool__",
        "__len__",
        "__iter__",
    ),
    *("__format__", "__get__", "__index__", "__int__", "__bytes__", "__fspath__", "__call__"),
)


def hostile_attributes(*names: str) -> dict[str, Any]:
    """The body of a class in which all that is looked at runs code."""
    body: dict[str, Any] = {name: _telling(name) for name in SPECIAL}
    body |= {name: property(_telling(name)) for name in (*names, "__class__", "__dict__")}
    body["__getattribute__"] = _telling("__getattribute__")
    return body


OBJECT_NAMES = ("name", "scope", "path", "_callback", "_route", "_method", "func", "__name__")

Hostile: Any = HostileClass("Hostile", (), hostile_attributes(*OBJECT_NAMES))
"""A class of which nothing can be asked without running its code."""


class HostileText(str):
    """A text with code of the program's."""

    __slots__ = ()
    __hash__ = _telling("str.__hash__")
    __eq__ = _telling("str.__eq__")
    __str__ = _telling("str.__str__")
    __len__ = _telling("str.__len__")


class HostileTask(asyncio.Task):
    """A task with code of the program's wherever facts are read."""

    get_name = _telling("get_name")
    get_coro = _telling("get_coro")
    get_context = _telling("get_context")
    done = _telling("done")
    exception = _telling("exception")
    __repr__ = _telling("Task.__repr__")

    # The interpreter itself puts tasks into sets.

    def __hash__(self) -> int:
        HASHED.append("a task")
        return id(self)

    def __eq__(self, other: object) -> bool:
        HASHED.append(other)
        return self is other

    _coro = property(_telling("_coro"))
    _callbacks = property(_telling("_callbacks"))
    _fut_waiter = property(_telling("_fut_waiter"))
    _source_traceback = property(_telling("_source_traceback"))
    _asyncio_awaited_by = property(_telling("_asyncio_awaited_by"))
    _log_traceback = property(_telling("_log_traceback"))


class Catching:
    """What a task needs of a loop; keeps what the task has it call."""

    def __init__(self) -> None:
        self.called: list[Any] = []

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> None:
        self.called.append(callback)

    def get_debug(self) -> bool:
        return False

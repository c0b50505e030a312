"""What stands for a global that could not be sent."""

from __future__ import annotations

import sys

# Seen by type checkers alone: ``typing`` is not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Unsent", "refuse"]


class Unsent:
    """Stands for a global that could not be sent, and says so wherever it is used."""

    def __init__(self, path: str, reason: str) -> None:
        object.__setattr__(self, "_said", (path, reason))

    def __reduce__(self) -> Any:
        return Unsent, object.__getattribute__(self, "_said")


def refuse(unsent: Unsent, *_arguments: object, **_keywords: object) -> Any:
    """Raise what there is to say about it, naming the function that uses it."""
    path, reason = object.__getattribute__(unsent, "_said")
    user = sys._getframe(1).f_code.co_name
    from _offloop_worker.exceptions import GlobalNotSent

    raise GlobalNotSent(
        f"function {user!r} uses the global {path!r}, which could not be sent to this worker: "
        f"{reason}. Make it inside the function, or in the pool's initializer",
        name=path,
    )


_OPERATIONS = (
    *("getattribute", "setattr", "delattr", "call", "bool", "str", "repr", "format", "hash"),
    *("enter", "exit", "aenter", "aexit", "iter", "next", "aiter", "anext", "await"),
    *("len", "getitem", "setitem", "delitem", "contains", "int", "float", "index"),
    *("eq", "ne", "lt", "le", "gt", "ge", "neg", "pos", "abs", "and", "or", "xor"),
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "mod"),
    *("pow", "matmul"),
)
for _operation in _OPERATIONS:
    setattr(Unsent, f"__{_operation}__", refuse)

"""How the program's ``__main__`` reaches its workers: imported there, or by value, name by name.

A main module that is guarded, or that only defines, is imported by workers, as the standard start
methods do. What cannot be imported without running the program again (an unguarded script, a
notebook, ``-c``) goes by value. The syntax tree decides, once. A pool that is made while the
module's unguarded statements still run decides against an import.

Source: multiprocessing.spawn, whose rules for names and paths these are.
"""

from __future__ import annotations

import ast
import functools
import io
import os
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MODULE_NAMES", "MainModule", "examine", "main_module"]

SOURCE_BYTES_MAX = 8 * 1024 * 1024
"""A longer main module is not read: parsing takes seconds, and programs have none."""


@dataclass(frozen=True)
class MainModule:
    """What workers do about the main module, and what its syntax tree says of its names."""

    is_imported: bool
    reason: str
    name: str | None = None
    path: str | None = None
    file: str = ""
    """Where its source lies."""
    bound: frozenset[str] = frozenset()
    """Names that importing the module binds."""
    rebound: frozenset[str] = frozenset()
    """Names that its guarded part binds, or that a function declares global."""
    stored: frozenset[str] = frozenset()
    """Attributes that its guarded part, or a function, assigns, of whatever object."""
    lines: dict[str, int | None] = field(default_factory=dict)
    """Functions and classes that an import defines, by path: the line, or None for no evidence."""
    literals: dict[str, Any] = field(default_factory=dict)
    """Names, and attributes of classes, that an import binds once, to a constant."""

    def describe(self) -> str:
        """The decision in a line."""
        how = "imported by workers" if self.is_imported else "sent to workers by value"
        return f"main module {how}: {self.reason}"

    @property
    def start(self) -> tuple[str | None, str | None] | None:
        """(name, path) for a worker's import; None when it imports nothing."""
        return (self.name, self.path) if self.is_imported else None


def main_module() -> MainModule:
    """How the main module of this process travels; decided at the first call for each module."""
    main = sys.modules.get("__main__")
    if _decided and _decided[0][0]() is main:
        return _decided[0][1]
    if main is None:
        return _by_value("there is none")
    # The alias of the standard start methods: what a worker imported has this name.
    sys.modules["__mp_main__"] = main
    decided = _decide(main)
    # Not the module itself: it must end with the program, and its globals with it.
    _decided[:] = [(weakref.ref(main), decided)]
    return decided


_decided: list[tuple[weakref.ref[Any], MainModule]] = []


def _decide(main: Any) -> MainModule:
    spec = getattr(main, "__spec__", None)
    name: str | None = getattr(spec, "name", None)
    path: str | None = getattr(main, "__file__", None)
    if name is not None:
        if name == "__main__" or name.endswith(".__main__"):
            return _by_value(f"{name} is run as a package, a folder or an archive")
        decided = examine(getattr(spec, "origin", None), name)
    else:
        decided = examine(path, None)
    if decided.is_imported:
        line = _unguarded_line(main, decided)
        if line is not None:
            return _by_value(f"its line {line}, outside of the guard, uses a pool")
    return decided


def _by_value(reason: str) -> MainModule:
    return MainModule(is_imported=False, reason=reason)


def examine(path: str | None, name: str | None) -> MainModule:
    """Decide about a main module in a file by its syntax tree."""
    if path is None:
        return _by_value("it has no file")
    if not path.endswith((".py", ".pyw")) and name is None and not _is_text(path):
        return _by_value("its source cannot be read")
    if os.path.splitext(os.path.basename(path))[0] in ("ipython", "__main__"):
        return _by_value("it is not a module of its own")
    tree = _parse(path)
    if tree is None:
        return _by_value("its source cannot be read")
    guards = [statement for statement in tree.body if _is_guard(statement)]
    if not guards:
        running = next((node for node in tree.body if not _defines(node)), None)
        if running is not None:
            return _by_value(f"its line {running.lineno} runs without a guard")
    reason = f"guarded in line {guards[0].lineno}" if guards else "it only defines"
    imported = [statement for statement in tree.body if not _is_guard(statement)]
    bound: dict[str, int] = {}
    for bound_name in _bindings(imported):
        bound[bound_name] = bound.get(bound_name, 0) + 1
    guarded = [
        node
        for guard in guards
        if isinstance(guard, ast.If)
        for node in (guard.orelse if _is_negated(guard) else guard.body)
    ]
    otherwise = [
        node
        for guard in guards
        if isinstance(guard, ast.If)
        for node in (guard.body if _is_negated(guard) else guard.orelse)
    ]
    for bound_name in _bindings(otherwise):
        bound[bound_name] = bound.get(bound_name, 0) + 1
    rebound = frozenset((*_bindings(guarded), *_declared_global(tree)))
    stored = frozenset(
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load)
    )
    once = {bound_name for bound_name, count in bound.items() if count == 1}
    return MainModule(
        is_imported=True,
        reason=reason,
        name=name,
        path=None if name is not None else os.path.abspath(path),
        file=os.path.abspath(path),
        bound=frozenset(bound) | MODULE_NAMES,
        rebound=rebound,
        stored=stored,
        lines=dict(_definitions(imported, "")),
        literals=dict(_literals(imported, once, "")),
    )


MODULE_NAMES = frozenset(
    (
        *("__name__", "__file__", "__spec__", "__loader__", "__package__", "__cached__"),
        *("__doc__", "__builtins__", "__annotations__", "__annotate__"),
        "__conditional_annotations__",
    )
)
"""Names that every module has, each its own."""


def _is_text(path: str) -> bool:
    try:
        with io.open_code(os.path.abspath(path)) as file:
            return b"\0" not in file.read(1024)
    except OSError:
        return False


@functools.lru_cache(maxsize=4)
def _parse(path: str) -> ast.Module | None:
    try:
        with io.open_code(os.path.abspath(path)) as file:
            source = file.read(SOURCE_BYTES_MAX + 1)
    except OSError:
        return None
    if len(source) > SOURCE_BYTES_MAX:
        return None
    try:
        return ast.parse(source, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # Such as a program that was changed on the disk since it was started.
        return None


def _is_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and _asks_for_main(statement.test, (ast.Eq, ast.NotEq))


def _is_negated(guard: ast.If) -> bool:
    return _asks_for_main(guard.test, (ast.NotEq,))


def _asks_for_main(test: ast.expr, operations: tuple[type[ast.cmpop], ...]) -> bool:
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return any(_asks_for_main(part, operations) for part in test.values)
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return False
    sides = (test.left, test.comparators[0])
    names = [side.id for side in sides if isinstance(side, ast.Name)]
    texts = [side.value for side in sides if isinstance(side, ast.Constant)]
    return isinstance(test.ops[0], operations) and names == ["__name__"] and texts == ["__main__"]


def _defines(node: ast.stmt) -> bool:
    """Whether a statement of the module defines something, and calls nothing to do so."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return True
    if (
        isinstance(node, (ast.Import, ast.ImportFrom, ast.Pass))
        or type(node).__name__ == "TypeAlias"
    ):
        return True
    if isinstance(node, (ast.If, ast.Try)):
        inner = [*node.body, *node.orelse]
        if isinstance(node, ast.Try):
            inner += [line for handler in node.handlers for line in handler.body]
            inner += node.finalbody
        return all(_defines(line) for line in inner)
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr)):
        calls = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom)
        return not any(isinstance(part, calls) for part in ast.walk(node))
    return False


def _bindings(body: list[ast.stmt]) -> Iterator[str]:
    """Every name that statements bind in the module's own scope."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
            waiting.extend(node.decorator_list)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0]
        elif isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                yield node.id
        elif isinstance(node, ast.Lambda):
            continue
        else:
            bound = getattr(node, "name", None) or getattr(node, "rest", None)
            if isinstance(bound, str):
                yield bound
            waiting.extend(ast.iter_child_nodes(node))


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, int | None]]:
    """Functions and classes; decorators, bases and metaclasses may put anything in their place."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{prefix}{node.name}", None if node.decorator_list else node.lineno
        elif isinstance(node, ast.ClassDef):
            path = f"{prefix}{node.name}"
            is_plain = not (node.decorator_list or node.bases or node.keywords)
            yield path, node.lineno if is_plain else None
            yield from _definitions(node.body, f"{path}.")
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            inner = [*node.body, *getattr(node, "orelse", ()), *getattr(node, "finalbody", ())]
            inner += [line for handler in getattr(node, "handlers", ()) for line in handler.body]
            yield from _definitions(inner, prefix)


def _declared_global(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from node.names


def _literals(body: list[ast.stmt], once: set[str], prefix: str) -> Iterator[tuple[str, Any]]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not prefix and node.name in once:
            counts: dict[str, int] = {}
            for bound in _bindings(node.body):
                counts[bound] = counts.get(bound, 0) + 1
            single = {bound for bound, count in counts.items() if count == 1}
            yield from _literals(node.body, single, f"{node.name}.")
            continue
        target, value = _assignment(node)
        if target in once and value is not None:
            try:
                yield f"{prefix}{target}", ast.literal_eval(value)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                continue


def _assignment(node: ast.stmt) -> tuple[str, ast.expr | None]:
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target: ast.expr = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    else:
        return "", None
    return (target.id, node.value) if isinstance(target, ast.Name) else ("", None)


def _unguarded_line(main: Any, decided: MainModule) -> int | None:
    """The line of the main module that runs now, if an import would run it as well."""
    file = decided.path or getattr(getattr(main, "__spec__", None), "origin", None)
    tree = _parse(file) if file is not None else None
    guards = [] if tree is None else [node for node in tree.body if _is_guard(node)]
    for frame in sys._current_frames().values():
        inner: Any = frame
        while inner is not None:
            if inner.f_globals is main.__dict__ and inner.f_code.co_name == "<module>":
                line = inner.f_lineno
                inside = any(node.lineno <= line <= (node.end_lineno or line) for node in guards)
                return None if inside or line is None else line
            inner = inner.f_back
    return None

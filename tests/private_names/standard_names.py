"""What a private name of the standard library is, in the running Python.

A function is told by its signature, with the defaults that are objects of a class of its own left
out; anything else by one word. What constructors assign is found in the source of the class.
"""

import ast
import importlib
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ABSENT = "absent"
ATTRIBUTE = "attribute"

ROOTS = (
    "asyncio",
    "concurrent.futures",
    "enum",
    "functools",
    "multiprocessing",
    "os",
    "pickle",
    "socket",
    "ssl",
    "subprocess",
    "threading",
)
"""Modules and packages whose private names we might use."""

ROUTINES = (types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType)
SHOWN_DEFAULTS = (bool, int, float, str, types.NoneType)


def find(owner: str) -> Any:
    """The module or class with a dotted name; raises ``LookupError`` if there is none."""
    parts = owner.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                raise LookupError(owner)
            found = getattr(found, part)
        return found
    raise LookupError(owner)


def describe(owner: str, name: str) -> str:
    """Return what a name is: a signature, ``"class"``, ``"module"``, an attribute, or absent."""
    try:
        home = find(owner)
        return describe_object(getattr(home, name))
    except LookupError:
        return ABSENT
    except AttributeError:
        is_assigned = isinstance(home, type) and name in assigned_by(home)
        return ATTRIBUTE if is_assigned else ABSENT


def describe_object(found: Any) -> str:
    """Return what an object is, as in the table."""
    if isinstance(found, type):
        return "class"
    if isinstance(found, types.ModuleType):
        return "module"
    if not isinstance(found, ROUTINES):
        return ATTRIBUTE
    try:
        text = shown_signature(inspect.signature(found))
    except ValueError:
        return "callable"
    return f"async {text}" if inspect.iscoroutinefunction(found) else text


def shown_signature(signature: inspect.Signature) -> str:
    """Return a signature without annotations, and without addresses in it."""
    parameters = [
        parameter.replace(
            annotation=inspect.Parameter.empty,
            default=parameter.default
            if parameter.default is inspect.Parameter.empty
            or type(parameter.default) in SHOWN_DEFAULTS
            else ...,
        )
        for parameter in signature.parameters.values()
    ]
    empty = inspect.Signature.empty
    text = str(signature.replace(parameters=parameters, return_annotation=empty))
    return text.replace("Ellipsis", "...")


@cache
def assigned_by(cls: type) -> frozenset[str]:
    """The attributes that methods of a class and of its bases assign to ``self``."""
    names: set[str] = set()
    for base in cls.__mro__:
        try:
            source = inspect.getsource(base)
        except (OSError, TypeError):
            # In C, with nothing to read.
            continue
        names.update(stored_attributes(ast.parse(textwrap.dedent(source))))
    return frozenset(names)


def stored_attributes(tree: ast.AST) -> Iterator[str]:
    """Every ``x.name`` of a tree that something is assigned to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def is_private(name: str) -> bool:
    """Whether a name is private by the convention, and none of the language's own."""
    return name.startswith("_") and name.strip("_").isidentifier() and not name.startswith("__")


@cache
def all_private_names() -> frozenset[str]:
    """Every private name that the modules of ``ROOTS``, and ``sys``, define or assign."""
    names = {name for name in vars(sys) if is_private(name)}
    for root in ROOTS:
        home = Path(inspect.getsourcefile(importlib.import_module(root)) or "")
        files = home.parent.glob("*.py") if home.name == "__init__.py" else [home]
        for file in files:
            names.update(filter(is_private, defined_in(ast.parse(file.read_text()))))
    return frozenset(names)


def defined_in(tree: ast.AST) -> Iterator[str]:
    """Every name that a module defines, imports or assigns, itself or in its classes."""
    yield from stored_attributes(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield from (node.asname or node.name).split(".")
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "").split(".")

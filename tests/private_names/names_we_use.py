"""The private names that offloop's own sources mention, found by the syntax tree.

In Python: attributes, definitions, imports, and strings that are such a name. In Rust: strings that
are such a name, and the methods and properties that a class has in Python.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from standard_names import is_private

ROOT = Path(__file__).parents[2]
PYTHON = [ROOT / "python/offloop", ROOT / "python/_offloop_worker"]
RUST = ROOT / "crates/offloop-python/src"

OF_RUST = re.compile(
    r"""c?"(?P<string>_\w+)["(]"""
    r"|\bfn (?P<function>_\w+)[(<]"
    r"|\b(?:getter|setter)\((?P<property>_\w+)\)"
)


def in_python(tree: ast.AST) -> Iterator[str]:
    """Every name that a module mentions where it might be the standard library's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield from node.name.split(".")
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "").split(".")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            # Of a class, it overrides an attribute.
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def in_rust(source: str) -> Iterator[str]:
    """The same for a Rust source."""
    for match in OF_RUST.finditer(source):
        yield next(filter(None, match.groups()))


def names_we_use() -> dict[str, set[str]]:
    """Private name -> the files that mention it."""
    places: dict[str, set[str]] = {}

    def note(names: Iterator[str], file: Path) -> None:
        for name in filter(is_private, names):
            places.setdefault(name, set()).add(str(file.relative_to(ROOT)))

    for folder in PYTHON:
        for file in folder.rglob("*.py"):
            note(in_python(ast.parse(file.read_text())), file)
    for file in RUST.rglob("*.rs"):
        note(in_rust(file.read_text()), file)
    return places

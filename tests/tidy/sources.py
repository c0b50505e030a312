"""The source files of the project, and what the tidy tests need to know of their text."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("crates", "python", "tests", "examples", "bench", "fuzz", "docs")
LEFT_OUT = {"target", "out", "__pycache__", "corpus", "artifacts"}


@dataclass(frozen=True)
class Function:
    """Where a function stands, and how long it is."""

    path: Path
    name: str
    line: int
    lines: int


def files(*suffixes: str) -> list[Path]:
    """Every file of ours with one of the suffixes, in a stable order."""
    found = [
        path
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in suffixes and not LEFT_OUT & set(path.relative_to(ROOT).parts)
    ]
    return [path for path in found if path.is_file()]


def shown(path: Path) -> str:
    """The path as a person would write it."""
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[Function]:
    """Every function of a Python or Rust file."""
    return python_functions(path) if path.suffix == ".py" else rust_functions(path)


def python_functions(path: Path) -> Iterator[Function]:
    """Functions and methods, with their decorators and bodies."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            yield Function(path, node.name, node.lineno, length)


RUST_FUNCTION = re.compile(
    r"^(\s*)(?:pub(?:\([^)]*\))? )?(?:const |async |unsafe |extern \"C\" )*fn (\w+)"
)


def rust_functions(path: Path) -> Iterator[Function]:
    """Functions with a body: rustfmt closes each with a brace at the indent of its first line."""
    lines = path.read_text().splitlines()
    for index, line in enumerate(lines):
        match = RUST_FUNCTION.match(line)
        if not match or line.rstrip().endswith((";", "}")):
            continue
        for length, later in enumerate(lines[index:], start=1):
            if later.rstrip().endswith(");") and later.startswith(match[1] + ")"):
                break
            if later.rstrip() == match[1] + "}":
                yield Function(path, match[2], index + 1, length)
                break


def rust_code(path: Path, with_tests: bool = True) -> Iterator[tuple[int, str]]:
    """Lines of a Rust file without comments and strings; optionally without its test module."""
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not with_tests and re.match(r"#\[cfg\((?:all\()?test\b", line.strip()):
            return
        yield number, re.sub(r"//.*", "", re.sub(r'"(?:[^"\\]|\\.)*"', '""', line))


DECLARED_IN_RUST = re.compile(
    r"\b(?:fn|struct|enum|trait|type|mod|const(?! (?:fn|unsafe|extern)\b)|(?:let|static)(?: mut)?)"
    r" ([A-Za-z_]\w*)"
)


def words_of(name: str) -> list[str]:
    """The words of a name in either style, in lower case."""
    return re.findall(r"[a-z]+", re.sub(r"([A-Z])", r"_\1", name).lower())


def declared(path: Path) -> Iterator[tuple[int, str]]:
    """Names that a file declares, with their lines."""
    if path.suffix == ".rs":
        for number, line in rust_code(path):
            for match in DECLARED_IN_RUST.finditer(line):
                yield number, match[1]
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg

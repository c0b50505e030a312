"""The prose of the project: comments of Rust, comments and docstrings of Python, and documents.

Names in backticks, links and code are no prose.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

RUST_COMMENT = re.compile(r'^(?:[^"/]|"(?:[^"\\]|\\.)*"|/(?!/))*//[/!]?(.*)')
"""A line of Rust with a comment, which is no part of a string."""

NAMES = re.compile(r"``[^`]*``|`[^`]*`|\]\([^)]*\)|[\w.-]*/[\w./-]*")
"""Code, link targets and paths within prose."""

Line = tuple[int, str]


def prose(path: Path) -> Iterator[Line]:
    """Each line of prose with its number."""
    text = path.read_text()
    kinds = {".rs": rust_prose, ".md": document_prose}
    for number, line in kinds.get(path.suffix, python_prose)(text):
        yield number, NAMES.sub("", line)


def rust_prose(text: str) -> Iterator[Line]:
    """Comments of Rust."""
    for number, line in enumerate(text.splitlines(), start=1):
        if comment := RUST_COMMENT.match(line):
            yield number, comment[1]


def python_prose(text: str) -> Iterator[Line]:
    """Comments, and strings that are statements: docstrings of whatever stands before them."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield from enumerate(str(node.value.value).splitlines(), start=node.lineno)


def document_prose(text: str) -> Iterator[Line]:
    """A document without its blocks of code."""
    is_code = False
    for number, line in enumerate(text.splitlines(), start=1):
        is_fence = line.lstrip().startswith("```")
        is_code ^= is_fence
        if not is_code and not is_fence:
            yield number, line

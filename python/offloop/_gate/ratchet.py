"""The file of stalls that are known: it fails no test for these, and may only shrink.

A stall is known by its file, its function and the text of its line, so it stays known when lines
above it come and go. The file is TOML, one table for each, sorted; a person may edit it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["Known", "read_ratchet", "write_ratchet"]

HEADING = """\
# Stalls of event loops that are known, and fail no test. Written by
#     pytest --offloop-ratchet=FILE --offloop-ratchet-write
# New ones fail. Take out what you have cured.
"""

_NAMES = ("file", "function", "line")


class Known(NamedTuple):
    """A stall, as it is recognised."""

    file: str
    function: str
    line: str

    def __str__(self) -> str:
        return f"{self.file} in {self.function}: {self.line}"


def read_ratchet(path: Path | None, *, missing_ok: bool) -> frozenset[Known]:
    """The stalls of a file.

    Raises:
        ValueError: it cannot be read, or is no such file; in one line.
    """
    if path is None or (missing_ok and not path.exists()):
        return frozenset()
    # Only here: most runs have no such file.
    import tomllib

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    entries = tables.get("stall", [])
    if tables.keys() - {"stall"} or type(entries) is not list:
        raise ValueError(f"{path}: has other things than tables [[stall]]")
    return frozenset(_known(path, number, entry) for number, entry in enumerate(entries, 1))


def _known(path: Path, number: int, entry: object) -> Known:
    if (
        not isinstance(entry, dict)
        or entry.keys() != set(_NAMES)
        or not all(isinstance(text, str) for text in entry.values())
    ):
        raise ValueError(f"{path}: stall {number} does not have texts file, function and line")
    return Known(**entry)


def write_ratchet(path: Path, known: frozenset[Known]) -> None:
    """Write the file anew, whole or not at all."""
    tables = [
        "\n[[stall]]\n"
        + "".join(
            f"{name} = {json.dumps(getattr(each, name), ensure_ascii=False)}\n" for name in _NAMES
        )
        for each in sorted(known)
    ]
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_text(HEADING + "".join(tables), encoding="utf-8")
    beside.replace(path)

"""Finds the line of the program from which something of ours or of the executors was called."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import sys
from dataclasses import dataclass
from pathlib import Path

_OWN_FOLDERS = (
    str(Path(__file__).resolve().parent.parent) + os.sep,
    str(Path(concurrent.futures.__file__).resolve().parent) + os.sep,
)


@dataclass(frozen=True)
class CallSite:
    """A line of the program, and the function it stands in."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{_short(self.file)}:{self.line}"


def calling_line() -> CallSite:
    """The innermost line on this thread's stack that is neither ours nor the executors'."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_own(frame.f_code.co_filename):
        frame = frame.f_back
    return CallSite(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


@functools.lru_cache(maxsize=1024)
def _is_own(filename: str) -> bool:
    return filename.startswith("<frozen") or os.path.realpath(filename).startswith(_OWN_FOLDERS)


def _short(file: str) -> str:
    relative = os.path.relpath(file) if os.path.isabs(file) else file
    return file if relative.startswith("..") else relative

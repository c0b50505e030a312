"""Async files: what the page cache holds is read on the loop, all else in the loop's executor."""

from offloop._files.file import AsyncFile
from offloop._files.opening import open
from offloop._files.whole import read_file, write_file

__all__ = ["AsyncFile", "open", "read_file", "write_file"]

"""Whole files in one call: read at once where they are cached, otherwise in the executor."""

from __future__ import annotations

import asyncio
import builtins
import io
import locale
import os
import sys
from typing import TYPE_CHECKING, overload

from _offloop_worker._offloop import learn_mount, read_cached
from offloop._files.turns import OPENING_BYTES, share

if TYPE_CHECKING:
    from _typeshed import FileDescriptorOrPath, ReadableBuffer

__all__ = ["read_file", "write_file"]


@overload
async def read_file(path: FileDescriptorOrPath, *, encoding: None = None) -> bytes: ...


@overload
async def read_file(
    path: FileDescriptorOrPath, *, encoding: str, errors: str | None = None
) -> str: ...


async def read_file(
    path: FileDescriptorOrPath, *, encoding: str | None = None, errors: str | None = None
) -> bytes | str:
    """Read a whole file, as bytes, or as text if an encoding is given.

    >>> import asyncio, offloop
    >>> asyncio.run(offloop.read_file("/proc/sys/kernel/ostype"))
    b'Linux\\n'

    The text is what ``open(path, encoding=encoding).read()`` gives: any kind of line end is
    ``"\\n"``. A file of up to 256 KiB whose path and data are in the kernel's caches is read on the
    loop's thread, in some microseconds; any other in the loop's default executor. Raises what the
    built-in ``open`` and ``read`` raise. May be called from any thread that runs an asyncio loop.
    """
    if share.is_used_up():
        await share.renew()
    data = None
    if isinstance(path, str) or not hasattr(type(path), "__index__"):
        path = os.fspath(path)  # type: ignore[arg-type]
        sys.audit("open", path, "r", os.O_RDONLY | os.O_CLOEXEC)
        data = read_cached(path)
    if data is None:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, _read, path, encoding, errors)
    share.used += OPENING_BYTES + len(data)
    if encoding is None:
        return data
    return _decoded(data, encoding, errors)


def _decoded(data: bytes, encoding: str, errors: str | None) -> str:
    """Decode bytes as a text file of the standard library does."""
    if encoding == "locale":
        encoding = locale.getencoding()
    text = str(data, encoding, errors or "strict")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _read(path: FileDescriptorOrPath, encoding: str | None, errors: str | None) -> bytes | str:
    """Read a file in a thread that may wait, and see how the next one can be read."""
    with io.FileIO(path) as raw:
        learn_mount(raw.fileno())
        if encoding is None:
            return raw.readall()
        with io.TextIOWrapper(io.BufferedReader(raw), encoding, errors) as text:
            return text.read()


async def write_file(
    path: FileDescriptorOrPath,
    data: str | ReadableBuffer,
    *,
    encoding: str | None = None,
    errors: str | None = None,
) -> None:
    """Write a whole file: bytes, or text if an encoding is given.

    >>> import asyncio, offloop
    >>> asyncio.run(offloop.write_file("/dev/null", "text", encoding="utf-8"))

    The file is made, or emptied first if it is there, as ``open(path, "w")`` does: readers may see
    a part of it meanwhile. For a file that is there as a whole or not at all, write another one and
    ``os.replace`` it. The work is done in the loop's default executor; once begun it is completed,
    even if the awaiting task is cancelled. Raises what the built-in ``open`` and ``write`` raise,
    and ``TypeError`` for text without an encoding. May be called from any thread that runs an
    asyncio loop.
    """
    if isinstance(data, str) == (encoding is None):
        raise TypeError("text is written with an encoding, and bytes without one")
    await asyncio.get_running_loop().run_in_executor(None, _write, path, data, encoding, errors)


def _write(
    path: FileDescriptorOrPath,
    data: str | ReadableBuffer,
    encoding: str | None,
    errors: str | None,
) -> None:
    mode = "wb" if encoding is None else "w"
    with builtins.open(path, mode, encoding=encoding, errors=errors) as file:
        file.write(data)

"""Opening an async file: on the loop's thread where that waits for nothing, or in its executor."""

from __future__ import annotations

import asyncio
import builtins
import functools
import io
import operator
import os
import warnings
from collections.abc import Callable, Generator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, overload

from _offloop_worker._offloop import Stage
from offloop._files.file import AsyncFile
from offloop._files.raw import RawFile
from offloop._files.turns import OPENING_BYTES, share

if TYPE_CHECKING:
    from _typeshed import FileDescriptorOrPath, OpenBinaryMode, OpenTextMode

__all__ = ["OpenedFile", "open"]

T = TypeVar("T", str, bytes)

WRITE_BUFFER_BYTES = 64 * 1024
"""The default buffer for writing: a visit to the executor costs as much as copying this."""


INT_MAX = (1 << 31) - 1
"""Beyond this, the built-in function does not take a size."""


class _Mode(NamedTuple):
    """What a mode says."""

    raw: str
    binary: bool
    reads_only: bool


@functools.lru_cache
def _parsed(mode: str) -> _Mode | None:
    """Take a mode apart; none if the built-in function would refuse it."""
    letters = set(mode)
    if len(letters) != len(mode) or not letters <= set("rwaxbt+"):
        return None
    if len(letters & set("rwax")) != 1 or letters >= {"b", "t"}:
        return None
    raw = "".join(sorted(letters & set("rwax+"), reverse=True))
    return _Mode(raw, "b" in letters, raw == "r")


class OpenedFile(Generic[T]):
    """What ``offloop.open`` returns: to be awaited, or entered with ``async with``."""

    __slots__ = ("_arguments", "_file")

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments
        self._file: AsyncFile[T] | None = None

    def __await__(self) -> Generator[Any, None, AsyncFile[T]]:
        return _open(*self._arguments).__await__()

    async def __aenter__(self) -> AsyncFile[T]:
        self._file = file = await _open(*self._arguments)
        return file

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        file, self._file = self._file, None
        if file is not None:
            await file.close()


_PATHS = str, bytes


async def _open(
    path: FileDescriptorOrPath, mode: str, buffering: int, *others: Any
) -> AsyncFile[Any]:
    encoding, errors, newline, closefd, opener = others
    parsed = _checked(mode, buffering, encoding, errors, newline)
    if parsed is None:
        # The built-in function says what is wrong; it fails before it opens anything.
        refuse: Callable[[], Any] = partial(builtins.open, path, mode, buffering, *others)
        file, raw = await _open_in_executor(refuse)
        return AsyncFile(file, raw, newline)
    by_path = opener is None and closefd and isinstance(path, _PATHS)
    if by_path and parsed.reads_only and buffering != 0:
        if share.is_used_up():
            await share.renew()
        share.used += OPENING_BYTES
        try:
            cached: RawFile | None = RawFile.open_cached(path)  # type: ignore[arg-type]
        except OSError:
            # Not cached, or not there: a thread that may wait finds out.
            cached = None
        if cached is not None:
            file = _wrap(cached, mode, parsed, buffering, encoding, errors, newline)
            return AsyncFile(file, cached, newline)
    job = partial(_open_anywhere, path, mode, parsed, buffering, *others)
    file, raw = await _open_in_executor(job)
    return AsyncFile(file, raw, newline)


def _checked(mode: Any, buffering: Any, *of_text: Any) -> _Mode | None:
    """Take the mode apart; none if the built-in function would refuse these arguments."""
    if not isinstance(mode, str) or not isinstance(buffering, int):
        return None
    parsed = _parsed(mode)
    if not -INT_MAX <= buffering <= INT_MAX:
        return None
    if parsed is None or (buffering == 0 and not parsed.binary):
        return None
    if of_text == (None, None, None):
        return parsed
    refused = parsed.binary or not all(isinstance(text, str | None) for text in of_text)
    return None if refused else parsed


def _open_anywhere(
    path: FileDescriptorOrPath, mode: str, parsed: _Mode, buffering: int, *others: Any
) -> tuple[Any, RawFile]:
    """Open in a thread that may wait."""
    encoding, errors, newline, closefd, opener = others
    raw = RawFile(path, parsed.raw, closefd, opener)
    if parsed.reads_only and buffering != 0:
        try:
            stage = Stage(raw.fileno())
        except BaseException:
            raw.close()
            raise
        # What comes through a pipe cannot be read in advance: it may come when it is asked for.
        raw.stage = stage if stage.regular else None
    return _wrap(raw, mode, parsed, buffering, encoding, errors, newline), raw


def _wrap(raw: RawFile, mode: str, parsed: _Mode, buffering: int, *of_text: Any) -> Any:
    """Put the standard library's buffers on top, as the built-in function does."""
    if buffering == 0:
        return raw
    try:
        by_line = buffering == 1 or (buffering < 0 and raw.stage is None and raw.isatty())
        size = -1 if by_line else buffering
        if size < 0:
            size = raw._blksize if raw.readable() else WRITE_BUFFER_BYTES
        buffered = _BUFFERS[raw.readable(), raw.writable()](raw, size)
        if not raw.readable() and (parsed.binary or not by_line):
            raw.buffer_bytes = size
        if parsed.binary:
            return buffered
        encoding, errors, newline = of_text
        text = io.TextIOWrapper(buffered, encoding, errors, newline, by_line)
        text.mode = mode  # type: ignore[misc]
        return text
    except BaseException:
        raw.close()
        raise


_BUFFERS: dict[tuple[bool, bool], Any] = {
    (True, False): io.BufferedReader,
    (False, True): io.BufferedWriter,
    (True, True): io.BufferedRandom,
}


async def _open_in_executor(job: Callable[[], Any]) -> tuple[Any, RawFile]:
    future = asyncio.get_running_loop().run_in_executor(None, job)
    try:
        await asyncio.wait((future,))
    except BaseException:
        future.add_done_callback(_close_unclaimed)
        raise
    return future.result()  # type: ignore[no-any-return]


def _close_unclaimed(future: asyncio.Future[tuple[Any, RawFile]]) -> None:
    """Close a file that was opened for a task that was cancelled; it has no data to lose."""
    if not future.cancelled() and future.exception() is None:
        future.result()[0].close()


@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenTextMode = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
) -> OpenedFile[str]: ...


@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenBinaryMode,
    buffering: int = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
) -> OpenedFile[bytes]: ...


def open(
    file: FileDescriptorOrPath,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
) -> OpenedFile[Any]:
    """Open a file without blocking the loop; arguments and errors are the built-in ``open``'s.

    >>> import asyncio, offloop
    >>> async def first_line(path):
    ...     async with offloop.open(path) as file:
    ...         return await file.readline()
    >>> asyncio.run(first_line("/proc/self/comm")) != ""
    True

    Use it with ``async with``, or await it and ``await file.close()``. Works under any asyncio
    loop. Where path and data are in the kernel's caches, nothing leaves the loop's thread; all else
    is done in the loop's default executor, where an ``opener`` is called, too. The default buffer
    for writing is larger than the built-in function's: 64 KiB.
    """
    if type(buffering) is not int and hasattr(type(buffering), "__index__"):
        buffering = operator.index(buffering)
    if isinstance(mode, str) and "b" not in mode:
        encoding = io.text_encoding(encoding, 2)
    elif buffering == 1:
        text = "line buffering (buffering=1) isn't supported in binary mode, the default buffer "
        warnings.warn(text + "size will be used", RuntimeWarning, stacklevel=2)
        buffering = -1
    is_number = not isinstance(file, str) and hasattr(type(file), "__index__")
    path: Any = file if is_number else os.fspath(file)  # type: ignore[arg-type]
    return OpenedFile(path, mode, buffering, encoding, errors, newline, closefd, opener)

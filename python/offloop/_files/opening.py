"""Opening an async file: on the loop's thread where that waits for nothing, or in its executor."""

from __future__ import annotations

import asyncio
import builtins
import io
import os
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

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


@dataclass(frozen=True, slots=True)
class _Order:
    """What ``open`` was asked for."""

    file: FileDescriptorOrPath
    mode: str
    buffering: int
    encoding: str | None
    errors: str | None
    newline: str | None
    closefd: bool
    opener: Callable[[str, int], int] | None

    @property
    def raw_mode(self) -> str:
        return "".join(sorted(set(self.mode) & set("rwax+"), reverse=True))

    @property
    def binary(self) -> bool:
        return "b" in self.mode

    def is_sound(self) -> bool:
        """Whether the built-in function would go on to open the file."""
        if not isinstance(self.mode, str) or not isinstance(self.buffering, int):
            return False
        letters = set(self.mode)
        sound = len(letters) == len(self.mode) and letters <= set("rwaxbt+")
        if not sound or len(letters & set("rwax")) != 1 or letters >= {"b", "t"}:
            return False
        if self.binary:
            return self.encoding is None and self.errors is None and self.newline is None
        return self.buffering != 0

    def open_cached(self) -> tuple[Any, RawFile]:
        """Open on the loop's thread; raises ``BlockingIOError`` if that might wait."""
        raw = RawFile.open_cached(self.file)  # type: ignore[arg-type]
        return self._wrap(raw), raw

    def open_anywhere(self) -> tuple[Any, RawFile]:
        """Open in a thread that may wait."""
        if not self.is_sound():
            # The built-in function says what is wrong; it fails before it opens anything.
            builtins.open(**{name: getattr(self, name) for name in self.__slots__})
        raw = RawFile(self.file, self.raw_mode, self.closefd, self.opener)
        if self.raw_mode == "r" and self.buffering != 0:
            raw.stage = Stage(raw.fileno())
        return self._wrap(raw), raw

    def _wrap(self, raw: RawFile) -> Any:
        """Put the standard library's buffers on top, as the built-in function does."""
        try:
            return self._wrapped(raw)
        except BaseException:
            raw.close()
            raise

    def _wrapped(self, raw: RawFile) -> Any:
        if self.buffering == 0:
            return raw
        regular = raw.stage is not None and raw.stage.regular
        by_line = self.buffering == 1 or (self.buffering < 0 and not regular and raw.isatty())
        buffered = self._buffered(raw, -1 if by_line else self.buffering)
        if self.binary:
            return buffered
        text = io.TextIOWrapper(buffered, self.encoding, self.errors, self.newline, by_line)
        text.mode = self.mode  # type: ignore[misc]
        return text

    def _buffered(self, raw: RawFile, size: int) -> Any:
        if "+" in self.mode:
            return io.BufferedRandom(raw, size if size > 0 else io.DEFAULT_BUFFER_SIZE)
        if self.raw_mode == "r":
            return io.BufferedReader(raw, size if size > 0 else io.DEFAULT_BUFFER_SIZE)
        return io.BufferedWriter(raw, size if size > 0 else WRITE_BUFFER_BYTES)


class OpenedFile(Generic[T]):
    """What ``offloop.open`` returns: to be awaited, or entered with ``async with``."""

    __slots__ = ("_file", "_order")

    def __init__(self, order: _Order) -> None:
        self._order = order
        self._file: AsyncFile[T] | None = None

    def __await__(self) -> Generator[Any, None, AsyncFile[T]]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncFile[T]:
        self._file = await self._open()
        return self._file

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        file, self._file = self._file, None
        if file is not None:
            await file.close()

    async def _open(self) -> AsyncFile[T]:
        order = self._order
        path_alone = order.opener is None and not isinstance(order.file, int) and order.closefd
        if path_alone and order.buffering != 0 and order.is_sound() and order.raw_mode == "r":
            if share.is_used_up():
                await share.renew()
            share.used += OPENING_BYTES
            try:
                return AsyncFile(*order.open_cached(), order.newline)
            except OSError:
                # Not cached, or not there: a thread that may wait finds out.
                return AsyncFile(*await _open_in_executor(order), order.newline)
        return AsyncFile(*await _open_in_executor(order), order.newline)


async def _open_in_executor(order: _Order) -> tuple[Any, RawFile]:
    future = asyncio.get_running_loop().run_in_executor(None, order.open_anywhere)
    try:
        await asyncio.wait((future,))
    except BaseException:
        future.add_done_callback(_close_unclaimed)
        raise
    return future.result()


def _close_unclaimed(future: asyncio.Future[tuple[Any, RawFile]]) -> None:
    """Close a file that was opened for somebody who has left; it has no data to lose."""
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

    >>> async def first_line(path):
    ...     async with open(path) as file:
    ...         return await file.readline()
    >>> asyncio.run(first_line("/proc/self/comm")) != ""
    True

    Use it with ``async with``, or await it and ``await file.close()``. Works under any asyncio
    loop. Where path and data are in the kernel's caches, nothing leaves the loop's thread; all else
    is done in the loop's default executor, where an ``opener`` is called, too. The default buffer
    for writing is larger than the built-in function's: 64 KiB.
    """
    if isinstance(mode, str) and "b" not in mode:
        encoding = io.text_encoding(encoding, 2)
    elif buffering == 1:
        text = "line buffering (buffering=1) isn't supported in binary mode, the default buffer "
        warnings.warn(text + "size will be used", RuntimeWarning, stacklevel=2)
        buffering = -1
    path = file if isinstance(file, int) else os.fspath(file)
    return OpenedFile(_Order(path, mode, buffering, encoding, errors, newline, closefd, opener))

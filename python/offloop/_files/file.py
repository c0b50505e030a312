"""An async file: the standard library's own file, whose operations run where they do not block.

An operation runs on the loop's thread if it can only touch memory: reading, when the stage of the
raw file reaches as far as it will read (``raw.py``); writing, when the buffers surely have room for
it (``room.py``). What has to be waited for is done in the loop's default executor: staging the
rest, or the whole operation if it writes to the file, is large, or its needs cannot be told.

One operation runs at a time, in the order of the calls. An operation that was given to the executor
runs to its end, and the next operation waits for it, even if the awaiting task was cancelled.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import functools
import io
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from _offloop_worker._offloop import AT_ONCE_MAX
from offloop._files.room import PLAIN_ENCODINGS, Room, size_of
from offloop._files.turns import OPERATION_BYTES, share

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from offloop._files.raw import RawFile

__all__ = ["AsyncFile"]

T = TypeVar("T", str, bytes)

READY, WAIT, LARGE = range(3)
"""What ``Stage.reach`` says."""

PLAIN_ERRORS = {"strict", "replace", "surrogateescape", "backslashreplace"}
"""Error handlers that drop no bytes, so that ``n`` characters take a bounded number of them."""

CHARACTER_BYTES_MAX = 4
MARK_BYTES = 8
"""More than a byte order mark, and the byte behind a carriage return."""

TEXT_POSITIONS_WITH_STATE = 1 << 64
"""From here on, what ``tell`` says of a text file holds more than a number of bytes."""


@functools.lru_cache
def _line_end(encoding: str, errors: str | None, newline: str | None) -> bytes | None:
    """Return bytes that surely end a line, or none if nothing can be said of the encoding."""
    name = codecs.lookup(encoding).name
    if not name.startswith(PLAIN_ENCODINGS) or errors not in PLAIN_ERRORS:
        return None
    return newline.encode() if newline else b"\n"


class AsyncFile(Generic[T]):
    """An open file whose operations are awaited; made by ``offloop.open``.

    Its methods are those of the standard library's files, and so are its errors. Not thread-safe,
    but any number of tasks of one loop may use it: operations run one at a time, in the order of
    the calls. Cancelling a read leaves the position where it was; from what cannot seek, such as a
    pipe, the data of a cancelled read is lost. A write that has begun is completed.

    >>> import asyncio, offloop
    >>> async def count(path):
    ...     async with offloop.open(path, "rb") as file:
    ...         return sum([len(line) async for line in file])
    >>> asyncio.run(count("/dev/null"))
    0
    """

    __slots__ = (
        "__weakref__",
        "_abandoned",
        "_end",
        "_file",
        "_lock",
        "_loop",
        "_raw",
        "_room",
        "_text",
        "_to_be_closed",
        "_using",
    )

    def __init__(self, file: Any, raw: RawFile, newline: str | None) -> None:
        self._file = file
        self._raw = raw
        self._text = text = isinstance(file, io.TextIOWrapper)
        self._end = _line_end(file.encoding, file.errors, newline) if text else b"\n"
        # None if every write goes to the file, or may have to.
        self._room = Room(file, raw, newline) if raw.buffer_bytes > 0 else None
        # The loop of the last operation that had to wait for its turn, and that loop's lock.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock: asyncio.Lock | None = None
        # Operations that hold the lock or wait for it.
        self._using = 0
        # The job of a cancelled task, whose turn lasts until it has ended.
        self._abandoned: tuple[asyncio.Future[Any], _Undo | None] | None = None
        self._to_be_closed = False

    def __repr__(self) -> str:
        return f"<offloop.AsyncFile of {self._file!r}>"

    # What is known without an operation.

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return bool(self._file.closed)

    @property
    def name(self) -> str | bytes | int:
        """The path or descriptor that was given to ``open``."""
        return self._file.name  # type: ignore[no-any-return]

    @property
    def mode(self) -> str:
        """The mode, as the standard library's file has it."""
        return self._file.mode  # type: ignore[no-any-return]

    @property
    def encoding(self) -> str:
        """The encoding of a text file; binary ones raise ``AttributeError``."""
        return self._file.encoding  # type: ignore[no-any-return]

    @property
    def errors(self) -> str | None:
        """The error handling of a text file; binary ones raise ``AttributeError``."""
        return self._file.errors  # type: ignore[no-any-return]

    @property
    def newlines(self) -> str | tuple[str, ...] | None:
        """The line ends met so far; binary files raise ``AttributeError``."""
        return self._file.newlines  # type: ignore[no-any-return]

    @property
    def line_buffering(self) -> bool:
        """Whether each line is written at once; binary files raise ``AttributeError``."""
        return self._file.line_buffering  # type: ignore[no-any-return]

    def fileno(self) -> int:
        """Return the file descriptor; raises ``ValueError`` when the file is closed."""
        return self._file.fileno()  # type: ignore[no-any-return]

    def isatty(self) -> bool:
        """Whether the file is a terminal."""
        return self._file.isatty()  # type: ignore[no-any-return]

    def readable(self) -> bool:
        """Whether the file was opened for reading."""
        return self._file.readable()  # type: ignore[no-any-return]

    def writable(self) -> bool:
        """Whether the file was opened for writing."""
        return self._file.writable()  # type: ignore[no-any-return]

    def seekable(self) -> bool:
        """Whether the file has a position that can be moved."""
        return self._file.seekable()  # type: ignore[no-any-return]

    # Reading.

    async def read(self, size: int | None = -1, /) -> T:
        """Read ``size`` bytes or characters, or to the end of the file."""
        data: T = await self._read(self._file.read, size, self._need(size))
        return data

    async def read1(self, size: int = -1, /) -> bytes:
        """Read what one call of the system gives, at most ``size`` bytes; binary files only."""
        return await self._read(self._file.read1, size, 1)  # type: ignore[no-any-return]

    async def peek(self, size: int = 0, /) -> bytes:
        """Return bytes behind the position without moving it; binary files only."""
        return await self._read(self._file.peek, size, 1)  # type: ignore[no-any-return]

    async def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer and return the number of bytes read; binary files only."""
        return await self._read(  # type: ignore[no-any-return]
            self._file.readinto, buffer, size_of(buffer)
        )

    async def readline(self, size: int | None = -1, /) -> T:
        """Read to the end of the line, at most ``size`` bytes or characters."""
        line: T = await self._read(self._file.readline, size, self._need(size), self._end)
        return line

    async def readlines(self, hint: int | None = -1, /) -> list[T]:
        """Read all lines, or lines until they have ``hint`` bytes or characters."""
        lines: list[T] = await self._read(self._file.readlines, hint, None)
        return lines

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        line = await self._read(self._file.readline, -1, None, self._end)
        if not line:
            raise StopAsyncIteration
        return line  # type: ignore[no-any-return]

    def _need(self, size: int | None) -> int | None:
        """Return how many bytes give ``size`` bytes or characters; none for all that there are."""
        if not isinstance(size, int) or size < 0:
            return None
        # More than the loop's thread reads is as good as any number.
        size = min(size, AT_ONCE_MAX + 1)
        return size * CHARACTER_BYTES_MAX + MARK_BYTES if self._text else size

    async def _read(
        self, call: Callable[[Any], Any], argument: Any, need: int | None, end: bytes | None = None
    ) -> Any:
        """Call a method that reads up to ``need`` bytes, or to a line's ``end``, or all."""
        if self._end is None:
            need = end = None
        stage = self._raw.stage
        if self._using == 0 and stage is not None and not share.is_used_up():
            before = len(stage)
            reached = stage.reach(need, end)
            share.used += OPERATION_BYTES + max(0, len(stage) - before)
            if reached == READY:
                return call(argument)
        await self._enter()
        try:
            stage = self._raw.stage
            if stage is not None:
                reached = stage.reach(need, end)
                if reached == WAIT:
                    reached = await self._in_executor(partial(stage.wait, need, end))
                if reached == READY:
                    return call(argument)
            undo = _Undo(self._file, self._raw)
            return await self._in_executor(partial(undo.read, call, argument), undo)
        finally:
            self._leave()

    # Writing.

    @overload
    async def write(self: AsyncFile[str], data: str, /) -> int: ...

    @overload
    async def write(self: AsyncFile[bytes], data: ReadableBuffer, /) -> int: ...

    async def write(self, data: Any, /) -> int:
        """Write text or bytes, and return their length. Cancelling does not undo it."""
        room = self._room
        if room is not None and self._using == 0 and not share.is_used_up():
            need = room.need(data)
            if room.claim(need):
                share.used += OPERATION_BYTES + need
                return self._file.write(data)  # type: ignore[no-any-return]
        return await self._write((data,), self._file.write, data)  # type: ignore[no-any-return]

    @overload
    async def writelines(self: AsyncFile[str], lines: Iterable[str], /) -> None: ...

    @overload
    async def writelines(self: AsyncFile[bytes], lines: Iterable[ReadableBuffer], /) -> None: ...

    async def writelines(self, lines: Iterable[Any], /) -> None:
        """Write each of ``lines``, to which no line ends are added."""
        lines = list(lines)
        await self._write(lines, self._file.writelines, lines)

    async def flush(self) -> None:
        """Write what is buffered to the file."""
        if self._using == 0 and self._room is not None and self._room.is_untouched:
            # Nothing is written, but a closed file says so.
            self._file.flush()
            return
        await self._elsewhere(self._emptying(self._file.flush))

    async def _write(self, parts: Iterable[Any], call: Callable[[Any], Any], data: Any) -> Any:
        """Call a method that writes ``data``, which is made of ``parts``."""
        room = self._room
        if room is None:
            return await self._elsewhere(partial(call, data))
        await self._enter()
        try:
            # The buffers hold other data than before, and the data may have changed as well.
            need = sum(map(room.need, parts))
            if room.claim(need):
                share.used += OPERATION_BYTES + need
                return call(data)
            return await self._in_executor(partial(room.write, need, call, data))
        finally:
            self._leave()

    def _emptying(self, call: Callable[[], Any]) -> Callable[[], Any]:
        """Wrap a call that empties the buffers, so that it notes that they are empty."""
        return call if self._room is None else partial(self._room.empty, call)

    # Moving, cutting and closing.

    async def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move the position and return it; in text files to where ``tell`` said it was."""
        call = partial(self._file.seek, offset, whence)
        # Other positions in a text file are found by reading from the one below.
        plain = not isinstance(offset, int) or offset < TEXT_POSITIONS_WITH_STATE
        return await self._move(self._emptying(call), plain)  # type: ignore[no-any-return]

    async def tell(self) -> int:
        """Return the position: a number of bytes, or in text files a number for ``seek``."""
        return await self._move(self._file.tell, True)  # type: ignore[no-any-return]

    async def truncate(self, size: int | None = None, /) -> int:
        """Cut the file at ``size`` bytes, or at the position, and return the new size."""
        call = self._emptying(partial(self._file.truncate, size))
        return await self._elsewhere(call)  # type: ignore[no-any-return]

    async def _move(self, call: Callable[[], Any], plain: bool) -> Any:
        """Call a method that asks for the position or moves it, ``plain`` if it reads nothing."""
        stage = self._raw.stage
        if self._using == 0 and plain and stage is not None and stage.at_once:
            share.used += OPERATION_BYTES
            return call()
        return await self._elsewhere(call)

    async def close(self) -> None:
        """Write what is buffered and close the file, whatever becomes of the writing.

        Closing twice does nothing. When the closing task is cancelled, the file is closed as soon
        as its last operation has ended. A file with an operation of another loop, which may never
        end it, can only be closed.
        """
        stage = self._raw.stage
        if self._using == 0:
            if self._file.closed:
                return
            if stage is not None and stage.at_once and stage.is_linked():
                self._file.close()
                return
        elif self._loop is not (loop := asyncio.get_running_loop()):
            await loop.run_in_executor(None, self._file.close)
            return
        self._to_be_closed = True
        await self._elsewhere(self._file.close)

    # One operation at a time.

    async def _elsewhere(self, call: Callable[[], Any]) -> Any:
        """Make a call in the executor, when it is this operation's turn."""
        await self._enter()
        try:
            return await self._in_executor(call)
        finally:
            self._leave()

    async def _enter(self) -> None:
        """Wait until the operations before this one have ended, and for a share of the turn."""
        loop = asyncio.get_running_loop()
        if self._lock is None or self._loop is not loop:
            if self._using > 0:
                if self._file.closed:
                    raise ValueError("I/O operation on closed file.")
                raise RuntimeError("the file is in use by another event loop")
            self._loop = loop
            self._lock = asyncio.Lock()
        self._using += 1
        try:
            await self._lock.acquire()
        except BaseException:
            self._using -= 1
            raise
        if share.is_used_up():
            try:
                await share.renew()
            except BaseException:
                self._leave()
                raise

    def _leave(self) -> None:
        """Let the next operation begin; close the file if a cancelled operation asked for that."""
        if self._abandoned is not None:
            (job_ended, undo), self._abandoned = self._abandoned, None
            job_ended.add_done_callback(partial(self._end_abandoned, undo))
            return
        if self._to_be_closed and self._using == 1 and not self._file.closed:
            # One attempt: without an executor the file stays open, for the program to close.
            self._to_be_closed = False
            with contextlib.suppress(RuntimeError):
                closing = asyncio.get_running_loop().run_in_executor(None, self._file.close)
                closing.add_done_callback(lambda _: self._leave())
                return
        self._using -= 1
        assert self._lock is not None
        self._lock.release()

    async def _in_executor(self, job: Callable[[], Any], undo: _Undo | None = None) -> Any:
        """Run a job. If its task is cancelled, the file's turn lasts until the job has ended."""
        job_ended = asyncio.get_running_loop().run_in_executor(None, job)
        try:
            await asyncio.wait((job_ended,))
        except BaseException:
            self._abandoned = job_ended, undo
            raise
        return job_ended.result()

    def _end_abandoned(self, undo: _Undo | None, job_ended: asyncio.Future[Any]) -> None:
        """Go on without the task that was cancelled while its job ran."""
        try:
            if undo is not None and not job_ended.cancelled() and job_ended.exception() is None:
                undo.seek_back()
        finally:
            self._leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class _Undo:
    """A read in the executor, whose effect on the position can be undone."""

    def __init__(self, file: Any, raw: RawFile) -> None:
        self._file = file
        self._raw = raw
        self._before: int | None = None

    def read(self, call: Callable[[Any], Any], argument: Any) -> Any:
        """Call a method that reads, straight from the file if it can seek."""
        if not self._file.closed and self._file.readable() and self._file.seekable():
            self._raw.unstage()
            try:
                self._before = self._file.tell()
            except OSError:
                # Some decoders cannot tell. They go on from where the read has ended.
                self._before = None
        return call(argument)

    def seek_back(self) -> None:
        """Move to where the read began: what it read is still cached."""
        if self._before is not None and not self._file.closed:
            self._file.seek(self._before)

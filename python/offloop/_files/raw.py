"""The raw file at the bottom of an async file: the standard one, between two memories.

Above it stand the standard library's own buffers and text wrappers, which may be called on the
loop's thread only when they will find in memory what they read, and put into memory what they
write. So reading takes first from the stage, which has been filled in advance, and writing may be
deferred to a queue, which another thread writes out. Without either, this is ``io.FileIO``.
"""

from __future__ import annotations

import errno
import io
from collections import deque
from typing import TYPE_CHECKING

from _offloop_worker._offloop import Stage, open_cached

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, StrOrBytesPath, WriteableBuffer

__all__ = ["RawFile"]


class RawFile(io.FileIO):
    """A raw file with a stage for reading and a queue for writing.

    Used by one thread at a time, which its ``AsyncFile`` sees to.
    """

    stage: Stage | None = None
    deferring = False
    queue: deque[bytes] | tuple[()] = ()

    if TYPE_CHECKING:

        @property
        def _blksize(self) -> int: ...

    @classmethod
    def open_cached(cls, path: StrOrBytesPath) -> RawFile:
        """Open a regular file for reading on the loop's thread; raises ``BlockingIOError``."""
        stage: Stage | None = None

        def opener(path: StrOrBytesPath, _flags: int) -> int:
            nonlocal stage
            stage = open_cached(path)
            return stage.fd

        raw = cls(path, "r", True, opener)
        raw.stage = stage
        return raw

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        """Read what is staged, or from the file."""
        if self.stage is not None:
            taken = self.stage.take_into(buffer)
            if taken is not None:
                return taken
        return super().readinto(buffer)

    def readall(self) -> bytes | None:  # type: ignore[override]
        """Read to the end of the file."""
        if self.stage is None:
            return super().readall()
        staged, ended = self.stage.take_all()
        if ended:
            return staged
        rest = super().readall()
        return staged + rest if staged and rest else staged or rest

    def write(self, data: ReadableBuffer) -> int | None:  # type: ignore[override]
        """Write to the file, or into the queue while writing is deferred."""
        if self.deferring:
            copy = bytes(data)
            if not isinstance(self.queue, deque):
                self.queue = deque()
            self.queue.append(copy)
            return len(copy)
        self.write_queue()
        return super().write(data)

    def write_queue(self) -> None:
        """Write what is queued; what an error leaves unwritten stays in the queue."""
        while isinstance(self.queue, deque) and self.queue:
            rest = memoryview(self.queue.popleft())
            try:
                while rest:
                    written = super().write(rest)
                    if written is None:
                        text = "write could not complete without blocking"
                        raise BlockingIOError(errno.EAGAIN, text, 0)
                    rest = rest[written:]
            finally:
                if rest:
                    self.queue.appendleft(bytes(rest))

    def unstage(self) -> None:
        """Forget what is staged: the descriptor's position becomes the reader's own."""
        if self.stage is not None and (staged := self.stage.clear()):
            super().seek(-staged, io.SEEK_CUR)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position; what was staged is forgotten."""
        self.write_queue()
        self.unstage()
        return super().seek(offset, whence)

    def tell(self) -> int:
        """Return the position of whoever reads or writes above."""
        position = super().tell() + sum(map(len, self.queue))
        return position if self.stage is None else position - len(self.stage)

    def truncate(self, size: int | None = None) -> int:
        """Cut the file."""
        self.write_queue()
        return super().truncate(size)

    def close(self) -> None:
        """Write what is queued and close the descriptor, whatever becomes of the writing."""
        try:
            if not self.closed:
                self.write_queue()
        finally:
            self.stage = None
            super().close()

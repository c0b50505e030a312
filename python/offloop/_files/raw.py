"""The raw file at the bottom of an async file: the standard one, behind a memory.

Above it stand the standard library's own buffers and text wrappers, which may be called on the
loop's thread only when they will find in memory what they read, and put into memory what they
write. So reading takes first from the stage, which has been filled in advance. Without a stage,
this is ``io.FileIO``.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from _offloop_worker._offloop import Stage, open_cached

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, StrOrBytesPath, WriteableBuffer

__all__ = ["RawFile"]


class RawFile(io.FileIO):
    """A raw file with a stage for reading.

    Used by one thread at a time, which its ``AsyncFile`` sees to.
    """

    stage: Stage | None = None

    buffer_bytes = 0
    """The size of the buffer above, which keeps what is written; 0 if one cannot rely on that."""

    written_bytes = 0
    """What has been written to the file."""

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
        """Write to the file."""
        written = super().write(data)
        if written is None:
            # It does not block, and would have to. The buffer above may keep what it could not
            # hand down, so how much it holds is not known any more.
            self.buffer_bytes = 0
        else:
            self.written_bytes += written
        return written

    def unstage(self) -> None:
        """Forget what is staged: the descriptor's position becomes the reader's own."""
        if self.stage is not None and (staged := self.stage.clear()):
            super().seek(-staged, io.SEEK_CUR)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position; what was staged is forgotten."""
        self.unstage()
        return super().seek(offset, whence)

    def tell(self) -> int:
        """Return the position of the reader or writer above."""
        position = super().tell()
        return position if self.stage is None else position - len(self.stage)

    def close(self) -> None:
        """Close the descriptor and forget what is staged."""
        self.stage = None
        super().close()

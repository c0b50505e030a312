"""The room in the buffers of a file that is only written to: which writes surely touch memory only.

The standard library's buffers do not say how much they hold, so an upper bound is kept of it. What
fits below their size under that bound reaches no system call, and cannot fail for want of space;
any other write is made in the executor, as a whole, and fails as the standard library's does. Where
the bound has reached the size, the buffers are flushed first, after which it is exact again.

Invariants: 1. The buffers hold at most ``_filled`` bytes, and none that a failed call did not put
               there before it failed.
            2. Used by one thread at a time: the one that has the file's turn.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from _offloop_worker._offloop import AT_ONCE_MAX

if TYPE_CHECKING:
    from offloop._files.raw import RawFile

__all__ = ["PLAIN_ENCODINGS", "Room", "size_of"]

PLAIN_ENCODINGS = ("utf-8", "ascii", "iso8859-", "cp125", "koi8-", "mac-")
"""Encodings in which the byte of a line's end is nothing else, and characters take 1 to 4 bytes."""

STATE_BYTES = 16
"""More than what an encoder with a state may add to a text: a byte order mark, or a few shifts."""


def size_of(data: Any) -> int:
    """Return the length of text or of a buffer; 0 for anything else, which the write refuses."""
    if isinstance(data, str):
        return str.__len__(data)
    try:
        return memoryview(data).nbytes
    except TypeError:
        return 0


class Room:
    """What the buffers of one file can take."""

    __slots__ = ("_encoding", "_file", "_filled", "_newline", "_plain", "_raw", "_text")

    def __init__(self, file: Any, raw: RawFile, newline: str | None) -> None:
        self._file = file
        self._raw = raw
        self._filled = 0
        self._text = text = isinstance(file, io.TextIOWrapper)
        name = codecs.lookup(file.encoding).name if text else ""
        # A mark in front of the text is not one of its characters.
        self._plain = name.startswith(PLAIN_ENCODINGS) and name != "utf-8-sig"
        self._encoding = (file.encoding, file.errors) if text else ("", "")
        self._newline = newline if newline == "\r\n" else None

    def need(self, data: Any) -> int:
        """Return how many bytes ``data`` takes at most."""
        if not self._text or not isinstance(data, str):
            return len(data) if type(data) is bytes else size_of(data)
        need = str.__len__(data)
        if need >= self._raw.buffer_bytes:
            return need
        if self._newline is not None:
            data = str.replace(data, "\n", self._newline)
            need = len(data)
        if self._plain and str.isascii(data):
            return need
        try:
            return len(str.encode(data, *self._encoding)) + STATE_BYTES
        except UnicodeError:
            # The write will say so.
            return self._raw.buffer_bytes

    def claim(self, need: int) -> bool:
        """Say whether the loop's thread may make a write of ``need`` bytes, which it then makes."""
        if need > AT_ONCE_MAX or not self._takes(need):
            return False
        self._filled += need
        return True

    def _takes(self, need: int) -> bool:
        """Whether the buffers take ``need`` bytes more without handing any of them down."""
        # A buffer keeps what fills it to the last byte, unless that comes in one piece, which the
        # text wrapper above it may make of many.
        return need < self._raw.buffer_bytes >= self._filled + need + self._text

    @property
    def is_untouched(self) -> bool:
        """Whether a flush has nothing to do."""
        return self._filled == 0 < self._raw.buffer_bytes

    def write(self, need: int, call: Callable[[Any], Any], data: Any) -> Any:
        """Call a method that writes ``need`` bytes, in a thread that may wait."""
        room = self._raw.buffer_bytes
        if self._takes(need):
            self._filled += need
            return call(data)
        if room > 0 and not self._file.closed:
            # What this fails with says nothing of the new data, which is not in the buffer yet.
            self._file.flush()
            self._filled = room
        before = self._raw.written_bytes
        result = call(data)
        self._filled = max(0, min(need - (self._raw.written_bytes - before), room))
        return result

    def empty(self, call: Callable[[], Any]) -> Any:
        """Call a method that writes what is buffered."""
        result = call()
        self._filled = 0
        return result

"""Names as letters that a terminal only shows, as the watch's words have them.

Source:     crates/offloop-core/src/watch/words/harmless.rs.
"""

from __future__ import annotations

import unicodedata

from offloop._watch.reading import encodable

__all__ = ["shown"]

NAMED = {"\n": "\\n", "\r": "\\r", "\t": "    "}


def shown(name: str) -> str:
    """A name in which control characters and marks of direction are shown by their numbers."""
    return name if name.isprintable() else "".join(map(_letter, encodable(name)))


def _letter(letter: str) -> str:
    if letter.isprintable() or unicodedata.category(letter) == "Zs":
        return letter
    number = ord(letter)
    return NAMED.get(letter) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{{{number:x}}}")

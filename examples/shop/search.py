"""The search."""

from __future__ import annotations

import re

_SPACES_AT_THE_END = re.compile(r"\s+$")


def tidy(words: str) -> str:
    """Return the words without spaces at the end."""
    return _SPACES_AT_THE_END.sub("", words).partition(" ")[0]

"""Findings as pytest reports them: as the text of a failure, and as properties of a test."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from offloop._gate import Finding

__all__ = ["failure_of", "folded", "forget", "properties_of", "text_of"]

SECTION = "offloop"
PREFIX = "offloop_"

_NUMBER = re.compile(r"(:\d+)|0x[0-9a-f]+|\d+(?:[.,]\d+)*")
"""A number in words, or the line of a place, which is none."""

_MADE = re.compile(r", made at \S+")
"""Where a task was made, which is not always known."""


def folded(found: list[Finding]) -> list[list[Finding]]:
    """Findings that say the same but for times and other numbers, together; in their order."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for each in found:
        words = _NUMBER.sub(lambda match: match[1] or "0", _MADE.sub("", each.words))
        groups.setdefault((each.kind, each.place, words), []).append(each)
    return list(groups.values())


def _more(group: list[Finding]) -> str:
    """What is said of all but the first."""
    if len(group) == 1:
        return ""
    seconds = [each.seconds for each in group if each.seconds is not None]
    total = f", {sum(seconds) * 1_000:,.0f} ms in all" if seconds else ""
    return f"and {len(group) - 1} more like it{total}"


def text_of(groups: list[list[Finding]]) -> str:
    """The words of what was found."""
    blocks = []
    for group in groups:
        more = _more(group)
        blocks.append(group[0].words + (f"\noffloop: {more}" if more else ""))
    return "\n\n".join(blocks)


def properties_of(groups: list[list[Finding]]) -> list[tuple[str, object]]:
    """What was found, as properties of its test."""
    properties: list[tuple[str, object]] = []
    for group in groups:
        more = _more(group)
        summary = group[0].summary + (f" ({more})" if more else "")
        properties.append((f"{PREFIX}{group[0].kind}", summary))
    return properties


def forget(item: pytest.Item) -> None:
    """A test begins, perhaps once more: what an attempt before has found is not this one's."""
    own = [each for each in item.user_properties if each[0].startswith(PREFIX)]
    if own:
        item.user_properties[:] = [each for each in item.user_properties if each not in own]
    sections = getattr(item, "_report_sections", [])
    if any(section[1] == SECTION for section in sections):
        sections[:] = [section for section in sections if section[1] != SECTION]


def failure_of(text: str) -> BaseException:
    """What fails a phase: its text is all that pytest shows."""
    return pytest.fail.Exception(text, pytrace=False)

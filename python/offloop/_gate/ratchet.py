"""The file of stalls that are known: it fails no test for these, and may only shrink.

A stall is known by its file, its function and the text of its line, so it stays known when lines
above it come and go. Beside these stands one test that has seen it: an entry is taken out only by
a run in which that test came to its end, or is no more. The file is TOML, one table for each,
sorted; a person may edit it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["SHOWN_MAX", "Known", "Ratchet", "read_ratchet", "shown", "write_ratchet"]

HEADING = """\
# Stalls of event loops that are known, and fail no test. Written by
#     pytest --offloop-ratchet=FILE --offloop-ratchet-write
# New ones fail. Take out what you have cured.
"""

SHOWN_MAX = 20
"""Lines of each kind; the JSON file has all."""

_NAMES = ("file", "function", "line")
_TEST = "test"


class Known(NamedTuple):
    """A stall, as it is recognised."""

    file: str
    function: str
    line: str

    def __str__(self) -> str:
        return f"{self.file} in {self.function}: {self.line}"

    @property
    def is_writable(self) -> bool:
        """Whether a file of text can hold it: the name of its file may be no text."""
        return not any("\ud800" <= letter <= "\udfff" for part in self for letter in part)


class Ratchet:
    """The file, and what a run has changed in it."""

    def __init__(self, path: Path | None, *, writes: bool) -> None:
        self._path = path
        self._writes = writes
        self.known = read_ratchet(path, missing_ok=writes)
        self._gone: list[Known] = []
        """Not seen, and known to be cured."""
        self._stays = 0
        self._partial: str | None = None

    def unseen(self, seen: Iterable[Known]) -> list[Known]:
        """What the file has and the run has not seen."""
        return sorted(self.known.keys() - set(seen))

    def settle(
        self,
        seen: Mapping[Known, frozenset[str]],
        partial: str | None,
        is_left_out: Callable[[str], bool],
    ) -> None:
        """The run is over: find what is gone, and write the file if that is asked for.

        Args:
            seen: the stalls of the run, each with the tests that have seen it.
            partial: why this was not a run of all tests; None if it was.
            is_left_out: whether a test exists that did not come to its end.

        Raises:
            OSError: the file cannot be written.
        """
        unseen = self.unseen(seen)
        self._partial = partial
        if partial is None:
            self._gone = [each for each in unseen if not is_left_out(self.known[each])]
        self._stays = len(unseen) - len(self._gone)
        if self._path is None or not self._writes:
            return
        entries = {each: test for each, test in self.known.items() if each not in set(self._gone)}
        for each, tests in seen.items():
            has_seen = sorted(test for test in tests if test)
            test = entries.get(each, "")
            if not test or (partial is None and test not in has_seen and not is_left_out(test)):
                entries[each] = next(iter(has_seen), "")
        if entries != self.known or not self._path.exists():
            write_ratchet(self._path, entries)

    def lines(self) -> list[str]:
        """What a person is told of the entries that the run has not seen."""
        lines = []
        if self._gone:
            will = "are taken out" if self._writes else "--offloop-ratchet-write takes them out"
            heading = f"known, but not seen in this run: {will}"
            lines += shown(heading, [str(each) for each in self._gone])
        if self._writes and self._stays:
            why = self._partial or "their tests did not come to an end"
            lines.append(f"known, not seen in this run, and kept: {self._stays} ({why})")
        return lines


def shown(heading: str, entries: list[str]) -> list[str]:
    """Entries under a heading, as many as a person reads."""
    if not entries:
        return []
    lines = [f"  {entry}" for entry in entries[:SHOWN_MAX]]
    more = len(entries) - len(lines)
    return [f"{heading}:", *lines, *([f"  and {more} more"] if more else [])]


def read_ratchet(path: Path | None, *, missing_ok: bool) -> dict[Known, str]:
    """The stalls of a file, each with a test that has seen it; an empty text where none is named.

    Raises:
        ValueError: it cannot be read, or is no such file; in one line.
    """
    if path is None or (missing_ok and not path.exists()):
        return {}
    # Only here: most runs have no such file.
    import tomllib

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    entries = tables.get("stall", [])
    if tables.keys() - {"stall"} or type(entries) is not list:
        raise ValueError(f"{path}: has other things than tables [[stall]]")
    return dict(_known(path, number, entry) for number, entry in enumerate(entries, 1))


def _known(path: Path, number: int, entry: object) -> tuple[Known, str]:
    if (
        not isinstance(entry, dict)
        or entry.keys() - {_TEST} != set(_NAMES)
        or not all(isinstance(text, str) for text in entry.values())
    ):
        raise ValueError(f"{path}: stall {number} does not have texts file, function and line")
    return Known(*(entry[name] for name in _NAMES)), entry.get(_TEST, "")


def write_ratchet(path: Path, known: Mapping[Known, str]) -> None:
    """Write the file anew, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    tables = []
    for each in sorted(known):
        texts = {**each._asdict(), **({_TEST: known[each]} if known[each] else {})}
        lines = [f"{name} = {_quoted(text)}\n" for name, text in texts.items()]
        tables.append("".join(["\n[[stall]]\n", *lines]))
    # A link stays a link.
    path = path.resolve()
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        beside.write_text(HEADING + "".join(tables), encoding="utf-8", errors="replace")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _quoted(text: str) -> str:
    """A text of TOML: it has no character 7F as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

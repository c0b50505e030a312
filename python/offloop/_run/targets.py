"""Which files ``offloop run`` and ``offloop report`` refuse to write, before anything is opened.

A file's name that is left out makes an option take the next word, which is the program. So nothing
is written over what may be one, and no two options write one file.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

__all__ = ["CannotRecord", "Target", "check_page", "check_targets"]

PROGRAM_ENDINGS = (".py", ".pyw", ".pyc", ".pyz")
_OWN_BEGINNING = re.compile(rb"\[|\{|<!doctype html|[0-9a-f]{8} ")
"""How traces, reports and journals begin."""
_DEVICES = (os.makedev(1, 3), os.makedev(1, 7))
"""``/dev/null`` and ``/dev/full``."""


class CannotRecord(Exception):
    """A file cannot be written."""


@dataclass(frozen=True)
class Target:
    """A file that is to be written.

    Attributes:
        what: ``trace``, ``journal`` or ``report``.
        path: as the command line has it.
    """

    what: str
    path: str

    def status(self) -> os.stat_result | None:
        """What is there now; None if nothing is, or if opening it will say why not."""
        return _status(self.path)

    def refused(self, why: str) -> CannotRecord:
        """The error that says why it is not written."""
        return CannotRecord(f"the {self.what} {self.path} cannot be written: {why}")

    def check_name(self) -> None:
        """Refuse what names no file, or a program."""
        if not self.path:
            raise CannotRecord(f"the {self.what} cannot be written: its name is empty")
        if self.path == "-":
            raise self.refused("`-` names no file; `./-` does")
        if self.path.lower().endswith(PROGRAM_ENDINGS):
            raise self.refused("a program has such a name; name the file before the program")

    def check_kind(self) -> None:
        """Refuse what is no regular file; nothing waits for the reader of a pipe."""
        status = self.status()
        if status is None or stat.S_ISREG(status.st_mode):
            return
        if stat.S_ISDIR(status.st_mode):
            raise self.refused("it is a folder")
        is_device = stat.S_ISCHR(status.st_mode) and status.st_rdev in _DEVICES
        if self.what == "report" or not is_device:
            raise self.refused("it is no regular file")


def check_targets(targets: Sequence[Target], script: str | None, is_stdin: bool) -> None:
    """Refuse what would lose a file, or cannot be written at the end; raises `CannotRecord`.

    Args:
        targets: all that the run is to write.
        script: the program, if it is a file or a folder.
        is_stdin: the program is standard input, and the command line names none.
    """
    for target in targets:
        target.check_name()
    for target in targets:
        if script is not None and _is_same(target.path, script):
            raise target.refused("it is the program itself")
        target.check_kind()
        if is_stdin and not _may_be_replaced(target):
            raise target.refused("no program is named, and this file may be it")
    for first, second in combinations(targets, 2):
        if _is_same(first.path, second.path):
            raise second.refused(f"it is the {first.what}, too")
    reports = [target for target in targets if target.what == "report"]
    for report in reports:
        _check_at_end(report, next(one for one in targets if one.what == "journal"))


def check_page(journal: str, out: str) -> None:
    """Refuse to write a report over its journal or a program; raises `CannotRecord`."""
    target = Target("report", out)
    target.check_name()
    if Path(out).is_dir():
        raise target.refused("it is a folder")
    if _is_same(journal, out):
        raise target.refused("it is the journal itself")


def _check_at_end(report: Target, journal: Target) -> None:
    """Refuse a report that could not be made when the program has ended."""
    folder = Path(report.path).absolute().parent
    if not folder.is_dir():
        raise report.refused(f"no folder {folder}")
    place = folder if report.status() is None else Path(report.path)
    if not os.access(place, os.W_OK):
        raise report.refused("that is not permitted")
    status = journal.status()
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise report.refused(f"it is made of the journal, and {journal.path} keeps none")


def _may_be_replaced(target: Target) -> bool:
    """Whether a file is none, is empty, or has been written by offloop."""
    status = target.status()
    if status is None or not stat.S_ISREG(status.st_mode):
        return True
    try:
        with open(target.path, "rb") as stream:
            beginning = stream.read(16)
    except OSError as error:
        raise target.refused(str(error.strerror)) from None
    return not beginning or _OWN_BEGINNING.match(beginning) is not None


def _is_same(first: str, second: str) -> bool:
    """Whether two paths are one file, by any names; devices lose nothing."""
    one, other = _status(first), _status(second)
    if one is not None and other is not None:
        return not stat.S_ISCHR(one.st_mode) and os.path.samestat(one, other)
    return one is other and os.path.realpath(first) == os.path.realpath(second)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        # There is nothing yet, or opening it will say what is wrong.
        return None

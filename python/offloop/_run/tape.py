"""``offloop run --trace --journal --report``: what the run writes down, and the page made of it.

Rust writes the files while the program runs (``crates/offloop/src/recorded.rs``). Only the process
that was started writes; children of the program do not.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import offloop
from _offloop_worker import _offloop
from offloop._recording import tell_collections
from offloop._run.targets import CannotRecord, Target, check_targets
from offloop._watch.reading import encodable

SPEEDSCOPE_ENDING = ".speedscope.json"
"""A trace of this name is for speedscope; any other one is for Perfetto."""


@dataclass(frozen=True)
class Wanted:
    """The files that the command line asks for.

    Attributes:
        program: as a reader of the files knows it.
        script: the program, if it is a file or a folder.
        is_stdin: the program is standard input, and the command line names none.
    """

    program: str = ""
    trace: tuple[str, ...] = ()
    journal: str | None = None
    report: str | None = None
    script: str | None = None
    is_stdin: bool = False

    @property
    def journal_path(self) -> str | None:
        """Where the journal is written; beside the report, if none is asked for."""
        if self.journal is None and self.report is not None:
            return f"{self.report}.journal"
        return self.journal

    def files(self) -> list[tuple[str, str]]:
        """Each file with its format."""
        files = [
            ("speedscope" if path.endswith(SPEEDSCOPE_ENDING) else "trace", path)
            for path in self.trace
        ]
        journal = self.journal_path
        return files if journal is None else [*files, ("journal", journal)]

    def check(self) -> None:
        """Raise `CannotRecord` for files that would be lost, or could not be written."""
        targets = [Target("trace", path) for path in self.trace]
        # The name of a journal that stands beside the report follows that of the report.
        if self.report is not None:
            targets.append(Target("report", self.report))
        if self.journal_path is not None:
            targets.append(Target("journal", self.journal_path))
        check_targets(targets, self.script, self.is_stdin)


NOTHING = Wanted()


class RunTape:
    """The files of one run."""

    def __init__(self, wanted: Wanted, threshold: float) -> None:
        self._wanted = wanted
        self._pid = os.getpid()
        wanted.check()
        told = {
            "program": encodable(wanted.program),
            "python": platform.python_version(),
            "offloop": offloop.__version__,
            "began": time.time(),
            "threshold": threshold,
        }
        try:
            self._tape = _offloop.Tape(told, wanted.files())
        except OSError as error:
            raise CannotRecord(str(error)) from None
        tell_collections()

    def finish(self) -> None:
        """Write what is left, and the page. In a forked child nothing is to be written."""
        if os.getpid() != self._pid:
            return
        if not self._tape.finish():
            _say("what was recorded last is not in the files: the disk took too long")
        if self._wanted.report is None:
            return
        journal = str(self._wanted.journal_path)
        if write_report(journal, self._wanted.report) and self._wanted.journal is None:
            with contextlib.suppress(OSError):
                os.unlink(journal)


def write_report(journal: str, out: str) -> bool:
    """Make the page of a journal; False, with one line on standard error, if that cannot be."""
    try:
        page = _offloop.report_html(journal)
    except ValueError as error:
        _say(f"there is no report of {journal}: {error}")
        return False
    try:
        Path(out).write_text(page, encoding="utf-8")
    except OSError as error:
        _say(f"the report {out} cannot be written: {error.strerror}")
        return False
    return True


def _say(text: str) -> None:
    if sys.stderr is not None:
        print(f"offloop: {text}", file=sys.stderr)

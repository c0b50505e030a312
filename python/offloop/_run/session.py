"""One run of a program: what is put in place before it, and the report after it."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import offloop
from _offloop_worker import _offloop
from offloop import _state
from offloop._run import adoption, calls, children, freezes, lag, loops, program, tape, targets
from offloop._watch.contexts import listeners

EXIT_NOT_STARTED = 2
"""The status of a command line that asks for what is not there."""
EXIT_BLOCKED = 3
"""The status of a strict run in which an event loop was blocked, and nothing else failed."""


@dataclass(frozen=True)
class Settings:
    """What the command line asks for."""

    adopt: bool = True
    report: bool = True
    loop: str = "offloop"
    gather_writes: bool = False
    watch: bool = True
    threshold: float = 0.05
    native: bool = False
    own: tuple[str, ...] = ()
    """Packages and folders that are the user's."""
    strict: bool = False
    tape: tape.Wanted = tape.NOTHING
    views: bool = True
    page: int | None = None
    """The port of the live page; none without one."""
    page_actions: bool = False
    told_at: str | None = None
    """Where a strict run is told of a stall."""


class PageRefused(Exception):
    """The live page cannot be served."""


class Session:
    """The instruments of one run."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.is_silent = False
        self.lag = lag.LagMeter()
        self.calls = calls.CallTable()
        self.freezes = freezes.FreezeWatch()
        self.adoption = adoption.Adoption()
        self.strictness: children.Strictness | None = None

    def start(self, settings: Settings) -> None:
        """Put the instruments in place, here and in the processes that the program starts."""
        if settings.strict:
            self.strictness = children.Strictness()
            atexit.register(self.strictness.close)
            settings = dataclasses.replace(settings, told_at=self.strictness.address)
        self.install(settings)
        children.install(settings)

    def install(self, settings: Settings) -> None:
        """Put the instruments in place, and order the report for after everything else."""
        if settings.report:
            # Before uvloop is imported: it keeps what it finds there.
            self.lag.install()
        loops.install(settings.loop, gather_writes=settings.gather_writes)
        if settings.adopt:
            self.adoption.install()
        if settings.report:
            atexit.register(self._report_from, os.getpid())
            _offloop.name_functions_by(calls.function_name)
            calls.watch_threads(self.calls)
            self.freezes.install((Executor, ThreadPoolExecutor, adoption.StandardPool))
        if settings.tape.files():
            threshold = settings.threshold if settings.watch else 0.0
            _offloop.name_functions_by(calls.function_name)
            if not settings.report:
                calls.watch_threads(self.calls)
            # It hears the last words of the watch, too.
            atexit.register(tape.RunTape(settings.tape, threshold).finish)
        if settings.watch:
            if settings.told_at is not None:
                # It hears of stalls also while the program watches in its own way.
                listeners.append(children.Teller(settings.told_at))
            # Its last words come before the report: exit handlers run in the opposite order.
            offloop.watch(settings.threshold, native=settings.native, own=settings.own)
        if settings.views:
            # A program runs as well where there is no private folder.
            with contextlib.suppress(OSError):
                offloop.views()
        if settings.page is not None:
            self._open_page(settings)

    def _open_page(self, settings: Settings) -> None:
        try:
            page = offloop.page(settings.page or 0, actions=settings.page_actions)
        except OSError as error:
            raise PageRefused(f"no page at port {settings.page}: {error}") from None
        print(f"offloop: live page at {page.url}", file=sys.stderr, flush=True)

    def was_blocked(self) -> bool:
        """Whether code blocked an event loop in this process or one that it has started.

        A stall in which the system did not let the program run is none of its code's.
        Threads and processes that outlive the main program end first: the interpreter would wait
        for them next. The watch is off from now on.
        """
        threading._shutdown()  # type: ignore[attr-defined]
        for child in multiprocessing.active_children():
            if not child.daemon:
                child.join()
        offloop.watch.stop()
        is_told = self.strictness is not None and self.strictness.was_told()
        statistics = offloop.watch.statistics()
        is_blamed = any(not it.cause.blames_no_code for it in statistics.culprits)
        return is_told or is_blamed or statistics.left_out.count > 0

    def _report_from(self, pid: int) -> None:
        if self.is_silent or os.getpid() != pid or sys.stderr is None:
            return
        from offloop._run.report import print_report

        self.calls.add_processes(_state.function_statistics())
        with contextlib.suppress(BrokenPipeError):
            print_report(self, sys.stderr)


def run_script(path: str, arguments: Sequence[str], settings: Settings) -> None:
    """Run the script at ``path``, or standard input for ``-``; raises only ``SystemExit``."""
    load = program.load_stdin if path == "-" else program.load_script
    _run(settings, arguments, lambda: load(path))


def run_module(name: str, arguments: Sequence[str], settings: Settings) -> None:
    """Run the module ``name`` as the main program; raises only ``SystemExit``."""
    _run(settings, arguments, lambda: program.load_module(name))


def run_code(source: str, arguments: Sequence[str], settings: Settings) -> None:
    """Run ``source`` as the main program, as ``python -c`` does; raises only ``SystemExit``."""
    _run(settings, arguments, lambda: program.load_code(source))


def run_stdin(settings: Settings) -> None:
    """Run standard input, which no argument has named, as the main program."""
    _run(settings, [], lambda: program.load_stdin(""))


def _run(settings: Settings, arguments: Sequence[str], load: Callable[[], program.Program]) -> None:
    session = Session()
    try:
        session.start(settings)
    except (loops.LoopMissing, targets.CannotRecord, PageRefused) as error:
        session.is_silent = True
        print(f"offloop run: {error}", file=sys.stderr)
        raise SystemExit(EXIT_NOT_STARTED) from None
    try:
        found = load()
    except program.ProgramMissing as error:
        session.is_silent = True
        print(f"offloop run: {error}", file=sys.stderr)
        raise SystemExit(error.status) from None
    except Exception as error:
        # Of the program's own code: of its syntax, or of a package that it stands in.
        session.is_silent = True
        program.end_with(error)
    if not settings.strict:
        program.execute(found, arguments)
        return
    try:
        program.execute(found, arguments)
    except SystemExit as ended:
        if ended.code or not session.was_blocked():
            raise
    else:
        if not session.was_blocked():
            return
    raise SystemExit(EXIT_BLOCKED)

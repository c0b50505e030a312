"""Prints the short report at the end of ``offloop run``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from offloop import watch
from offloop._main import costs, main_module
from offloop._run import calls, loop_block
from offloop._run.callsite import CallSite
from offloop._run.lag import TICK_SECONDS
from offloop._run.shown import shown
from offloop._state import EventCounts, Events, Snapshot, events_after, snapshot

if TYPE_CHECKING:
    from offloop._run.session import Session

FUNCTIONS_SHOWN = 5
LINES_SHOWN = 5
LOOPS_SHOWN = 3
WIDTH_MAX = 92
SENDING_SECONDS_MIN = 0.001
"""What a call may spend on sending globals of the main module before it is named."""


def print_report(session: Session, stream: TextIO) -> None:
    """Print what ``session`` saw."""
    console = Console(file=stream, highlight=False, soft_wrap=False)
    console.width = min(console.width, WIDTH_MAX) if console.is_terminal else WIDTH_MAX
    elapsed = time.monotonic() - session.begin
    console.print(Rule(f"offloop run: {duration(elapsed)}", align="left", style="dim"))
    _print_summary(console, session, elapsed)
    _print_functions(console, session)
    _print_remarks(console, session)


def duration(seconds: float) -> str:
    """A duration with three digits and its unit."""
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"


def _lag_text(seconds: float) -> Text:
    return Text(duration(seconds), style=loop_block.lag_style(seconds))


def _print_summary(console: Console, session: Session, elapsed: float) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    grid.add_row("loop lag", _lag_line(session))
    _add_loops(grid, session, console.options.ascii_only)
    seen = snapshot()
    grid.add_row("processes", _process_line(session, seen, elapsed))
    if seen.lanes_opened:
        if seen.events.starts or seen.events.start_failures:
            grid.add_row("", _worker_line(seen.events))
        grid.add_row("", Text(shown(main_module().describe()), style="dim"))
    grid.add_row("threads", _thread_line(session, elapsed))
    console.print(Padding(grid, (0, 0, 0, 2)))


def _lag_line(session: Session) -> Text:
    histogram, unit = session.lag.histogram()
    if not session.lag.loop_kinds:
        return Text("no event loop ran", style="dim")
    kinds = shown(", ".join(sorted(session.lag.loop_kinds)))
    if not histogram.count:
        return Text(f"shorter than one tick of {duration(TICK_SECONDS)} ({kinds})", style="dim")
    line = Text()
    for label, value in (
        ("p50 ", histogram.p50),
        ("   p99 ", histogram.p99),
        ("   worst ", histogram.max),
    ):
        line.append(label).append_text(_lag_text(value))
    return line.append(f"   {histogram.count:,} {unit}, {kinds}", style="dim")


def _add_loops(grid: Table, session: Session, is_ascii: bool) -> None:
    seen = session.lag.loops
    for loop in seen.busiest(LOOPS_SHOWN):
        statistics = loop.statistics
        name = Text("loop")
        if seen.count > 1:
            name.append(f"\n{shown(loop.thread)}", style="not bold dim")
        lines = [loop_block.load_line(statistics), loop_block.traffic_line(statistics)]
        if statistics.lag.count:
            lines.append(loop_block.lag_line(statistics.lag, duration))
            lines.append(loop_block.lag_bar(statistics.lag, is_ascii))
        grid.add_row(name, Group(*(line for line in lines if line is not None)))
    if seen.count > LOOPS_SHOWN:
        grid.add_row("", Text(f"and {seen.count - LOOPS_SHOWN:,} more loops", style="dim"))


def _process_line(session: Session, seen: Snapshot, elapsed: float) -> Text:
    if not seen.lanes_opened:
        return Text("none used", style="dim")
    counts = seen.calls
    adopted = session.adoption.adopted_count
    pools = f"{seen.lanes_opened:,} pool{'s' if seen.lanes_opened > 1 else ''}"
    calls_made = f"{counts.submitted:,} call{'s' if counts.submitted != 1 else ''}"
    line = Text(f"{calls_made} in {pools}")
    if adopted:
        line.append(f" ({adopted:,} adopted)")
    for count, word, style in (
        (counts.crashed, "crashed", "red"),
        (counts.cancelled, "cancelled", "yellow"),
        (counts.expired, "expired", "yellow"),
    ):
        if count:
            line.append(f", {count:,} {word}", style=style)
    uses = session.calls.uses(calls.PROCESSES)
    return _append_busy(line, sum(use.run_seconds for use in uses), elapsed)


def _worker_line(events: EventCounts) -> Text:
    """What became of the workers."""
    line = Text(f"{events.starts:,} worker{'s' if events.starts != 1 else ''} started", style="dim")
    for count, what, style in (
        (events.restarts, "of them in place of a crashed one", "not dim"),
        (events.crashes, "crashed", "not dim red"),
        (events.kills, "killed", "not dim yellow"),
        (events.start_failures, "failed to start", "not dim red"),
    ):
        if count:
            line.append(f", {count:,} {what}", style=style)
    return line


def _append_busy(line: Text, busy: float, elapsed: float) -> Text:
    if not busy:
        return line
    average = f"{busy / elapsed:.2f} busy on average"
    return line.append(f", {duration(busy)} of run time, {average}")


def _thread_line(session: Session, elapsed: float) -> Text:
    uses = session.calls.uses(calls.THREADS)
    if not uses:
        return Text("none used", style="dim")
    count = sum(use.calls for use in uses)
    line = Text(f"{count:,} call{'s' if count != 1 else ''}")
    return _append_busy(line, sum(use.run_seconds for use in uses), elapsed)


def _print_functions(console: Console, session: Session) -> None:
    uses = [use for use in session.calls.uses() if use.calls]
    if not uses:
        return
    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="bold")
    table.add_column("busiest functions", overflow="fold")
    table.add_column("lane", style="dim")
    for heading in ("calls", "run time", "mean"):
        table.add_column(heading, justify="right", no_wrap=True)
    for use in uses[:FUNCTIONS_SHOWN]:
        times = (use.run_seconds, use.run_seconds / use.calls)
        table.add_row(Text(shown(use.name)), use.lane, f"{use.calls:,}", *map(duration, times))
    if len(uses) > FUNCTIONS_SHOWN:
        table.add_row(Text(f"and {len(uses) - FUNCTIONS_SHOWN} more", style="dim"))
    console.print(Padding(table, (0, 0, 0, 2)))


def _print_remarks(console: Console, session: Session) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold red", no_wrap=True)
    grid.add_column()
    _add_blocked(grid, session)
    _add_freezes(grid, session)
    _add_crashes(grid, session)
    _add_kept(grid, session)
    _add_sent(grid, session)
    if grid.row_count:
        console.print(Padding(grid, (0, 0, 0, 2)))


def _add_blocked(grid: Table, session: Session) -> None:
    """What the watch has found, the longest time first; waits for executors have their own."""
    frozen = {(freeze.where.file, freeze.where.line) for freeze in session.freezes.freezes()}
    found = [
        culprit
        for culprit in watch.statistics().culprits
        if culprit.entry is None or (culprit.entry.filename, culprit.entry.lineno) not in frozen
    ]
    for culprit in found[:LINES_SHOWN]:
        blocked = culprit.blocked
        line = Text()
        if culprit.entry is not None:
            place = CallSite(culprit.entry.filename, culprit.entry.lineno or 0, "")
            line.append(shown(str(place)), "bold").append(
                f" in `{shown(culprit.entry.function)}`", ""
            )
        else:
            line.append(shown(culprit.function or "no code"), "bold")
        line.append(f" ({culprit.cause}): ", "")
        line.append(duration(blocked.total_seconds), "red")
        if blocked.count > 1:
            longest = duration(blocked.longest_seconds)
            line.append(f" in {blocked.count:,} times, at most {longest}", "")
        grid.add_row("blocked", line)
    if len(found) > LINES_SHOWN:
        grid.add_row("", Text(f"and {len(found) - LINES_SHOWN} more", style="dim"))


def _add_freezes(grid: Table, session: Session) -> None:
    seen = session.freezes.freezes()
    for freeze in seen[:LINES_SHOWN]:
        line = Text(shown(str(freeze.where)), style="bold")
        if freeze.by_with_block:
            how = f"leaving `with {shown(freeze.executor)}` on the loop's thread"
        else:
            how = f"calling `{shown(freeze.executor)}.shutdown` on the loop's thread"
        times = "" if freeze.count == 1 else f" in {freeze.count:,} times"
        line.append(f" in `{shown(freeze.where.function)}`: {how} stopped it for ", "")
        grid.add_row("frozen", line.append(f"{duration(freeze.total_seconds)}{times}", "red"))
    if len(seen) > LINES_SHOWN:
        grid.add_row("", Text(f"and {len(seen) - LINES_SHOWN} more lines", style="dim"))
    if seen:
        cure = "keep one pool for the program, or use `async with offloop.ProcessPool()`"
        grid.add_row("", Text(cure, style="dim"))


def _add_crashes(grid: Table, session: Session) -> None:
    crashed = [use for use in session.calls.uses(calls.PROCESSES) if use.crashes]
    for use in crashed[:LINES_SHOWN]:
        line = Text(shown(use.name), style="bold")
        line.append(f": {use.crashes:,} of {use.ended:,} calls ended their worker", "")
        grid.add_row("crashed", line.append(f" (the last by {use.last_crash})", ""))
    _add_idle_crashes(grid, events_after(0))


def _add_idle_crashes(grid: Table, seen: Events) -> None:
    """Workers that ended without a call: no function is to blame, and no future was told."""
    idle = [event for event in seen.events if event.kind == "crash" and not event.in_call]
    for event in idle[-LINES_SHOWN:]:
        how = calls.describe_end(event.exit_code, event.signal)
        line = Text(f"worker {event.pid}", style="bold")
        grid.add_row("crashed", line.append(f" was ended by {how} while it ran no call", ""))
    if len(idle) > LINES_SHOWN:
        grid.add_row("", Text(f"and {len(idle) - LINES_SHOWN:,} more before", style="dim"))


def _add_kept(grid: Table, session: Session) -> None:
    for kept, count in list(session.adoption.kept.items())[:LINES_SHOWN]:
        line = Text(shown(str(kept.where)), style="bold")
        times = "" if count == 1 else f", {count:,} times"
        line.append(f": the standard pool, because of {shown(kept.reason)}{times}", "")
        grid.add_row(Text("kept", style="bold yellow"), line)


def _add_sent(grid: Table, session: Session) -> None:
    """Globals whose sending costs each call more than a call should cost."""
    ended = {use.name: use.ended for use in session.calls.uses(calls.PROCESSES)}
    found = []
    for (function, (_module, path)), seconds in costs().items():
        name = function.removeprefix("__main__.")
        each = seconds / max(1, ended.get(name, 1))
        if each >= SENDING_SECONDS_MIN:
            found.append((each, name, path))
    for each, name, path in sorted(found, reverse=True)[:LINES_SHOWN]:
        line = Text(shown(name), style="bold")
        line.append(f": pickling the global `{shown(path)}` took ", "")
        line.append(duration(each), "yellow").append(" for each call", "")
        grid.add_row(Text("sent", style="bold yellow"), line)
    if found:
        cure = "it changes between calls: pass it as an argument, or move it into a module"
        grid.add_row("", Text(cure, style="dim"))

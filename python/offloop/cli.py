"""The command line: ``offloop run``, ``top``, ``report``, ``demo`` and ``doctor``.

Each command only reads its options and hands over to a package of its own, which is imported on
use, so that ``offloop run`` puts as little as possible between the interpreter and the program.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import offloop
from offloop._watch import THRESHOLD_SECONDS_MAX, THRESHOLD_SECONDS_MIN, own_code

if TYPE_CHECKING:
    from offloop._run import Wanted

    OfSeconds = click.ParamType[float]
else:
    OfSeconds = click.ParamType

OPTIONS_WITH_VALUES = ("--loop", "--threshold", "--own", "--trace", "--journal", "--report")


class Seconds(OfSeconds):
    """A time from the least to the longest threshold: seconds, or written as in ``50ms``."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The time in seconds."""
        if isinstance(value, float):
            return value
        number, scale = value.removesuffix("s"), 1.0
        if value.endswith("ms"):
            number, scale = value.removesuffix("ms"), 1e-3
        try:
            seconds = float(number) * scale
        except ValueError:
            self.fail(f"{value!r} is no time; write 50ms, 0.2s or 0.2", param, ctx)
        # What is not a number is in no range.
        if not THRESHOLD_SECONDS_MIN <= seconds <= THRESHOLD_SECONDS_MAX:
            limits = f"from {THRESHOLD_SECONDS_MIN} to {THRESHOLD_SECONDS_MAX:.0f} seconds"
            self.fail(f"{value!r} is not {limits}", param, ctx)
        return seconds


class ProgramCommand(click.Command):
    """A command whose options end where the program's own command line begins."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what follows ``-m MODULE`` or ``-c CODE`` from being read as options of ours."""
        for index, argument in enumerate(args):
            is_value = index > 0 and args[index - 1] in OPTIONS_WITH_VALUES
            if argument == "--page":
                # Any free port: what follows is the program, and no port.
                args = [*args[:index], "--page=0", *args[index + 1 :]]
                continue
            if argument in ("-", "--") or not (argument.startswith("-") or is_value):
                break
            if argument.startswith(("-m", "-c")):
                end = index + (2 if len(argument) == 2 else 1)
                args = [*args[:end], "--", *args[end:]]
                break
        return super().parse_args(ctx, args)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(offloop.__version__, "-V", "--version", prog_name="offloop")
def main() -> None:
    """Keep asyncio programs responsive: CPU work and crashes stay off the event loop."""


@main.command(
    "run",
    cls=ProgramCommand,
    context_settings={"allow_interspersed_args": False},
    options_metavar="[--loop NAME] [--threshold SECONDS] [--own NAME] [--native] "
    "[--strict] [--gather-writes] [--trace FILE] [--journal FILE] [--report FILE] "
    "[--no-adopt] [--no-watch] [--page[=PORT]] [--no-views] [--no-report]",
    short_help="Run a script, a module or code with offloop underneath.",
)
@click.option(
    "--loop",
    type=click.Choice(["offloop", "asyncio", "uvloop"]),
    default="offloop",
    show_default=True,
    help="The event loop of programs that choose none.",
)
@click.option(
    "--threshold",
    type=Seconds(),
    default=0.05,
    show_default=True,
    metavar="SECONDS",
    help="An event loop that is kept for longer is blocked: 0.05, or 50ms.",
)
@click.option(
    "--own",
    multiple=True,
    metavar="NAME",
    help="An installed package, or a folder, whose code is yours: its lines are blamed.",
)
@click.option(
    "--native",
    is_flag=True,
    help="Name functions of C that block the loop; a signal interrupts them for that.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Exit with status 3 if an event loop was blocked and the program itself did not fail.",
)
@click.option(
    "--gather-writes",
    is_flag=True,
    help="Streams send what a round of offloop's loop writes at its end, in one piece.",
)
@click.option(
    "--trace",
    multiple=True,
    metavar="FILE",
    help="Write what happens when, for Perfetto; as X.speedscope.json, for speedscope.",
)
@click.option("--journal", metavar="FILE", help="Write all that `offloop report` needs.")
@click.option("--report", metavar="FILE", help="Write a page of the run, as HTML, at its end.")
@click.option("--no-adopt", is_flag=True, help="Leave ProcessPoolExecutor as it is.")
@click.option("--no-watch", is_flag=True, help="Do not say what blocks the event loop.")
@click.option(
    "--page",
    type=click.IntRange(0, 65535),
    metavar="[=PORT]",
    help="Serve a live page on the loopback, and print its address.",
)
@click.option("--page-actions", is_flag=True, help="Let the page end calls and cancel tasks.")
@click.option("--no-views", is_flag=True, help="Let nothing attach, as `offloop top` does.")
@click.option("--no-report", is_flag=True, help="Print no report at exit.")
@click.option("-m", "module", metavar="MODULE", help="Run a module, as `python -m` does.")
@click.option("-c", "code", metavar="CODE", help="Run code, as `python -c` does.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[SCRIPT] [ARGS]...")
def run_command(
    arguments: tuple[str, ...],
    module: str | None,
    code: str | None,
    loop: str,
    threshold: float,
    own: tuple[str, ...],
    native: bool,
    strict: bool,
    gather_writes: bool,
    trace: tuple[str, ...],
    journal: str | None,
    report: str | None,
    no_adopt: bool,
    no_watch: bool,
    page: int | None,
    page_actions: bool,
    no_views: bool,
    no_report: bool,
) -> None:
    """Run SCRIPT, or a module with -m, as the main program, with offloop underneath.

    SCRIPT is what `python` takes: a file, compiled or not, a folder or an archive with a
    `__main__`, or `-` for standard input, which is also read when it is no terminal and nothing is
    named.

    asyncio makes offloop's event loop, unless the program chooses one itself, and
    `concurrent.futures.ProcessPoolExecutor` is adopted: the program's pools become offloop's.
    While a callback blocks the event loop, the line that does so is told on standard error. At exit
    a report tells how late the event loop ran, what blocked it and what its lanes did.
    Options of offloop come before SCRIPT; everything after it belongs to the program.
    """
    from offloop import _run

    if gather_writes and loop != "offloop":
        raise click.UsageError(f"--gather-writes is for offloop's loop, not for {loop}'s")
    if strict and no_watch:
        raise click.UsageError("--strict needs the watch, which --no-watch turns off")
    if page_actions and page is None:
        raise click.UsageError("--page-actions needs --page")
    if native and no_watch:
        raise click.UsageError("--native needs the watch, which --no-watch turns off")
    if own and no_watch:
        raise click.UsageError("--own needs the watch, which --no-watch turns off")
    settings = _run.Settings(
        adopt=not no_adopt,
        report=not no_report,
        loop=loop,
        gather_writes=gather_writes,
        watch=not no_watch,
        views=not no_views,
        page=page,
        page_actions=page_actions,
        threshold=threshold,
        native=native,
        own=_own(own),
        strict=strict,
        tape=_wanted(arguments, module, code, trace=trace, journal=journal, report=report),
    )
    if module is not None:
        _run.run_module(module, list(arguments), settings)
    elif code is not None:
        _run.run_code(code, list(arguments), settings)
    elif arguments:
        _run.run_script(arguments[0], list(arguments[1:]), settings)
    elif sys.stdin is not None and not sys.stdin.isatty():
        _run.run_stdin(settings)
    else:
        raise click.UsageError("name a script, a module with -m, or give code with -c")


def _own(names: tuple[str, ...]) -> tuple[str, ...]:
    """Packages and absolute folders: processes of the program may run in another folder."""
    try:
        own = own_code(names)
    except ValueError as error:
        raise click.UsageError(f"--{error}") from None
    return (*own.folders, *own.packages)


def _wanted(
    arguments: tuple[str, ...], module: str | None, code: str | None, **files: Any
) -> Wanted:
    """The files of a run, with what is known of its program."""
    from offloop._run import Wanted

    named = f"-m {module}" if module is not None else " ".join(arguments[:1])
    is_named = module is not None or code is not None
    script = None if is_named or arguments[:1] in ((), ("-",)) else arguments[0]
    is_stdin = not is_named and not arguments
    return Wanted(named or "-c", **files, script=script, is_stdin=is_stdin)


@main.command("report", short_help="Make a page of a journal.")
@click.argument("journal")
@click.option("-o", "--out", required=True, metavar="FILE", help="Where the page is written.")
def report_command(journal: str, out: str) -> None:
    """Make one self-contained HTML page of JOURNAL, which `offloop run --journal` has written.

    The page tells how long event loops were blocked, by which lines, and what to write instead; it
    has a timeline, the lag, the calls and the crashes. A journal of a program that was killed is
    as good as any, up to its last tenth of a second. The exit status is 1 if there is no page,
    and 2 if FILE is the journal itself, a program, or no file.
    """
    from offloop._run.tape import write_report
    from offloop._run.targets import CannotRecord, check_page

    try:
        check_page(journal, out)
    except CannotRecord as error:
        print(f"offloop report: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0 if write_report(journal, out) else 1)


@main.command("top", short_help="Show what a running program does, in the terminal.")
@click.option("--once", is_flag=True, help="Print one picture, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --once, print the document as JSON.")
@click.option(
    "--every",
    type=click.FloatRange(0.1, 60),
    default=0.5,
    show_default=True,
    metavar="SECONDS",
    help="How far apart pictures are.",
)
@click.argument("pid", required=False, type=click.IntRange(1, 2**31 - 1))
def top_command(pid: int | None, once: bool, as_json: bool, every: float) -> None:
    """Show what a running program does: its event loops, what blocks them, its workers and tasks.

    PID is a program under `offloop run`, or one that calls `offloop.views()`; without PID, the only
    one that there is. Any other asyncio program of the same Python version is read from outside.
    The program under view never notices.

    Exit status: 0 once you quit; 2 if a process must be named; 3 if there is none, or none that can
    be read; 4 if that is not allowed; 5 if it has ended, or does not answer.
    """
    from offloop._top import run_top

    if as_json and not once:
        raise click.UsageError("--json needs --once")
    sys.exit(run_top(pid, once=once, as_json=as_json, every_seconds=every))


@main.command("demo", short_help="See a service freeze, and stay awake under offloop.")
@click.option(
    "--seconds",
    type=click.FloatRange(0.5, 120),
    default=8.0,
    show_default=True,
    help="How long each of the four ways is under load.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out"),
    show_default=True,
    help="Where the HTML and PNG timelines are written.",
)
def demo_command(seconds: float, out: Path) -> None:
    """Run one web service four ways under the same load, and draw what happened.

    The service makes thumbnails of photographs, parses the standard library and searches pictures
    with NumPy, while a heartbeat ticks on its event loop.
    """
    from offloop._demo.story import run_demo

    sys.exit(run_demo(seconds, out))


@main.command("doctor", short_help="Say what this machine offers.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.argument("script", required=False, type=click.Path(exists=True, dir_okay=False))
def doctor_command(as_json: bool, script: str | None) -> None:
    """Say what this machine offers, and what each finding means for offloop.

    With SCRIPT, also whether workers import that program's main module or get it by value.
    """
    from offloop._doctor import run_doctor

    sys.exit(run_doctor(as_json=as_json, script=script))

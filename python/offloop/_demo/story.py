"""Runs the four ways one after the other, and tells what happened on one screen."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from offloop._demo.layout import TITLES, Panel, gap_kind, make_panel
from offloop._demo.palette import time_text
from offloop._demo.record import ClientRecord, ServiceRecord, Way, WayRecord

STRIP_CELLS = 26
STRIP_GLYPHS = {"beating": "▁", "late": "▄", "stuck": "█"}
STRIP_STYLES = {"beating": "green", "late": "yellow", "stuck": "red"}
BLAMED_SHOWN = 3
START_SECONDS_MAX = 60.0
"""A service that is not up by then will not come up."""

SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Every way computes with as many threads as it makes itself."""


class ServiceFailed(Exception):
    """A process of the demo ended before it answered."""


def run_demo(seconds: float, out: Path) -> int:
    """Run the demo and return its exit status."""
    console = Console(highlight=False)
    missing = missing_packages()
    if missing:
        console.print(f"the demo needs {', '.join(missing)}: pip install 'offloop\\[demo]'")
        return 1
    machine = describe_machine()
    console.print(Text("One web service, four ways, the same eight users", style="bold"))
    console.print(Text(machine, style="dim"))
    glyphs = {kind: f"[{STRIP_STYLES[kind]}]{glyph}[/]" for kind, glyph in STRIP_GLYPHS.items()}
    console.print(
        "Thumbnails (Pillow), parsing (ast), picture search (NumPy). On the event loop a\n"
        f"heart beats every 5 ms: {glyphs['beating']} in time, {glyphs['late']} late, "
        f"{glyphs['stuck']} stuck for more than 50 ms.\n"
    )
    panels = []
    for number, way in enumerate(Way, start=1):
        try:
            record = asyncio.run(_run_way(console, way, seconds))
        except ServiceFailed as error:
            console.print(f"[red]{TITLES[way]}: {error}[/]")
            return 1
        panels.append(make_panel(record))
        _print_way(console, number, panels[-1])
        _print_blamed(console, record.service.blamed)
    _print_table(console, panels)
    _write_timelines(console, panels, machine, out)
    return 0


def missing_packages() -> list[str]:
    """What has to be installed before the demo can run."""
    missing = []
    for module, package in (("aiohttp", "aiohttp"), ("numpy", "numpy"), ("PIL", "pillow")):
        try:
            __import__(module)
        except ModuleNotFoundError:
            missing.append(package)
    if missing:
        return missing
    from offloop._demo import work

    try:
        work.photographs()
    except work.PicturesMissing:
        missing.append("scikit-image<0.27 (for its photographs)")
    return missing


def describe_machine() -> str:
    """This machine in one line."""
    cores = len(os.sched_getaffinity(0))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{cores} cores, {python}, Linux {platform.release().partition('-')[0]}"


async def _run_way(console: Console, way: Way, seconds: float) -> WayRecord:
    environment = os.environ | SINGLE_THREADED
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "offloop._demo.service", way),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        limit=1 << 26,
    )
    try:
        port = (await _read_message(service))["port"]
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "offloop._demo.client", str(port), str(seconds)),
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 26,
        )
        asked = await _show_progress(console, way, seconds, client)
        assert service.stdin is not None
        service.stdin.close()
        seen = await _read_message(service)
    finally:
        with suppress(ProcessLookupError):
            if service.returncode is None and sys.exc_info()[0] is not None:
                service.kill()
        await service.wait()
    return WayRecord(way, ServiceRecord.from_json(seen), ClientRecord(**asked))


async def _read_message(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(START_SECONDS_MAX):
        line = await process.stdout.readline()
    if not line:
        raise ServiceFailed(f"its process ended with status {await process.wait()}")
    message: dict[str, Any] = json.loads(line)
    return message


async def _show_progress(
    console: Console, way: Way, seconds: float, client: asyncio.subprocess.Process
) -> dict[str, Any]:
    assert client.stdout is not None
    quiet = not console.is_terminal
    columns = (TextColumn("    {task.description:25}"), BarColumn(bar_width=STRIP_CELLS))
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        shown = progress.add_task(TITLES[way], total=seconds)
        reading = asyncio.ensure_future(client.stdout.read())
        while not reading.done():
            await asyncio.wait([reading], timeout=0.1)
            progress.advance(shown, 0.1)
    data = await reading
    if await client.wait() or not data:
        raise ServiceFailed(f"its client ended with status {client.returncode}")
    asked: dict[str, Any] = json.loads(data)
    return asked


def _heart_strip(panel: Panel) -> Text:
    """The heartbeat in one line: each cell shows the worst that happened in it."""
    seconds = panel.record.seconds
    origin = panel.record.client.begin
    worst = [0.0] * STRIP_CELLS
    for begin, end in panel.record.gaps():
        first = int((begin - origin) / seconds * STRIP_CELLS)
        last = int((end - origin) / seconds * STRIP_CELLS)
        for cell in range(first, min(last + 1, STRIP_CELLS)):
            worst[cell] = max(worst[cell], end - begin)
    strip = Text()
    for gap in worst:
        kind = gap_kind(gap)
        strip.append(STRIP_GLYPHS[kind], style=STRIP_STYLES[kind])
    return strip


def _print_way(console: Console, number: int, panel: Panel) -> None:
    line = Text(f"  {number} {panel.title:26}").append_text(_heart_strip(panel))
    rate = panel.record.requests_per_second
    line.append(f"  {time_text(panel.record.worst_gap_seconds):>7}  {rate:5.1f} req/s")
    console.print(line)


def _print_blamed(console: Console, lines: list[str]) -> None:
    """The lines that the watch has named."""
    for line in lines[:BLAMED_SHOWN]:
        console.print(Text(f"    the watch names {line}", style="yellow"), soft_wrap=True)


def _print_table(console: Console, panels: list[Panel]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("worst gap", "time stuck", "slowest /health", "requests/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for panel in panels:
        record = panel.record
        style = "bold green" if panel.way is Way.OFFLOOP else ""
        table.add_row(
            Text(panel.title, style=style),
            Text(time_text(record.worst_gap_seconds), style=_gap_style(record.worst_gap_seconds)),
            f"{record.stuck_share:.0%}",
            time_text(record.slowest_health_seconds),
            Text(f"{record.requests_per_second:.1f}", style=style),
        )
    console.print()
    console.print(table)
    failed = sum(panel.record.client.failed for panel in panels)
    if failed:
        console.print(f"[bold red]{failed} requests failed[/]")


def _gap_style(seconds: float) -> str:
    return f"bold {STRIP_STYLES[gap_kind(seconds)]}"


def _write_timelines(console: Console, panels: list[Panel], machine: str, out: Path) -> None:
    from offloop._demo.page import write_page
    from offloop._demo.picture import draw_picture

    out.mkdir(parents=True, exist_ok=True)
    page, picture = out / "demo.html", out / "demo.png"
    write_page(panels, machine, page)
    draw_picture(panels, machine, picture)
    console.print(f"\nWho ran where, and when the loop was stuck:\n  {picture}\n  {page}")

"""Arranges what was recorded into panels of rows, for whatever draws them.

A panel belongs to one way; its first row is the heartbeat, then the event loop's own work, then one
row for each thread or process that worked.  Where more of them came and went than rows fit, spans
share rows.

Units: seconds since the client of that way began to ask.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from offloop._demo.record import STUCK_SECONDS, Span, Way, WayRecord

ROWS_MAX = 8
"""More rows than this become too thin to read."""

BEATING_SECONDS = 0.020
"""Up to here the heart beats as it should."""

TITLES = {
    Way.LOOP: "on the event loop",
    Way.THREADS: "in threads",
    Way.POOL: "standard pool per request",
    Way.OFFLOOP: "offloop",
}
CODE = {
    Way.LOOP: "return thumbnails(photo)",
    Way.THREADS: "return await asyncio.to_thread(thumbnails, photo)",
    Way.POOL: (
        "with ProcessPoolExecutor() as pool:\n"
        "    return await loop.run_in_executor(pool, thumbnails, photo)"
    ),
    Way.OFFLOOP: "return await offloop.to_process(thumbnails, photo)",
}


@dataclass(frozen=True)
class Bar:
    """Something that lasted, on a row; ``kind`` chooses its colour."""

    begin: float
    end: float
    kind: str
    label: str


@dataclass
class Row:
    """One line of a panel."""

    label: str
    bars: list[Bar] = field(default_factory=list)


@dataclass(frozen=True)
class Panel:
    """All that is drawn of one way."""

    record: WayRecord
    heart: Row
    rows: list[Row]

    @property
    def way(self) -> Way:
        """The way that this panel shows."""
        return self.record.way

    @property
    def title(self) -> str:
        """The way in words."""
        return TITLES[self.way]


def make_panel(record: WayRecord) -> Panel:
    """Arrange one way."""
    return Panel(record, _heart_row(record), _work_rows(record))


def gap_kind(seconds: float) -> str:
    """How bad a gap between two beats is."""
    if seconds <= BEATING_SECONDS:
        return "beating"
    return "late" if seconds <= STUCK_SECONDS else "stuck"


def _heart_row(record: WayRecord) -> Row:
    """Runs of beats of the same quality, joined."""
    origin = record.client.begin
    bars: list[Bar] = []
    for begin, end in record.gaps():
        kind = gap_kind(end - begin)
        if bars and kind == "beating" == bars[-1].kind:
            begin = bars.pop().begin + origin
        label = "beating" if kind == "beating" else f"no beat for {(end - begin) * 1e3:.0f} ms"
        bars.append(Bar(begin - origin, end - origin, kind, label))
    return Row("heartbeat", bars)


def _work_rows(record: WayRecord) -> list[Row]:
    places: dict[tuple[int, int], list[Span]] = {}
    for span in sorted(record.service.spans, key=lambda span: span.begin):
        if record.client.begin <= span.end and span.begin <= record.client.end:
            places.setdefault((span.pid, span.thread), []).append(span)
    own = (record.service.pid, record.service.loop_thread)
    rows = []
    if own in places:
        rows.append(Row("event loop", _bars(record, places.pop(own))))
    is_thread = all(pid == record.service.pid for pid, _ in places)
    word = "thread" if is_thread else "process"
    if len(places) <= ROWS_MAX:
        for number, spans in enumerate(places.values(), start=1):
            rows.append(Row(f"{word} {number}", _bars(record, spans)))
        return rows
    shared = _share_rows(record, places)
    for number, row in enumerate(shared, start=1):
        row.label = f"{len(places)} {word}es" if number == 1 and not is_thread else ""
    return rows + shared


def _share_rows(record: WayRecord, places: dict[tuple[int, int], list[Span]]) -> list[Row]:
    """Put spans of many places on the first row that is free, up to `ROWS_MAX` rows."""
    rows: list[Row] = []
    bars = _bars(record, [span for spans in places.values() for span in spans])
    for bar in sorted(bars, key=lambda bar: bar.begin):
        free = [row for row in rows if row.bars[-1].end <= bar.begin]
        if free:
            free[0].bars.append(bar)
        elif len(rows) < ROWS_MAX:
            rows.append(Row("", [bar]))
        else:
            min(rows, key=lambda row: row.bars[-1].end).bars.append(bar)
    return rows


def _bars(record: WayRecord, spans: list[Span]) -> list[Bar]:
    origin, length = record.client.begin, record.seconds
    return [
        Bar(
            max(span.begin - origin, 0.0),
            min(span.end - origin, length),
            str(span.kind),
            f"{span.kind} of {span.label}, {(span.end - span.begin) * 1e3:.0f} ms, pid {span.pid}",
        )
        for span in spans
    ]

"""A request as a tree of OpenTelemetry's spans: its calls, what they did in workers, and a stall.

    python examples/traced_service.py

The handler sends a computation to a worker, which makes a span of its own, and then computes on
the loop. The tree shows both, with their times: the worker's spans stand under the caller's, and
the stall stands under the span that it delayed. Spans of the worker come through a file; a service
would have both processes export to its collector.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tempfile
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

import offloop
from offloop.integrations.opentelemetry import instrument

ROUNDS = 400_000


class ToFile(SpanExporter):
    """Appends each span that ends to a file, as a line of JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def export(self, spans) -> SpanExportResult:
        """Write the spans."""
        with self._path.open("a") as file:
            for span in spans:
                parent = span.parent and span.parent.span_id
                times = span.start_time, span.end_time
                line = json.dumps([span.context.span_id, parent, span.name, *times, os.getpid()])
                file.write(line + "\n")
        return SpanExportResult.SUCCESS


def configure(path: Path) -> None:
    """Have this process write its spans; also the initializer of the workers."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ToFile(path)))
    trace.set_tracer_provider(provider)


def sign(text: str) -> str:
    """Compute for some tenths of a second, in a span."""
    with trace.get_tracer("shop").start_as_current_span("hash"):
        return hashlib.pbkdf2_hmac("sha256", text.encode(), b"salt", ROUNDS).hex()


async def handle(pool: offloop.ProcessPool) -> None:
    """Serve a request: once as it should be, once as it should not."""
    with trace.get_tracer("shop").start_as_current_span("GET /report"):
        await pool.run(sign, "in a worker")
        with trace.get_tracer("shop").start_as_current_span("check"):
            hashlib.pbkdf2_hmac("sha256", b"on the loop", b"salt", ROUNDS)


def show(spans: list[list], parent: int | None = None, depth: int = 0) -> None:
    """Print the spans under one, in their order."""
    for number, of, name, start, end, pid in sorted(spans, key=lambda span: span[3]):
        if of == parent:
            where = "this process" if pid == os.getpid() else "a worker"
            title = "  " * depth + name
            print(f"{title:32} {(end - start) / 1e6:7.0f} ms in {where}")
            show(spans, number, depth + 1)


async def main(path: Path) -> None:
    """Serve one request, and wait until its stall was told."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_stall(stall: offloop.Stall) -> None:
        if stall.duration is not None:
            loop.call_soon_threadsafe(told.set)

    with instrument(), offloop.watch(on_stall=on_stall, words=False):
        async with offloop.ProcessPool(1, initializer=configure, initargs=(path,)) as pool:
            await asyncio.create_task(handle(pool))
            await told.wait()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        spans = Path(folder, "spans")
        configure(spans)
        offloop.run(main(spans))
        show([json.loads(line) for line in spans.read_text().splitlines()])

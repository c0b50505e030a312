"""Functions that the tests of OpenTelemetry send to workers, and how these make spans."""

from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult


class ToFile(SpanExporter):
    """Writes a line for each span: its name, its parent's id, its trace's, its status."""

    def __init__(self, path: str) -> None:
        self._path = path

    def export(self, spans):
        with open(self._path, "a") as file:
            for span in spans:
                parent = span.parent.span_id if span.parent else 0
                own = span.context
                status = span.status.status_code.name
                file.write(f"{span.name}|{own.span_id}|{parent}|{own.trace_id}|{status}\n")
        return SpanExportResult.SUCCESS


def trace_to(path: str) -> None:
    """An initializer: the worker's spans go to a file."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ToFile(path)))
    trace.set_tracer_provider(provider)


def work(number: int, *, factor: int = 1) -> int:
    """Make a span of its own."""
    with trace.get_tracer("test").start_as_current_span("inside"):
        return number * factor


def fail(text: str) -> None:
    """Raise an error."""
    raise LookupError(text)


def pieces(count: int):
    """A generator that makes a span for each item."""
    for number in range(count):
        with trace.get_tracer("test").start_as_current_span("piece"):
            yield number


async def pieces_later(count: int):
    """The same, asynchronous."""
    for number in range(count):
        with trace.get_tracer("test").start_as_current_span("piece"):
            yield number


def length(array) -> int:
    """Of something that travels without being pickled."""
    with trace.get_tracer("test").start_as_current_span("inside"):
        return len(array)


def seen() -> tuple[int, int, object]:
    """The ids of the trace and of the span in which it runs, and what is carried beside."""
    context = trace.get_current_span().get_span_context()
    return context.trace_id, context.span_id, baggage.get_baggage("customer")

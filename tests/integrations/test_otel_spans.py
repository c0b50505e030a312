"""Spans of calls and stalls, by the real SDK: in this process, and in workers."""

import asyncio
import sys
import time
from dataclasses import dataclass

import numpy
import pytest
import tracing_calls
from http_served import THRESHOLD_SECONDS, Told, with_culprit
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import offloop
from gates import PATIENCE_SECONDS, eventually
from offloop.integrations.opentelemetry import _Taken, instrument, name_of


@pytest.fixture
def provider():
    """A provider of spans that keeps what ends."""
    provider = TracerProvider()
    provider.exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(provider.exporter))
    return provider


@pytest.fixture
def tracer(provider):
    """The program's tracer; calls and stalls have spans."""
    with instrument(tracer_provider=provider):
        yield provider.get_tracer("test")


@pytest.fixture
def named(provider):
    """The spans of a name that have ended, once there are as many as are wanted."""

    def named(name, count=1):
        def found():
            return [one for one in provider.exporter.get_finished_spans() if one.name == name]

        eventually(lambda: len(found()) >= count)
        assert len(found()) == count
        return found() if count > 1 else found()[0]

    return named


def parent_of(span):
    """The id of a span's parent."""
    return span.parent and span.parent.span_id


def test_call_is_a_span_under_its_callers(run_on, tracer, named):
    async def main():
        with tracer.start_as_current_span("request"):
            return await offloop.to_process(divmod, 7, 2), await offloop.to_thread(max, 1, 2)

    assert run_on(main()) == ((3, 1), 2)
    request = named("request")
    for name, lane in (("divmod", "processes"), ("max", "threads")):
        call = named(f"call builtins.{name}")
        assert parent_of(call) == request.context.span_id
        assert call.attributes == {"code.function.name": f"builtins.{name}", "offloop.lane": lane}
        assert request.start_time <= call.start_time <= call.end_time <= request.end_time
        assert call.status.is_unset


def test_call_without_a_caller_is_a_trace_of_its_own(run_on, tracer, named):
    run_on(offloop.to_process(divmod, 7, 2))
    assert named("call builtins.divmod").parent is None


@pytest.mark.parametrize("lane", [offloop.to_process, offloop.to_thread])
def test_error_of_a_call_is_in_its_span(run_on, tracer, named, lane):
    with pytest.raises(LookupError):
        run_on(lane(tracing_calls.fail, "of the call"))
    call = named("call tracing_calls.fail")
    assert (call.status.status_code.name, call.status.description) == ("ERROR", "of the call")
    assert call.attributes["error.type"] == "LookupError"
    assert [event.name for event in call.events] == ["exception"]


def test_cancelled_call_says_so(run_on, tracer, named):
    async def main():
        task = asyncio.create_task(offloop.to_process(time.sleep, 60))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    run_on(main())
    assert named("call time.sleep").attributes["error.type"] == "CancelledError"


def test_futures_have_spans(tracer, named):
    with offloop.ProcessPool(1) as pool:
        with tracer.start_as_current_span("request"):
            assert pool.submit(abs, -1).result() == 1
            assert list(pool.map(abs, [-1, -2])) == [1, 2]
            failed = pool.submit(tracing_calls.fail, "it")
            assert isinstance(failed.exception(), LookupError)
    request = named("request").context.span_id
    assert {parent_of(span) for span in named("call builtins.abs", 3)} == {request}
    assert named("call tracing_calls.fail").attributes["error.type"] == "LookupError"


def test_refused_call_ends_its_span(tracer, named):
    pool = offloop.ProcessPool(1)
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(abs, -1)
    assert named("call builtins.abs").attributes["error.type"] == "RuntimeError"


def test_spans_of_a_thread_stand_under_its_call(run_on, provider, named):
    trace_here = provider.get_tracer("test")

    def inside():
        with trace_here.start_as_current_span("inside"):
            return 5

    with instrument(tracer_provider=provider):
        assert run_on(offloop.to_thread(inside)) == 5
    call = named(f"call {name_of(inside)}")
    assert parent_of(named("inside")) == call.context.span_id


@dataclass(frozen=True)
class Line:
    """A span that a worker has written."""

    name: str
    id: int
    parent: int
    trace: int
    status: str


@pytest.fixture
def spans_of_workers(tmp_path):
    """A pool whose worker writes its spans, and these."""
    path = tmp_path / "spans"
    path.touch()

    def read():
        fields = [line.split("|") for line in path.read_text().splitlines()]
        return [
            Line(name, int(own), int(parent), int(of), status)
            for name, own, parent, of, status in fields
        ]

    initargs = (str(path),)
    with offloop.ProcessPool(1, initializer=tracing_calls.trace_to, initargs=initargs) as pool:
        yield pool, read


def run_under(run_on, tracer, call):
    """Await a call in the span of a request."""

    async def main():
        with tracer.start_as_current_span("request"):
            return await call()

    return run_on(main())


@pytest.mark.parametrize(
    ("function", "arguments", "keywords", "result"),
    [
        (tracing_calls.work, (2,), {}, 2),
        (tracing_calls.work, (2,), {"factor": 3}, 6),
        (tracing_calls.length, (numpy.zeros(100_000),), {}, 100_000),
        (tracing_calls.length, (), {"array": b"x" * 100_000}, 100_000),
    ],
)
def test_spans_of_a_worker_stand_under_the_callers(
    run_on, tracer, named, spans_of_workers, function, arguments, keywords, result
):
    pool, read = spans_of_workers
    got = run_under(run_on, tracer, lambda: pool.run(function, *arguments, **keywords))
    assert got == result
    inside, run = read()
    call = named(f"call {name_of(function)}")
    assert (inside.name, run.name) == ("inside", f"run {name_of(function)}")
    assert (inside.parent, run.parent) == (run.id, call.context.span_id)
    assert (
        {inside.trace, run.trace} == {call.context.trace_id} == {named("request").context.trace_id}
    )
    assert run.status == "UNSET"


def test_what_is_pickled_with_its_call_is_traced_too(run_on, tracer, named, spans_of_workers):
    pool, read = spans_of_workers
    assert run_under(run_on, tracer, lambda: pool.run([3, 4].index, 4)) == 1
    [run] = read()
    assert (run.name, run.parent) == ("run list.index", named("call list.index").context.span_id)


def test_errors_of_a_worker_are_in_its_span(run_on, tracer, named, spans_of_workers):
    pool, read = spans_of_workers
    with pytest.raises(LookupError):
        run_under(run_on, tracer, lambda: pool.run(tracing_calls.fail, "it"))
    [run] = read()
    assert run.status == "ERROR"


@pytest.mark.parametrize("function", [tracing_calls.pieces, tracing_calls.pieces_later])
def test_streams_are_traced_to_their_end(run_on, tracer, named, spans_of_workers, function):
    pool, read = spans_of_workers

    async def take():
        return [item async for item in pool.stream(function, 3)]

    assert run_under(run_on, tracer, take) == [0, 1, 2]
    *inner, run = read()
    call = named(f"call {name_of(function)}")
    assert ([span.name for span in inner], run.parent) == (["piece"] * 3, call.context.span_id)
    assert {span.parent for span in inner} == {run.id}
    assert call.status.is_unset


def test_stream_that_is_left_ends_its_span(run_on, tracer, named):
    async def main():
        async with offloop.ProcessPool(1) as pool:
            async for item in pool.stream(range, 1_000_000):
                if item == 3:
                    break

    run_on(main())
    assert named("call builtins.range").status.is_unset


def test_calls_of_one_worker_do_not_mix(run_on, tracer, named, spans_of_workers):
    pool, _ = spans_of_workers

    async def one(number):
        token = otel_context.attach(baggage.set_baggage("customer", f"of-{number}"))
        with tracer.start_as_current_span(f"request-{number}"):
            found = await pool.run(tracing_calls.seen)
        otel_context.detach(token)
        return found

    async def main():
        return await asyncio.gather(*map(one, range(5)))

    for number, (of, _, customer) in enumerate(run_on(main())):
        assert (of, customer) == (named(f"request-{number}").context.trace_id, f"of-{number}")


def test_worker_without_a_provider_has_the_trace(run_on, tracer, named):
    async def main():
        with tracer.start_as_current_span("request"):
            return await offloop.to_process(tracing_calls.seen)

    of, span, _ = run_on(main())
    call = named("call tracing_calls.seen")
    assert (of, span) == (call.context.trace_id, call.context.span_id)


def test_stall_is_a_span_of_the_past_under_the_one_it_befell(run_on, tracer, provider, named):
    def blocked():
        told = Told()
        provider.exporter.clear()

        async def task():
            with tracer.start_as_current_span("request"):
                await asyncio.sleep(0)
                with tracer.start_as_current_span("work"):
                    told.found("task").wait(PATIENCE_SECONDS)

        async def main():
            await asyncio.create_task(task())

        with offloop.watch(THRESHOLD_SECONDS, told, words=False, stalls_per_minute=1_000):
            run_on(main())
            return told.wait("task", is_over=True)

    stall = with_culprit(blocked)
    # Where the machine is busy, other callbacks may have taken long, too.
    ended = provider.exporter.get_finished_spans()
    stalls = [one for one in ended if one.name == "event loop blocked"]
    [span] = [
        one for one in stalls if one.attributes.get("code.line.number") == stall.culprit.lineno
    ]
    assert parent_of(span) == named("work").context.span_id
    assert span.attributes["code.file.path"] == __file__
    assert span.attributes["code.line.number"] == stall.culprit.lineno
    assert span.attributes["offloop.stall.cause"] == stall.cause
    assert f"{__file__}:{stall.culprit.lineno} in " in span.attributes["code.stacktrace"]
    assert span.end_time - span.start_time == int(stall.duration * 1e9)


def test_nothing_is_traced_afterwards(run_on, provider):
    with instrument(tracer_provider=provider) as instrumentation:
        instrumentation.stop()
        run_on(offloop.to_thread(abs, -1))
    run_on(offloop.to_process(abs, -1))
    assert provider.exporter.get_finished_spans() == ()


def test_call_has_one_span_for_each_provider(run_on, tracer, provider, named):
    with pytest.warns(RuntimeWarning, match="nothing is begun"):
        again = instrument(tracer_provider=provider)
    other = TracerProvider()
    exporter = InMemorySpanExporter()
    other.add_span_processor(SimpleSpanProcessor(exporter))
    with again, instrument(tracer_provider=other):
        with tracer.start_as_current_span("request"):
            assert run_on(offloop.to_thread(abs, -1)) == 1
        assert [span.name for span in exporter.get_finished_spans()] == ["call builtins.abs"]
    assert parent_of(named("call builtins.abs")) == named("request").context.span_id


def test_provider_of_the_program_is_the_one_that_it_has_now():
    found = [object(), object()]
    taken = _Taken(lambda: found[-1])
    assert taken.take(None)
    assert not taken.take(None)
    assert not taken.take(found[1])
    assert taken.take(found[0])
    found.append(later := object())
    assert not taken.take(later)
    assert taken.take(found[1])
    taken.free(None)
    assert taken.take(later)


def test_provider_that_fails_is_not_in_use(provider):
    class Failing(TracerProvider):
        fails = True

        def get_tracer(self, *arguments, **keywords):
            if self.fails:
                raise LookupError("of the provider")
            return super().get_tracer(*arguments, **keywords)

    failing = Failing()
    with pytest.raises(LookupError):
        instrument(tracer_provider=failing)
    failing.fails = False
    instrument(tracer_provider=failing).stop()


def test_failure_of_a_provider_fails_no_call(run_on, provider, monkeypatch):
    raised = []

    class Failing(SimpleSpanProcessor):
        def on_start(self, span, parent_context=None):
            raise LookupError("of the provider")

    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    provider.add_span_processor(Failing(provider.exporter))
    with instrument(tracer_provider=provider):
        assert run_on(offloop.to_process(abs, -1)) == 1
        assert run_on(offloop.to_thread(abs, -2)) == 2
    assert {str(one.exc_value) for one in raised} == {"of the provider"}


def test_names_are_those_of_the_conventions():
    assert name_of(abs) == "builtins.abs"
    assert name_of(tracing_calls.work) == "tracing_calls.work"
    assert name_of(Line) == f"{__name__}.Line"
    assert name_of(trace.get_tracer("x").start_span).endswith("Tracer.start_span")

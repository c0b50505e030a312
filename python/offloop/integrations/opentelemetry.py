"""Spans and metrics of OpenTelemetry: stalls under the request's span, calls under their caller's.

The providers are those that the program has set; without any, nothing is kept. Names follow the
semantic conventions, those of ours begin with ``offloop.``.

Threads:    spans of calls begin on the thread that submits; stalls come on a thread of offloop's;
            metrics are read on the exporter's.
Source:     opentelemetry.io: semantic conventions (code, error, process, thread), trace context.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import Context
from typing import Any

import offloop
from offloop import _observing
from offloop._stopping import Stoppable
from offloop._watch import contexts
from offloop._watch.records import StackEntry, Stall
from offloop.integrations._otel_metrics import Instruments
from offloop.integrations._peers import missing

try:
    from opentelemetry import context as otel_context
    from opentelemetry import metrics, propagate, trace
except ModuleNotFoundError as _error:
    raise missing("opentelemetry", "opentelemetry-sdk") from _error

__all__ = ["Instrumentation", "instrument"]

ENTRIES_MAX = 50
"""Stack entries of a stall that its span has."""


class _Taken:
    """Providers of one kind that are told of calls and stalls: each once."""

    def __init__(self, of_program: Callable[[], Any]) -> None:
        self._of_program = of_program
        self._lock = threading.Lock()
        # None is the program's own, which it may set later.
        self._providers: list[Any] = []

    def take(self, provider: Any) -> bool:
        """Whether it was free."""
        with self._lock:
            wanted = self._resolved(provider)
            if any(self._resolved(taken) is wanted for taken in self._providers):
                return False
            self._providers.append(provider)
            return True

    def free(self, provider: Any) -> None:
        """It may be taken again."""
        with self._lock:
            self._providers.remove(provider)

    def _resolved(self, provider: Any) -> Any:
        return self._of_program() if provider is None else provider


_TRACED = _Taken(trace.get_tracer_provider)
_METERED = _Taken(metrics.get_meter_provider)


class Instrumentation(Stoppable):
    """What `instrument` has begun; ``stop()`` ends it, and so does leaving a ``with`` block."""

    def __init__(
        self, tracer: trace.Tracer | None, instruments: Instruments | None, taken: ExitStack
    ) -> None:
        self._tracer = tracer
        self._instruments = instruments
        self._taken = taken
        self._is_on = tracer is not None or instruments is not None
        if self._is_on:
            _observing.add(self._call)
            contexts.listeners.append(self._stall)

    def stop(self) -> None:
        """End it. Calls that are under way keep their spans; metrics tell nothing any more."""
        if self._is_on:
            self._is_on = False
            _observing.remove(self._call)
            contexts.listeners.remove(self._stall)
            if self._instruments is not None:
                self._instruments.stop()
            self._taken.close()

    def _call(self, lane: str, function: object) -> _Call:
        return _Call(self._tracer, self._instruments, lane, name_of(function))

    def _stall(self, stall: Stall) -> None:
        """In the context of what is to blame: its current span is the parent."""
        if stall.duration is None:
            return
        start_ns = time.time_ns() - int((time.monotonic() - stall.started) * 1e9)
        attributes = _attributes(stall)
        if self._tracer is not None:
            facts = {**attributes, **_facts(stall)}
            name = "event loop blocked"
            span = self._tracer.start_span(name, start_time=start_ns, attributes=facts)
            span.end(start_ns + int(stall.duration * 1e9))
        if self._instruments is not None:
            self._instruments.stall(stall.duration, attributes)


class _Call:
    """The span of a call, from its submission to its outcome."""

    __slots__ = ("_begun", "_context", "_instruments", "_lane", "_name", "_span", "carried")

    def __init__(
        self,
        tracer: trace.Tracer | None,
        instruments: Instruments | None,
        lane: str,
        name: str,
    ) -> None:
        self._instruments = instruments
        self._lane, self._name = lane, name
        self._span: trace.Span | None = None
        self._context: otel_context.Context | None = None
        self.carried: dict[str, str] | None = None
        if tracer is not None:
            self._begin_span(tracer)
        self._begun = time.monotonic()

    def _begin_span(self, tracer: trace.Tracer) -> None:
        attributes = {"code.function.name": self._name, "offloop.lane": self._lane}
        self._span = tracer.start_span(f"call {self._name}", attributes=attributes)
        self._context = trace.set_span_in_context(self._span)
        if self._lane == "processes":
            carried: dict[str, str] = {}
            propagate.inject(carried, self._context)
            # Without a provider there is no trace, and nothing to carry.
            if carried:
                self.carried = {**carried, "offloop.function": self._name}

    def enter(self, context: Context) -> None:
        """The call runs in this process: its spans stand under this one."""
        if self._context is not None:
            context.run(otel_context.attach, self._context)

    def end(self, error: BaseException | None) -> None:
        """The call is over."""
        seconds = time.monotonic() - self._begun
        attributes = {"code.function.name": self._name, "offloop.lane": self._lane}
        if error is not None:
            attributes["error.type"] = type(error).__qualname__
        try:
            if self._span is not None:
                self._end_span(self._span, error)
        finally:
            if self._instruments is not None:
                self._instruments.call(seconds, attributes)

    def _end_span(self, span: trace.Span, error: BaseException | None) -> None:
        try:
            if error is not None:
                span.set_attribute("error.type", type(error).__qualname__)
                span.record_exception(error)
                span.set_status(trace.StatusCode.ERROR, str(error))
        finally:
            span.end()


def instrument(
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> Instrumentation:
    """Make spans of calls and stalls, and metrics of loops, calls and workers, from now on.

    >>> with instrument():
    ...     pass

    Args:
        tracer_provider, meter_provider: the program's own unless given.

    A call of a pool or of ``to_thread`` is a span under the one that is current where it is
    submitted. Its worker gets the trace context: spans that the call makes there stand under it,
    if the worker has a provider, which an ``initializer`` sets. A stall is a span under the one
    that was current in the task that is to blame, and has the times at which it began and ended;
    stalls are found while ``offloop.watch`` is on. May be called from any thread.

    A provider is told of each call and stall once: with one that is in use already nothing is
    begun. If that leaves nothing to do, there is a ``RuntimeWarning``.
    """
    version = offloop.__version__
    tracer = instruments = None
    with ExitStack() as taken:
        if _TRACED.take(tracer_provider):
            taken.callback(_TRACED.free, tracer_provider)
            tracer = trace.get_tracer("offloop", version, tracer_provider)
        if _METERED.take(meter_provider):
            taken.callback(_METERED.free, meter_provider)
            instruments = Instruments(metrics.get_meter("offloop", version, meter_provider))
        if tracer is None and instruments is None:
            text = "these providers have offloop's spans and metrics already: nothing is begun"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return Instrumentation(tracer, instruments, taken.pop_all())


def name_of(function: object) -> str:
    """Module and qualified name of what is called, as the conventions want it."""
    inner = getattr(function, "func", function)
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    module = getattr(inner, "__module__", None)
    return f"{module}.{name}" if isinstance(module, str) else str(name)


def _attributes(stall: Stall) -> dict[str, str]:
    """What there are few of: causes, and functions that are to blame."""
    found = {"offloop.stall.cause": str(stall.cause)}
    function = stall.culprit.function if stall.culprit else stall.callback
    if function is not None:
        found["code.function.name"] = function
    if stall.culprit is not None:
        found["code.file.path"] = stall.culprit.filename
    return found


def _facts(stall: Stall) -> dict[str, Any]:
    """All else, for the span alone."""
    culprit = stall.culprit
    facts = {
        "code.line.number": culprit and culprit.lineno,
        "code.stacktrace": "\n".join(map(_line, stall.stack[:ENTRIES_MAX])) or None,
        "thread.name": stall.thread or None,
        "offloop.stall.detail": stall.detail,
        "offloop.stall.advice": stall.advice,
        "offloop.stall.request": stall.request,
        "offloop.stall.task": stall.task and stall.task.name,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _line(entry: StackEntry) -> str:
    return f"{entry.filename}:{entry.lineno} in {entry.function}"

"""Spans and metrics of OpenTelemetry: stalls under the request's span, calls under their caller's.

The providers are those that the program has set; without any, nothing is kept. Names follow the
semantic conventions, those of ours begin with ``offloop.``.

Threads:    spans of calls begin on the thread that submits; stalls come on a thread of offloop's;
            metrics are read on the exporter's.
Source:     opentelemetry.io: semantic conventions (code, error, process, thread), trace context.
"""

from __future__ import annotations

import time
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


class Instrumentation(Stoppable):
    """What `instrument` has begun; ``stop()`` ends it, and so does leaving a ``with`` block."""

    def __init__(self, tracer: trace.Tracer, instruments: Instruments) -> None:
        self._tracer = tracer
        self._instruments = instruments
        self._is_on = True
        _observing.add(self._call)
        contexts.listeners.append(self._stall)

    def stop(self) -> None:
        """End it. Calls that are under way keep their spans; metrics tell nothing any more."""
        if self._is_on:
            self._is_on = False
            _observing.remove(self._call)
            contexts.listeners.remove(self._stall)
            self._instruments.stop()

    def _call(self, lane: str, function: object) -> _Call:
        return _Call(self._tracer, self._instruments, lane, name_of(function))

    def _stall(self, stall: Stall) -> None:
        """In the context of what is to blame: its current span is the parent."""
        if stall.duration is None:
            return
        start_ns = time.time_ns() - int((time.monotonic() - stall.started) * 1e9)
        attributes = _attributes(stall)
        span = self._tracer.start_span(
            "event loop blocked", start_time=start_ns, attributes={**attributes, **_facts(stall)}
        )
        span.end(start_ns + int(stall.duration * 1e9))
        self._instruments.stall(stall.duration, attributes)


class _Call:
    """The span of a call, from its submission to its outcome."""

    __slots__ = ("_begun", "_context", "_instruments", "_lane", "_name", "_span", "carried")

    def __init__(
        self, tracer: trace.Tracer, instruments: Instruments, lane: str, name: str
    ) -> None:
        self._instruments = instruments
        self._lane, self._name = lane, name
        attributes = {"code.function.name": name, "offloop.lane": lane}
        self._span = tracer.start_span(f"call {name}", attributes=attributes)
        self._context = trace.set_span_in_context(self._span)
        self.carried: dict[str, str] | None = None
        if lane == "processes":
            carried: dict[str, str] = {}
            propagate.inject(carried, self._context)
            # Without a provider there is no trace, and nothing to carry.
            if carried:
                self.carried = {**carried, "offloop.function": name}
        self._begun = time.monotonic()

    def enter(self, context: Context) -> None:
        """The call runs in this process: its spans stand under this one."""
        context.run(otel_context.attach, self._context)

    def end(self, error: BaseException | None) -> None:
        """The call is over."""
        seconds = time.monotonic() - self._begun
        attributes = {"code.function.name": self._name, "offloop.lane": self._lane}
        try:
            if error is not None:
                attributes["error.type"] = type(error).__qualname__
                self._span.set_attribute("error.type", attributes["error.type"])
                self._span.record_exception(error)
                self._span.set_status(trace.StatusCode.ERROR, str(error))
        finally:
            self._span.end()
            self._instruments.call(seconds, attributes)


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
    """
    version = offloop.__version__
    tracer = trace.get_tracer("offloop", version, tracer_provider)
    meter = metrics.get_meter("offloop", version, meter_provider)
    return Instrumentation(tracer, Instruments(meter))


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

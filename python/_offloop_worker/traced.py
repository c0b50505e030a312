"""The trace of OpenTelemetry that a call belongs to, in the worker that runs it.

The program has sent what the W3C's trace context is written as. Spans that the call makes stand
under the program's span, if the worker has a provider of spans; an initializer may set one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

__all__ = ["Traced", "enter"]


class Traced:
    """A call that runs within its trace."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Any, token: Any) -> None:
        self._span = span
        self._token = token

    def leave(self, error: BaseException | None) -> None:
        """The call is over."""
        from opentelemetry import context, trace

        context.detach(self._token)
        try:
            if error is not None:
                self._span.set_attribute("error.type", type(error).__qualname__)
                self._span.record_exception(error)
                self._span.set_status(trace.StatusCode.ERROR, str(error))
        finally:
            self._span.end()


def enter(function: Callable[..., Any], carried: dict[str, str]) -> Traced | None:
    """Begin the span of a call; None where the worker cannot import OpenTelemetry."""
    try:
        from opentelemetry import context, propagate, trace
    except ImportError:
        return None
    parent = propagate.extract(carried)
    name = carried["offloop.function"]
    attributes: dict[str, Any] = {"code.function.name": name, "process.pid": os.getpid()}
    span = trace.get_tracer("offloop").start_span(f"run {name}", parent, attributes=attributes)
    return Traced(span, context.attach(trace.set_span_in_context(span, parent)))

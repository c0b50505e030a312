"""Numbers for Prometheus; the text is Rust's (``crates/offloop/src/metrics.rs``)."""

from __future__ import annotations

from _offloop_worker import _offloop

__all__ = ["metrics"]


def metrics() -> str:
    r"""What loops, calls and workers do, in the text format of Prometheus.

    Serve it from any handler, as ``text/plain; version=0.0.4``. Durations are in seconds, memory
    in bytes, and counters never go down. It is a few kilobytes and takes well under a
    millisecond. Any thread may call it, and nothing is raised. It tells of this process only; a
    server of several processes has as many texts.

    >>> import offloop
    >>> "offloop_loop_lag_seconds_count" in offloop.metrics()
    True
    """
    return _offloop.metrics_text()

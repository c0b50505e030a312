"""Numbers for Prometheus; the text is Rust's (``crates/offloop/src/metrics.rs``)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from _offloop_worker import _offloop
from offloop._watch.reading import encodable

__all__ = ["metrics"]

_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_OWN_LABELS = ("event", "le", "outcome", "state")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def metrics(*, labels: Mapping[str, str] | None = None) -> str:
    r"""What loops, calls and workers do, in the text format of Prometheus.

    Serve it from any handler, as ``text/plain; version=0.0.4``. Durations are in seconds, memory
    in bytes, and counters never go down. It is a few kilobytes and takes well under a
    millisecond. Any thread may call it. It tells of this process only; a server of several
    processes has as many texts.

    Args:
        labels: what every sample has besides its own labels, such as the process in a server of
            several. Raises ``TypeError`` or ``ValueError`` for what Prometheus does not take as
            a label, and for ``event``, ``le``, ``outcome`` and ``state``, which samples have.

    >>> import offloop
    >>> "offloop_loop_lag_seconds_count" in offloop.metrics()
    True
    >>> 'offloop_loops{worker="1"} ' in offloop.metrics(labels={"worker": "1"})
    True
    """
    text = _offloop.metrics_text()
    if not labels:
        return text
    constant = _labels_text(labels)
    return "".join(_with_labels(line, constant) for line in text.splitlines(keepends=True))


def _labels_text(labels: Mapping[str, str]) -> str:
    """Labels as they stand between braces."""
    for name, value in labels.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"labels must be texts, not {name!r}: {value!r}")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a label of Prometheus")
        if name in _OWN_LABELS:
            raise ValueError(f"samples have a label {name!r} of their own")
    escaped = {name: encodable(value).translate(_ESCAPES) for name, value in labels.items()}
    return ",".join(f'{name}="{value}"' for name, value in escaped.items())


def _with_labels(line: str, constant: str) -> str:
    """A line of the text with more labels. No name has a blank or a brace in it."""
    if line.startswith("#"):
        return line
    name, blank, rest = line.partition(" ")
    series, brace, own = name.partition("{")
    return f"{series}{{{constant}{',' + own if brace else '}'}{blank}{rest}"

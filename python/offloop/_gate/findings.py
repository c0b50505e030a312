"""What the gate has found: one record for each thing, in words and in parts."""

from __future__ import annotations

import enum
import os
import threading
from dataclasses import dataclass
from typing import NamedTuple

from offloop._watch.loss_words import words_of
from offloop._watch.losses import Loss, LossKind
from offloop._watch.records import Stall, StallCause
from offloop._watch.tasks import Place

__all__ = [
    "BLAMELESS",
    "Finding",
    "Kind",
    "Phase",
    "of_executor",
    "of_loss",
    "of_stall",
    "of_task",
    "of_thread",
    "shown",
]

_working_folder = os.getcwd
"""As it was when this was imported: a test may replace it."""

BLAMELESS = {
    StallCause.STARVED: "the system did not let the process run",
    StallCause.STOPPED: "a debugger or a signal had stopped the process",
    StallCause.COLLECTION: "garbage of the whole run was collected",
}
"""Causes for which no test is to blame."""


class Kind(enum.StrEnum):
    """What was found."""

    STALL = "stall"
    """The test has blocked an event loop."""
    TASK = "task"
    """A task is pending that the test has begun, or was when its loop ended."""
    EXCEPTION = "exception"
    """A task has an exception that no code can ask for any more."""
    COROUTINE = "coroutine"
    """A coroutine was never awaited."""
    DEADLOCK = "deadlock"
    """Tasks await each other in a circle."""
    EXECUTOR = "executor"
    """An executor of the test's still has threads or processes."""
    THREAD = "thread"
    """A thread that the test has begun still runs."""


class Phase(NamedTuple):
    """A phase of a test, as of its beginning."""

    test: str
    when: str
    started: float
    """Seconds of ``time.monotonic``."""
    max_stall_seconds: float
    allow: frozenset[str]


@dataclass(frozen=True)
class Finding:
    """Something that was found.

    Attributes:
        kind: what.
        phase: in which phase of which test it began; None if in none.
        summary: one line.
        words: all of it, in several lines.
        place: the line that is to blame, or where the thing was made or waits.
        seconds: for a stall: how long it was, or has been so far.
    """

    kind: Kind
    phase: Phase | None
    summary: str
    words: str
    place: Place | None
    seconds: float | None = None


def of_stall(stall: Stall, words: str | None, phase: Phase | None, seconds: float) -> Finding:
    """A stall, which may still last."""
    entry = stall.culprit or (stall.stack[0] if stall.stack else None)
    place = None if entry is None else Place(entry.filename, entry.lineno or 0, entry.function)
    where = "" if place is None else f"{_at(place)} in {place.function}"
    lasts = "" if stall.duration is not None else ", and it still is"
    which = "" if stall.thread in ("", "MainThread") else f" in thread {stall.thread}"
    blocked = f"event loop{which} blocked for {seconds * 1_000:.0f} ms"
    summary = f"{blocked}{where}{lasts}"
    return Finding(Kind.STALL, phase, summary, _headed(summary, words or ""), place, seconds)


_LOSSES = {
    LossKind.EXCEPTION: (Kind.EXCEPTION, "an exception was lost: {what}"),
    LossKind.FORGOTTEN: (Kind.TASK, "task {task} was pending when its loop was closed"),
    LossKind.DANGLING: (Kind.TASK, "nothing refers to the pending task {task}"),
    LossKind.UNAWAITED: (Kind.COROUTINE, "a coroutine was never awaited: {what}"),
    LossKind.DEADLOCK: (Kind.DEADLOCK, "tasks await each other in a circle"),
}


def of_loss(loss: Loss, phase: Phase | None) -> Finding:
    """Something that the program has lost."""
    kind, pattern = _LOSSES[loss.kind]
    task = "" if loss.task is None else f"{loss.task.name} ({loss.task.coroutine})"
    place = loss.where or loss.made or (loss.circle[0].where if loss.circle else None)
    summary = pattern.format(what=loss.what, task=task) + _at(place)
    return Finding(kind, phase, summary, _headed(summary, words_of(loss)), place)


def of_task(name: str, moment: str, lines: list[str], place: Place | None) -> Finding:
    """A task that was left behind; its phase is not known yet."""
    summary = f"task {name} was still pending {moment}{_at(place)}"
    return Finding(Kind.TASK, None, summary, _in_lines(summary, lines), place)


def of_executor(kind: str, count: int, made: Place | None) -> Finding:
    """An executor that was not shut down."""
    held = "1 worker" if count == 1 else f"{count} workers"
    summary = f"a {kind} with {held} was not shut down{_at(made)}"
    lines = [] if made is None else [f"made     {shown(made)} in {made.function}"]
    return Finding(Kind.EXECUTOR, None, summary, _in_lines(summary, lines), made)


def of_thread(thread: threading.Thread, place: Place | None) -> Finding:
    """A thread that still runs."""
    summary = f"thread {thread.name} still runs{_at(place)}"
    lines = [] if place is None else [f"is at    {shown(place)} in {place.function}"]
    return Finding(Kind.THREAD, None, summary, _in_lines(summary, lines), place)


def shown(place: Place) -> str:
    """A place as a person reads it: from the working folder on."""
    try:
        folder = _working_folder() + os.sep
    except OSError:
        # A test may have removed it.
        folder = ""
    return f"{place.filename.removeprefix(folder)}:{place.line}"


def _at(place: Place | None) -> str:
    return "" if place is None else f" at {shown(place)}"


def _headed(summary: str, words: str) -> str:
    """Words whose first line is the summary, which says where."""
    return "\n".join([f"offloop: {summary}", *words.splitlines()[1:]])


def _in_lines(summary: str, lines: list[str]) -> str:
    return "\n    ".join([f"offloop: {summary}", *lines])

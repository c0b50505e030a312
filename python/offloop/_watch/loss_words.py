"""What a person reads of something that was lost: once for each place, on standard error.

The words go to the watchdog's thread, which writes them: a standard error that is not read holds up
no loop.
"""

from __future__ import annotations

from collections.abc import Callable

from _offloop_worker import _offloop
from offloop._watch.losses import Loss, LossKind, LossMoment
from offloop._watch.tasks import Place

__all__ = ["LossTelling", "words_of"]

TOLD_MAX = 100
"""Different losses that are told; those beyond are in ``watch.losses()``."""


class LossTelling:
    """Tells a program, and a person, of what was lost."""

    def __init__(self) -> None:
        self._on_loss: Callable[[Loss], object] | None = None
        self._words = False
        self._told: set[tuple[LossKind, str, Place | None]] = set()

    def begin(self, on_loss: Callable[[Loss], object] | None, *, words: bool) -> None:
        """Tell these from now on."""
        self._on_loss, self._words = on_loss, words

    def __call__(self, loss: Loss) -> None:
        """Tell of one."""
        if self._words:
            self._say(loss)
        if self._on_loss is not None:
            self._on_loss(loss)

    def _say(self, loss: Loss) -> None:
        name = loss.what if loss.task is None else loss.task.coroutine
        key = (loss.kind, name, loss.where)
        if key not in self._told and len(self._told) < TOLD_MAX:
            self._told.add(key)
            _offloop.watch_say(words_of(loss))


def words_of(loss: Loss) -> str:
    """A loss in words, in several lines."""
    lines = [f"offloop: {_HEADINGS[loss.kind](loss)}"]
    if loss.task is not None:
        task = f"task     {loss.task.name} ({loss.task.coroutine})"
        made = "" if loss.task.made is None else f", made at {loss.task.made}"
        lines.append(task + made)
    if loss.where is not None:
        function = f" in {loss.where.function}" if loss.where.function else ""
        lines.append(f"{_WHERE[loss.kind]:8} {loss.where}{function}")
    if loss.made is not None and loss.made != loss.where:
        lines.append(f"made     {loss.made}")
    for waiting in loss.circle:
        where = "" if waiting.where is None else f" at {waiting.where}"
        lines.append(f"awaits   {waiting.name} ({waiting.coroutine}){where}")
    return "\n    ".join(lines)


def _of_exception(loss: Loss) -> str:
    if loss.moment is LossMoment.GRACE:
        return f"nothing has asked a task for its exception so far: {loss.what}"
    return f"an exception is lost, for nothing awaits the task: {loss.what}"


def _of_forgotten(loss: Loss) -> str:
    if loss.moment is LossMoment.EXIT:
        return "a task was pending when the program ended"
    return "a task was pending when its loop was closed"


def _of_deadlock(loss: Loss) -> str:
    if loss.moment is LossMoment.GRACE:
        return "tasks have awaited each other in a circle for a minute, until one is cancelled"
    return "tasks await each other in a circle: none goes on unless one is cancelled"


_HEADINGS: dict[LossKind, Callable[[Loss], str]] = {
    LossKind.EXCEPTION: _of_exception,
    LossKind.FORGOTTEN: _of_forgotten,
    LossKind.DANGLING: lambda _: "nothing refers to a pending task, which may vanish any time",
    LossKind.UNAWAITED: lambda loss: f"a coroutine was never awaited: {loss.what}",
    LossKind.DEADLOCK: _of_deadlock,
}

_WHERE: dict[LossKind, str] = {
    LossKind.EXCEPTION: "raised",
    LossKind.FORGOTTEN: "waits",
    LossKind.DANGLING: "waits",
    LossKind.UNAWAITED: "died",
    LossKind.DEADLOCK: "waits",
}

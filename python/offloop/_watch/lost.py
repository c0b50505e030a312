"""Finds what a program loses, at once and not when garbage is collected.

On a loop of ours each step of a task is looked at natively (`event_loop/round/endings.rs`). Any
other loop has a list of its tasks, and looks now and then which of them are over: before it waits,
or at each of its beats (`event_loop/round/foreign_tasks.rs`). Where it does neither, its tasks get
a callback for their end.

A task that fails is unseen by all at first: what awaits it asks for the exception in the next round
of the loop. So the task is looked at after that round. If nothing but itself refers to it then, its
exception is lost for certain. If something does, it has a grace, and is told of as uncertain.

The program sees the same as without the watch: the exception handler of the loop is called for what
is collected, warnings are given, both in their order. Where tasks get a callback, the text of a
pending task shows it.

Threads:    any; each loop is looked at in its own thread.
Invariants: 1. Each task is told of once for each kind of loss.
            2. No task, exception or loop is kept alive.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import sys
import types
import warnings
from asyncio import events
from collections.abc import Callable
from typing import Any

from _offloop_worker._offloop import Overheard, TaskEnds, heard_create_task
from offloop._loop.event_loop import EventLoop
from offloop._watch import makers, tasks
from offloop._watch.facts import Place, facts_of_task
from offloop._watch.hooks import Front, hear_announcements, stand_in_front
from offloop._watch.loop_losses import LoopLosses
from offloop._watch.losses import Loss, LossKind, LossMoment
from offloop._watch.per_loop import PerLoop
from offloop._watch.reading import text_of

__all__ = ["LossWatch"]

GRACE_SECONDS = 5.0
"""Longer than a program does other things between a task's start and the wait for it, mostly."""

LOSSES_MAX = 1_000
"""Records that are kept; what comes later is counted, and told."""

UNAWAITED_MAX = 1_000
"""Different coroutines and lines that are told apart."""


LookThrough = Callable[[asyncio.AbstractEventLoop, TaskEnds], bool]
"""Has a loop look which of its tasks are over; whether it can do that."""


def _nothing(_loss: Loss) -> None:
    """What is called after the program's callback."""


def _look_never(_loop: asyncio.AbstractEventLoop, _ends: TaskEnds) -> bool:
    """Where nothing tells a loop's rounds."""
    return False


class LossWatch:
    """Finds lost exceptions, tasks and coroutines, from `install` to `remove`.

    ``told`` is called with each `Loss` in the thread that finds it, mostly the loop's; what it
    raises goes to ``sys.unraisablehook``.
    """

    def __init__(
        self,
        told: Callable[[Loss], object] | None = None,
        *,
        grace_seconds: float = GRACE_SECONDS,
        look_through: LookThrough = _look_never,
    ) -> None:
        self.losses: list[Loss] = []
        self.left_out = 0
        """Losses that are not in the list because it is full."""
        self.no_makers: str | None = None
        """Why it is not known where tasks are made, if so: the stack cannot be read here."""
        self.grace_seconds = grace_seconds
        self._look_through = look_through
        self._told = None if told is None else Overheard(told, _nothing)
        self._numbers = itertools.count(1)
        self._unawaited: dict[tuple[str, Place | None], int] = {}
        self._told_unawaited: set[tuple[str, Place | None]] = set()
        self._loops: PerLoop[LoopLosses] = PerLoop()
        self._open: PerLoop[bool] = PerLoop()
        """Those loops that were not seen to be closed."""
        self._fronts: list[Front] = []
        self._classes: list[type] = []
        self._installed = False

    def unawaited(self) -> dict[tuple[str, Place | None], int]:
        """How often each coroutine was never awaited, by its name and the line where it died."""
        return dict(self._unawaited)

    def tell_unawaited_again(self) -> None:
        """From now on tell of each such coroutine and line once more."""
        self._told_unawaited.clear()

    # Standing in front of asyncio, and going away again.

    def install(self, *loops: asyncio.AbstractEventLoop) -> None:
        """Begin with these loops, with the running one, and with each that begins to run.

        A loop that does not announce itself to asyncio where this stands must be given. uvloop does
        that only if it is imported later, but is known here.
        """
        if not self._installed:
            self._installed = True
            self._fronts += hear_announcements(self._announced)
            warn = warnings._warn_unawaited_coroutine  # type: ignore[attr-defined]
            overheard = Overheard(self._died, warn)
            self._fronts.append(Front(warnings, "_warn_unawaited_coroutine", overheard))
            atexit.register(self._exit)
            self.no_makers = makers.remember()
            uvloop = sys.modules.get("uvloop")
            if uvloop is not None:
                # It has asyncio's function for announcements already.
                self._stand_before(uvloop.Loop)
        running = events._get_running_loop()
        for loop in (*loops, *([] if running is None else [running])):
            self.attend(loop)

    def remove(self) -> None:
        """Go away; what was found stays in the list."""
        if not self._installed:
            return
        self._installed = False
        atexit.unregister(self._exit)
        if self.no_makers is None:
            makers.forget()
        for front in reversed(self._fronts):
            front.step_aside()
        self._fronts.clear()
        self._classes.clear()
        for loop, losses in self._loops.items():
            losses.stop()
            if isinstance(loop, EventLoop) and loop._losses is losses:
                loop._losses = None
                loop._watch_tasks()
        self._loops.clear()

    def attend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Find the losses of a loop from now on."""
        if not self._installed or self._loops.get(loop) is not None or loop.is_closed():
            return
        losses = LoopLosses(loop, self.tell, self.grace_seconds)
        is_ours = isinstance(loop, EventLoop)
        if not is_ours and self._look_through(loop, losses.ends):
            losses.ends.are_looked_through()
        self._loops.set(loop, losses)
        self._open.set(loop, True)
        if isinstance(loop, EventLoop):
            loop._losses = losses
            loop._watch_tasks(tasks.STEP, losses.ended, losses.idle)
            return
        self._stand_before(type(loop))
        for task in tasks.pending_tasks(loop):
            losses.ends.listen(task)

    def open_loops(self) -> list[asyncio.AbstractEventLoop]:
        """Those loops that are not closed."""
        loops = [loop for loop, _ in self._open.items()]
        for loop in loops:
            if loop.is_closed():
                self._open.discard(loop)
        return [loop for loop in loops if not loop.is_closed()]

    def _stand_before(self, kind: type) -> None:
        if kind in self._classes or any(issubclass(kind, known) for known in self._classes):
            return
        self._classes.append(kind)
        methods: dict[str, Callable[..., Any]] = {
            "call_exception_handler": self._reported,
            "close": self._closed,
        }
        self._fronts += [stand_in_front(kind, name, method) for name, method in methods.items()]
        create_task = heard_create_task(kind, self._created)
        self._fronts.append(Front(kind, "create_task", create_task))

    # What is heard.

    def _announced(self, loop: asyncio.AbstractEventLoop | None) -> None:
        if loop is not None and self._loops.get(loop) is None:
            self.attend(loop)

    def _created(self, loop: Any, task: Any) -> TaskEnds | None:
        losses = self._loops.get(loop)
        if losses is not None:
            if tasks.is_task(task):
                losses.made(task)
                losses.ends.listen(task)
            return losses.ends
        # The task is one of those that the loop has by now.
        self.attend(loop)
        losses = self._loops.get(loop)
        if losses is None:
            return None
        if tasks.is_task(task):
            losses.made(task)
        return losses.ends

    def _reported(
        self, call_exception_handler: Callable[..., Any], loop: Any, *args: Any, **kwargs: Any
    ) -> Any:
        losses = self._loops.get(loop)
        context = args[0] if args else kwargs.get("context")
        if losses is not None:
            losses.reported(context)
        return call_exception_handler(*args, **kwargs)

    def _closed(self, close: Callable[..., Any], loop: Any) -> None:
        losses = self._loops.get(loop)
        if losses is None or loop.is_closed() or loop.is_running():
            return close()  # type: ignore[no-any-return]
        with losses.closing(loop, LossMoment.CLOSED):
            close()
        self._open.discard(loop)
        return None

    def _exit(self) -> None:
        for loop, losses in self._loops.items():
            if not loop.is_closed() and not loop.is_running():
                with losses.closing(loop, LossMoment.EXIT):
                    pass

    def _died(self, coroutine: object) -> None:
        """A coroutine that was never awaited dies, in the line that lets go of it."""
        name, where, made = "?", None, None
        frame = sys._getframe().f_back
        code = None if frame is None else frame.f_code
        if frame is not None and code is not None:
            where = Place(code.co_filename, frame.f_lineno or 0, text_of(code.co_qualname))
        if type(coroutine) is types.CoroutineType:
            name = text_of(coroutine.__qualname__) or "?"
            if coroutine.cr_origin:
                made = Place(*coroutine.cr_origin[0])
            elif code is not None and coroutine.cr_code.co_name in names_of(code):
                # What let go of it names it: nearly always the line has called it, too.
                made = where
        key = name, where
        count = self._unawaited.get(key, 0)
        if count or len(self._unawaited) < UNAWAITED_MAX:
            self._unawaited[key] = count + 1
        if key not in self._told_unawaited:
            if len(self._told_unawaited) < UNAWAITED_MAX:
                self._told_unawaited.add(key)
            self.tell(LossKind.UNAWAITED, LossMoment.COLLECTED, where=where, made=made, what=name)

    # What is told.

    def tell(self, kind: LossKind, moment: LossMoment, **about: Any) -> None:
        """Keep a record, and call the program."""
        future = about.pop("future", None)
        if future is not None and tasks.is_task(future):
            about["task"] = facts_of_task(future)
        elif future is not None:
            about["made"] = tasks.made_at(future)
        loss = Loss(next(self._numbers), kind, moment, **about)
        if len(self.losses) < LOSSES_MAX:
            self.losses.append(loss)
        else:
            self.left_out += 1
        if self._told is not None:
            self._told(loss)

    def idle(self, loop: asyncio.AbstractEventLoop, for_ever: bool) -> float | None:
        """A loop that is not ours has nothing to do, for ever or for now.

        Returns in how many seconds this is to be called again, if that matters.
        """
        losses = self._loops.get(loop)
        return None if losses is None else losses.idle(loop, for_ever)

    def look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look for deadlocks and dangling tasks of a loop now."""
        losses = self._loops.get(loop)
        if losses is not None:
            losses.look(loop)


def names_of(code: types.CodeType) -> tuple[str, ...]:
    """The names of functions that a function may call."""
    return (*code.co_names, *code.co_varnames, *code.co_cellvars, *code.co_freevars)

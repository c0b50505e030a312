"""The watch's switch: ``offloop.watch(...)`` turns it on, ``offloop.watch.stop()`` off."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, Self

import _offloop_worker
from _offloop_worker import _offloop
from offloop._arguments import count, values
from offloop._stopping import Stoppable
from offloop._watch.contexts import InContext
from offloop._watch.foreign import Announcements
from offloop._watch.hearing import Hearing
from offloop._watch.layers import Layer, Layers, Wanted
from offloop._watch.loss_words import LossTelling
from offloop._watch.losses import Loss
from offloop._watch.lost import LossWatch
from offloop._watch.own import NOTHING, Own, own_code
from offloop._watch.records import (
    Blocked,
    Culprit,
    StackEntry,
    Stall,
    StallCause,
    WatchStatistics,
)

__all__ = ["Watch", "Watching", "watch"]

THRESHOLD_SECONDS_MIN = 0.001
"""Less than a loop's usual work takes, and than the kernel keeps a thread off its core."""
THRESHOLD_SECONDS_MAX = 3600.0

STDERR = 2

DEMO_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_demo")
"""A program like any other."""

STANDARD_FOLDERS = sorted({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
OFFLOOP_FOLDERS = [
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    os.path.dirname(os.path.abspath(_offloop_worker.__file__)),
]


class Watch(Stoppable):
    """The watch of this process, for one thread at a time to turn on and off."""

    def __init__(self) -> None:
        self._is_hooked = False
        self._telling = LossTelling()
        self._losses = LossWatch(self._telling, look_through=self._look_through)
        self._announcements = Announcements(self._losses.idle)
        self._layers = Layers(self._apply)

    def __call__(
        self,
        threshold: float = 0.05,
        on_stall: Callable[[Stall], object] | None = None,
        *,
        on_loss: Callable[[Loss], object] | None = None,
        words: bool = True,
        log: bool = False,
        losses: bool = True,
        variables: Sequence[ContextVar[Any]] = (),
        native: bool = False,
        stalls_per_minute: int = 30,
        own: Iterable[str | os.PathLike[str]] = (),
    ) -> Watching:
        """Watch the event loops of this process; called again, with other settings.

        As a ``with`` block, until its end: then the watch is as it was before.

        Args:
            threshold: seconds. A callback, or a round of callbacks, that lasts longer is a stall.
            on_stall: called with a `Stall` when one is found and when it is over, on a thread of
                offloop's. It sees the context variables of the task or callback that is to blame,
                once these are known. What it raises goes to ``sys.unraisablehook``.
            on_loss: called with a `Loss` when one is found, in the thread that finds it, mostly
                the loop's.
            words: whether all that is told on standard error.
            log: whether stalls are told to the logger ``offloop.watch``.
            losses: whether lost errors, tasks and coroutines are looked for.
            variables: context variables whose values are told with a stall.
            native: whether functions of C are named. A thread that computes in one is interrupted
                for that by SIGURG, or SIGWINCH if the program handles that one. A thread that waits
                is left alone, but a long system call that does not wait may do less than it would,
                as any signal may make it do: a ``read`` of a device, or ``sendfile``.
            stalls_per_minute: how many are told, by words, log and ``on_stall``. Beyond these as
                many again are told if nothing was told of their culprit yet, or if they last eight
                times as long as that. The rest is in the statistics all the same.
            own: names of installed packages, and folders, whose code is yours: a stall is blamed
                on its lines.

        Raises:
            TypeError: an argument is of another type.
            ValueError: a number is out of its range.
            OSError: functions of C are wanted, and the program handles both signals.

        >>> import offloop
        >>> with offloop.watch(threshold=0.1, words=False):
        ...     pass
        """
        _check_threshold(threshold)
        _check_calls(on_stall=on_stall, on_loss=on_loss)
        _check_count(stalls_per_minute)
        _check_switches(words=words, log=log, losses=losses, native=native)
        variables = _check_variables(variables)
        wanted = Wanted(
            threshold=threshold,
            hearing=Hearing(on_stall, log=log, variables=variables),
            on_loss=on_loss,
            words=words,
            losses=losses,
            native=native,
            stalls_per_minute=stalls_per_minute,
            own=own_code(own),
        )
        return Watching(self, wanted, self._layers.change(wanted))

    def _apply(self, wanted: Wanted | None) -> None:
        """Have the watch be so; None is off."""
        if wanted is None:
            self._turn_off()
            return
        self._turn_on(
            wanted.threshold,
            wanted.hearing,
            wanted.words,
            wanted.native,
            wanted.stalls_per_minute,
            wanted.own,
        )
        self._look_for_losses(wanted.losses, wanted.on_loss, wanted.words)

    def _turn_on(
        self,
        threshold: float,
        hearing: Hearing,
        words: bool,
        native: bool,
        stalls_per_minute: int,
        own: Own = NOTHING,
    ) -> None:
        self._hook()
        settings = {
            "threshold_seconds": float(threshold),
            "stalls_per_minute": stalls_per_minute,
            "style": _style() if words else None,
            "standard": STANDARD_FOLDERS,
            "offloop": OFFLOOP_FOLDERS,
            "own": [DEMO_FOLDER, *own.folders],
            "own_packages": own.package_paths,
            "shown_from": _working_directory(),
            "native": native,
        }
        # A beat that is set meanwhile belongs to the watch that ends.
        self._announcements.set_threshold(threshold)
        _offloop.watch_on(settings, InContext(hearing))
        self._announcements.install()

    def _look_through(self, loop: asyncio.AbstractEventLoop, ends: _offloop.TaskEnds) -> bool:
        return self._announcements.look_through(loop, ends)

    def _turn_off(self) -> None:
        # What came last stands in front.
        self._losses.remove()
        self._announcements.remove()
        _offloop.watch_off()

    def _look_for_losses(
        self, losses: bool, on_loss: Callable[[Loss], object] | None, words: bool
    ) -> None:
        self._telling.begin(on_loss, words=words)
        if losses:
            self._losses.install()
        else:
            self._losses.remove()

    def stop(self) -> None:
        """Watch no longer, in no block either. What is being told is told to its end, or left
        after a second.
        """
        self._layers.clear()

    def losses(self) -> tuple[Loss, ...]:
        """What was lost since the watch was first turned on, in order; at most 1,000 records.

        >>> watch.losses()
        ()
        """
        return tuple(self._losses.losses)

    def statistics(self) -> WatchStatistics:
        """What blocked the loops of this process, the longest time first.

        >>> watch.statistics().stalls
        0
        """
        ranked, left_out = _offloop.watch_ranking()
        return WatchStatistics(
            tuple(_culprit({**fields}) for fields in ranked), Blocked(**left_out)
        )

    def _hook(self) -> None:
        if not self._is_hooked:
            self._is_hooked = True
            os.register_at_fork(after_in_child=_offloop.watch_after_fork)
            atexit.register(_offloop.watch_off)


class Watching(Stoppable):
    """What a call of the watch has turned on, or changed."""

    def __init__(self, watch: Watch, wanted: Wanted, before: Wanted | None) -> None:
        self._watch = watch
        self._wanted = wanted
        self._before = before
        self._is_entered = False
        self._blocks: list[Layer] = []

    def __enter__(self) -> Self:
        layers = self._watch._layers
        if self._is_entered:
            layer = layers.add(self._wanted)
        else:
            layer = layers.make_layer(self._wanted, self._before)
        self._is_entered, self._before = True, None
        self._blocks.append(layer)
        return self

    def stop(self) -> None:
        """Have the watch be as it was before the call; called again, it does nothing."""
        layers = self._watch._layers
        if not self._is_entered and layers.top is self._wanted:
            self.__enter__()
        if self._blocks:
            layers.remove(self._blocks.pop())

    def losses(self) -> tuple[Loss, ...]:
        """What was lost, as ``offloop.watch.losses()`` has it."""
        return self._watch.losses()

    def statistics(self) -> WatchStatistics:
        """What blocked the loops, as ``offloop.watch.statistics()`` has it."""
        return self._watch.statistics()


def _check_threshold(threshold: Any) -> None:
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise TypeError(f"threshold must be a number of seconds, not {threshold!r}")
    if not THRESHOLD_SECONDS_MIN <= threshold <= THRESHOLD_SECONDS_MAX:
        limits = f"from {THRESHOLD_SECONDS_MIN} to {THRESHOLD_SECONDS_MAX:.0f}"
        raise ValueError(f"threshold must be {limits} seconds, not {threshold!r}")


def _check_calls(**calls: Any) -> None:
    for name, call in calls.items():
        if call is not None and not callable(call):
            raise TypeError(f"{name} must be callable or None, not {call!r}")
        if inspect.iscoroutinefunction(call):
            raise TypeError(f"{name} must be a plain function, for a thread calls it, not {call!r}")


def _check_count(stalls_per_minute: Any) -> None:
    if isinstance(stalls_per_minute, bool):
        raise TypeError(f"stalls_per_minute must be an integer, not {stalls_per_minute!r}")
    if count("stalls_per_minute", stalls_per_minute) < 1:
        raise ValueError(f"stalls_per_minute must be at least 1, not {stalls_per_minute!r}")


def _check_switches(**switches: Any) -> None:
    for name, switch in switches.items():
        if not isinstance(switch, bool):
            raise TypeError(f"{name} must be True or False, not {switch!r}")


def _check_variables(variables: Any) -> tuple[ContextVar[Any], ...]:
    found = values("variables", variables)
    for variable in found:
        if not isinstance(variable, ContextVar):
            raise TypeError(f"variables must hold context variables, not {variable!r}")
    return found


def _culprit(fields: dict[str, Any]) -> Culprit:
    entry = fields.pop("culprit")
    blocked = Blocked(**fields.pop("blocked"))
    cause = StallCause(fields.pop("cause"))
    return Culprit(entry=entry and StackEntry(**entry), blocked=blocked, cause=cause, **fields)


def _style() -> tuple[bool, bool]:
    """Whether standard error shows colours (see no-color.org), and whether nothing but ASCII."""
    colours = _is_terminal() and os.environ.get("TERM") != "dumb"
    if os.environ.get("FORCE_COLOR"):
        colours = True
    if os.environ.get("NO_COLOR"):
        colours = False
    encoding = getattr(sys.stderr, "encoding", None) or "ascii"
    try:
        "╭─│╰…".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return colours, True
    return colours, False


def _is_terminal() -> bool:
    try:
        return os.isatty(STDERR)
    except OSError:
        return False


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


watch = Watch()

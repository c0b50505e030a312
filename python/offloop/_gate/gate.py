"""Watches while tests run, and gives each phase of a test what began in it.

Stalls are told by another thread. The loops' threads count what took long, so the end of a phase
waits for that thread only if something did. A stall belongs to the phase in which it began, also if
its end is told later; what comes after its phase was reported is *late*.

Invariants: nothing is raised in a test, and nothing is said on standard error.
Threads:    phases are told by one thread; findings come from any.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from _offloop_worker import _offloop
from offloop._gate.findings import BLAMELESS, Finding, Phase, of_loss, of_stall
from offloop._gate.leaks import Leaks
from offloop._watch.contexts import InContext
from offloop._watch.hearing import Hearing
from offloop._watch.losses import Loss, LossKind
from offloop._watch.records import Stall
from offloop._watch.switch import watch

__all__ = ["Gate"]

LOOKED_AT = 0.8
"""The part of the limit after which a stall is looked at: one that is over just after the limit has
a line, too."""

STALLS_PER_MINUTE = 1_000_000
"""All of them: each test is to hear of its own."""

SETTLE_SECONDS = 2.0
"""A report takes 100 ms at most; a machine may be busy."""

PHASES_MAX = 64
"""Phases that are remembered: a stall that began before these belongs to none."""


class Gate:
    """Watches the tests of this process, one at a time."""

    def __init__(self) -> None:
        self._hearing = Hearing(on_words=self._hear)
        self._threshold: float | None = None
        self._leaks = Leaks(watch)
        self._heard: deque[tuple[Stall, str | None]] = deque()
        self._open: dict[int, tuple[Stall, str | None]] = {}
        """Stalls that were found and are not over, by their numbers."""
        self._judged: set[int] = set()
        """Those of them that have failed their phase already."""
        self._lost: deque[tuple[Loss, Phase | None]] = deque()
        self._phases: deque[Phase] = deque(maxlen=PHASES_MAX)
        self._current: Phase | None = None
        self._debugged: deque[Phase] = deque(maxlen=PHASES_MAX)
        self._found: list[Finding] = []
        self._late: list[Finding] = []
        self._reasons: list[str] = []
        self._long = 0

    @property
    def loops_begun(self) -> int:
        """How often an asyncio loop has begun to run, in any thread, while this watched."""
        return watch._announcements.begun

    # Watching.

    def watch(self, threshold: float) -> None:
        """Watch from now on, if that is not so already."""
        if self._threshold == threshold and self._is_ours():
            return
        if self._threshold is not None and not self._is_ours():
            watch.stop()
        self._threshold = threshold
        watch._turn_on(threshold * LOOKED_AT, self._hearing, False, False, STALLS_PER_MINUTE)
        watch._look_for_losses(True, self._lose, False)
        self._leaks.install()
        self._long = _offloop.watch_long()

    def rest(self) -> None:
        """Do not watch: a test is left alone."""
        if self._threshold is not None:
            self._threshold = None
            self._leaks.remove()
            if self._is_ours():
                watch.stop()

    def stop(self) -> list[Finding]:
        """Watch no longer. Returns what came too late for its test."""
        if self._is_ours():
            self._settle()
        self._sort()
        self.rest()
        late, self._late = self._late, []
        return late

    def _is_ours(self) -> bool:
        hears = _offloop.watch_hearing()
        return isinstance(hears, InContext) and hears.hearing is self._hearing

    # Phases.

    def begin(self, test: str, when: str, max_stall_seconds: float, allow: frozenset[str]) -> None:
        """A phase of a test begins."""
        phase = Phase(test, when, _offloop.watch_clock(), max_stall_seconds, allow)
        self._phases.append(phase)
        self._current = phase
        watch._losses.tell_unawaited_again()
        if when == "call":
            self._leaks.begin()

    def end(self) -> bool:
        """The phase is over; whether there is nothing to say of it."""
        phase = self._current
        if phase is None:
            return True
        if phase.when == "call" and self._leaks.end_call():
            self._leaks.tell_of(loss.circle for loss, _ in self._lost)
        elif phase.when == "teardown":
            self._leave(phase, self._leaks.end_test())
        if not self._is_ours():
            self.excuse("the test has turned the watch on or off itself")
            self.watch(self._threshold or phase.max_stall_seconds)
        elif _offloop.watch_long() != self._long or self._heard or self._open:
            self._settle()
        if self._heard or self._open or self._lost or self._leaks.cancelled:
            self._sort()
        self._current = None
        return not (self._found or self._reasons)

    def take(self) -> tuple[list[Finding], list[str]]:
        """What was found in the phase that has ended, and why something was not measured in it."""
        found, self._found = self._found, []
        reasons, self._reasons = self._reasons, []
        return found, reasons

    def debug(self) -> None:
        """A debugger holds the program in this phase: its stalls are a person's."""
        if self._current is not None:
            self._debugged.append(self._current)
        self.excuse("a debugger held the program")

    def excuse(self, reason: str) -> None:
        """Something of this phase is not measured."""
        if reason not in self._reasons:
            self._reasons.append(reason)

    def look(self) -> list[Finding]:
        """What was found in this phase so far: it is taken, and will not fail the test."""
        if _offloop.watch_long() != self._long or self._heard or self._open:
            self._settle()
        self._sort()
        found, self._found = self._found, []
        return found

    def put_back(self, found: list[Finding]) -> None:
        """These are findings of this phase after all."""
        self._found += found

    # Hearing; on the threads of the watch and of loops.

    def _hear(self, stall: Stall, words: str | None) -> None:
        self._heard.append((stall, words))

    def _lose(self, loss: Loss) -> None:
        # Between two phases it belongs to the one before.
        phase = self._current or (self._phases[-1] if self._phases else None)
        self._lost.append((loss, phase))

    # Sorting.

    def _settle(self) -> None:
        if not _offloop.watch_settle(SETTLE_SECONDS):
            self.excuse(f"stalls were not told within {SETTLE_SECONDS:.0f} s")
        self._long = _offloop.watch_long()

    def _sort(self) -> None:
        """Give what was heard to the phases that it belongs to."""
        while self._heard:
            stall, words = self._heard.popleft()
            self._open[stall.number] = stall, words or self._open.get(stall.number, ("", None))[1]
            if stall.suppressed:
                self.excuse(f"{stall.suppressed} stalls came too fast to be told")
        for stall, words in list(self._open.values()):
            self._judge(stall, words)
            if stall.duration is not None:
                del self._open[stall.number]
                self._judged.discard(stall.number)
        for finding in self._leaks.take_cancelled():
            self._leave(self._current, [finding])
        while self._lost:
            loss, phase = self._lost.popleft()
            if loss.kind is LossKind.UNAWAITED and loss.made is None:
                # It has outlived the function that called it, and perhaps its test.
                phase = None
            if loss.is_certain and not self._leaks.knows(loss):
                self._keep(of_loss(loss, phase), phase)

    def _judge(self, stall: Stall, words: str | None) -> None:
        if stall.number in self._judged:
            return
        seconds = stall.duration
        if seconds is None:
            seconds = _offloop.watch_clock() - stall.started
        phase = self._phase_at(stall.started)
        if phase is not None and phase in self._debugged:
            return
        if phase is None or seconds < phase.max_stall_seconds:
            return
        self._judged.add(stall.number)
        reason = BLAMELESS.get(stall.cause)
        if reason is not None:
            self.excuse(f"{reason}, for {seconds * 1_000:.0f} ms")
        else:
            self._keep(of_stall(stall, words, phase, seconds), phase)

    def _phase_at(self, started: float) -> Phase | None:
        """The phase in which something began."""
        return next((each for each in reversed(self._phases) if each.started <= started), None)

    def _leave(self, phase: Phase | None, found: list[Finding]) -> None:
        for finding in found:
            self._keep(replace(finding, phase=phase), phase)

    def _keep(self, finding: Finding, phase: Phase | None) -> None:
        if phase is not None and finding.kind in phase.allow:
            return
        (self._found if phase is self._current else self._late).append(finding)

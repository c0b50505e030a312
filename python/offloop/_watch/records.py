"""What is known of a stall, as immutable records that the extension fills by name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = [
    "Blocked",
    "Culprit",
    "NativeEntry",
    "StackEntry",
    "Stall",
    "StallCause",
    "StalledTask",
    "WatchStatistics",
]


class StallCause(StrEnum):
    """Why an event loop did not go on.

    Members:
        PYTHON: Python code computed.
        NATIVE: a C call computed, and kept the GIL.
        NATIVE_WITHOUT_GIL: a C call computed, without the GIL.
        SLEEP: the thread slept.
        SOCKET, FILE, DESCRIPTOR: it waited for one; ``Stall.detail`` has its address or path.
        LOCK: it waited for a lock, a condition, or a thread's end.
        CHILD: it waited for a child process.
        OTHER_THREAD: another thread had the GIL; ``Stall.stack`` is that thread's.
        COLLECTION: the interpreter collected garbage.
        MEMORY: it waited for pages to be read from a disk.
        STARVED: the system did not let it run. No code is to blame.
        STOPPED: a debugger or a signal had stopped it, or a debugger waits for a person. No code is
            to blame.
        CALLBACKS: many callbacks of one round added up.
        UNKNOWN: none of these.
    """

    PYTHON = "python"
    NATIVE = "native"
    NATIVE_WITHOUT_GIL = "native-without-gil"
    SLEEP = "sleep"
    SOCKET = "socket"
    FILE = "file"
    DESCRIPTOR = "descriptor"
    LOCK = "lock"
    CHILD = "child"
    OTHER_THREAD = "other-thread"
    COLLECTION = "collection"
    MEMORY = "memory"
    STARVED = "starved"
    STOPPED = "stopped"
    CALLBACKS = "callbacks"
    UNKNOWN = "unknown"

    @property
    def blames_no_code(self) -> bool:
        """Whether the thread was not let run: ``STARVED`` and ``STOPPED``."""
        return self in (StallCause.STARVED, StallCause.STOPPED)


@dataclass(frozen=True, slots=True)
class NativeEntry:
    """A function of C that was running: its name, and the file that holds its code.

    One that has no name is called by its file and its place in it: ``libx.so+0x1f30``.
    """

    function: str
    filename: str


@dataclass(frozen=True, slots=True)
class StackEntry:
    """A function that was running: its file, the line that it was at, its qualified name."""

    filename: str
    lineno: int | None
    function: str


@dataclass(frozen=True, slots=True)
class StalledTask:
    """The task whose step took long.

    Attributes:
        name: as ``Task.get_name`` has it.
        coroutine: the qualified name of its coroutine.
        made: file and line of its making, where that is known.
        awaited_by: the tasks that wait for it, and those that wait for these.
    """

    name: str
    coroutine: str
    made: tuple[str, int] | None
    awaited_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stall:
    """An event loop that was kept from its other work.

    Times are seconds of ``time.monotonic``.

    Attributes:
        number: the same for all that is told of one stall, and of no other one in this process.
        started: when the callback or the round began that took long.
        reported: when the stall was told first.
        duration: how long it was, exactly; None while it lasts.
        thread: the name of the loop's thread.
        is_round: many callbacks of one round took long together, and no single one is known to be
            the cause: ``stack`` is of the one that was seen.
        cause: why.
        detail: what was waited for: an address, a path, a process id.
        stack: the functions that were running, innermost first.
        stack_quality: ``exact``, ``moving`` (each entry was there at some moment), ``fallback``, or
            ``missing`` and why.
        native: the functions of C that ``stack[0]`` has led to, innermost first, if the watch was
            asked for these.
        callback: the name of what the loop had called.
        task: the task, if a task's step took long.
        request: method and route of the request.
        suppressed: stalls that were not told before this one, for there were too many.
        culprit: the entry that is to blame: the innermost one of the program's own code.
        advice: what to write instead, as a line of code, or what to do.
    """

    number: int
    started: float
    reported: float
    duration: float | None
    thread: str
    is_round: bool
    cause: StallCause
    detail: str | None
    stack: tuple[StackEntry, ...]
    stack_quality: str
    native: tuple[NativeEntry, ...]
    callback: str | None
    task: StalledTask | None
    request: str | None
    suppressed: int
    culprit: StackEntry | None
    advice: str | None

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Stall:
        """The record of what the extension has filled in; its words are left out."""
        fields.pop("words", None)
        stack = tuple(StackEntry(**entry) for entry in fields.pop("stack"))
        native = tuple(NativeEntry(**entry) for entry in fields.pop("native"))
        task = fields.pop("task")
        if task is not None:
            task = StalledTask(**{**task, "awaited_by": tuple(task["awaited_by"])})
        culprit = fields.pop("culprit")
        if culprit is not None:
            culprit = StackEntry(**culprit)
        cause = StallCause(fields.pop("cause"))
        return cls(stack=stack, native=native, task=task, culprit=culprit, cause=cause, **fields)


@dataclass(frozen=True, slots=True)
class Blocked:
    """How often something blocked a loop, and for how many seconds.

    Attributes:
        count: stalls.
        total_seconds: all of them together.
        longest_seconds: the longest one.
    """

    count: int
    total_seconds: float
    longest_seconds: float


@dataclass(frozen=True, slots=True)
class Culprit:
    """Something that blocked loops.

    Attributes:
        entry: the line that is to blame; None if no code is.
        function: the function's name, or the callback's.
        cause: why, as of its first stall.
        blocked: how often, and for how long.
    """

    entry: StackEntry | None
    function: str | None
    cause: StallCause
    blocked: Blocked


@dataclass(frozen=True, slots=True)
class WatchStatistics:
    """What the watch has told so far; it stays when the watch is changed or turned off.

    Attributes:
        culprits: the longest time in all first. A stall that lasts counts as it was told last.
        left_out: what there was no room for.
    """

    culprits: tuple[Culprit, ...]
    left_out: Blocked

    @property
    def stalls(self) -> int:
        """How many stalls there were."""
        return self.left_out.count + sum(it.blocked.count for it in self.culprits)

    @property
    def blocked_seconds(self) -> float:
        """How long loops were blocked, all stalls together."""
        times = (it.blocked.total_seconds for it in self.culprits)
        return self.left_out.total_seconds + sum(times)

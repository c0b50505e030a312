from asyncio import AbstractEventLoop, BaseProtocol, Handle, Task, TimerHandle
from asyncio import Future as AsyncioFuture
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from concurrent.futures import Future
from contextvars import Context
from socket import socket
from ssl import MemoryBIO, SSLContext, SSLObject
from types import CodeType, FrameType
from typing import Any, Self, TypedDict, TypeVar, TypeVarTuple, final
from weakref import ReferenceType, ref

from _typeshed import StrOrBytesPath, WriteableBuffer
from typing_extensions import Buffer, disjoint_base

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

__all__ = [
    "SharedBuffer",
    "Lane",
    "Arrivals",
    "LoopOwner",
    "Definition",
    "MISSING",
    "WorkerProcess",
    "Bell",
    "LagRecorder",
    "Heartbeat",
    "WatchedSelect",
    "BlockedTime",
    "Overheard",
    "Recording",
    "Tape",
    "LoopCore",
    "Stream",
    "Stage",
    "AT_ONCE_MAX",
    "open_cached",
    "read_cached",
    "learn_mount",
    "add_stream_methods",
    "learn_standard_loop",
    "remember_makers",
    "maker_of",
    "Child",
    "TaskEnds",
    "heard_create_task",
    "add_pipe_methods",
    "Tls",
    "add_tls_methods",
    "register_tls_protocol",
    "stop",
    "bell",
    "worker_pids",
    "zygote_pids",
    "snapshot",
    "events_after",
    "note_collection",
    "note_thread_call",
    "is_recording",
    "report_html",
    "metrics_text",
    "function_statistics",
    "name_functions_by",
    "forget_functions",
    "watch_on",
    "watch_off",
    "current_frames",
    "watch_settle",
    "watch_long",
    "watch_clock",
    "watch_hearing",
    "watch_say",
    "watch_ranking",
    "watched_loops",
    "watch_after_fork",
    "loop_number",
    "numbered_loops",
    "top",
    "views_open_socket",
    "views_close_socket",
    "page_open",
    "page_close",
    "views_stop",
    "views_path",
    "views_after_fork",
    "views_follow_fork",
    "open_tracker_line",
    "are_held",
    "stack_of",
    "sample_stacks",
    "code_positions",
    "cause_of",
    "sample_causes",
    "error_samples",
    "serve",
    "fork",
    "work",
    "lifeline",
    "on_interrupt",
    "set_importing",
    "set_stopper",
]

@final
class SharedBuffer:
    def __len__(self) -> int: ...

@final
class LoopOwner:
    def drain(self) -> None: ...

@final
class Bell:
    def add_result(self, _future: Future[Any]) -> None: ...
    def add_exception(self, _future: Future[Any]) -> None: ...
    def add_cancelled(self, _future: Future[Any]) -> None: ...
    def wait(self, token: int, timeout: float | None) -> float | None: ...

@final
class Lane:
    def __new__(
        cls,
        *,
        describe: Callable[[], tuple[tuple[str, list[str], list[str]], bytes, int]],
        inherited: list[int],
        definitions: tuple[Definition, ...],
        initializes: bool,
        workers_max: int,
        tasks_per_worker_max: int | None,
        queue_tasks_max: int | None,
        queue_bytes_max: int | None,
        queue_policy: str,
        grace: float,
        start_timeout: float,
    ) -> Lane: ...
    def submit(
        self,
        future: Future[Any],
        callable: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any] | None,
        timeout: float | None,
        run_timeout: float | None,
        retries: int,
        carried: dict[str, str] | None = None,
    ) -> int | BaseException: ...
    def start(
        self,
        callable: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any] | None,
        timeout: float | None,
        run_timeout: float | None,
        retries: int,
        carried: dict[str, str] | None = None,
    ) -> tuple[AsyncioFuture[Any], int]: ...
    def stream(
        self,
        callable: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any] | None,
        timeout: float | None,
        run_timeout: float | None,
        retries: int,
        carried: dict[str, str] | None = None,
    ) -> Arrivals: ...
    def room(self) -> AsyncioFuture[None]: ...
    def has_room(self) -> bool: ...
    def broken(self) -> str | None: ...
    def stop(self, token: int) -> AsyncioFuture[Any] | None: ...
    def cancel(self, token: int) -> bool: ...
    def is_running(self, token: int) -> bool: ...
    def close(self, how: str) -> None: ...
    def wait_drained(self) -> None: ...
    def is_drained(self) -> bool: ...
    def processes(self) -> dict[int, WorkerProcess]: ...
    def statistics(self) -> _LaneStatistics | None: ...

@final
class Arrivals:
    def arrival(self) -> AsyncioFuture[None] | None: ...
    def take(self) -> Any: ...
    def stop(self) -> AsyncioFuture[None] | None: ...

class _LaneStatistics(TypedDict):
    workers: int
    queued: int
    prefetched: int
    running: int
    bytes: int
    submitted: int
    completed: int
    cancelled: int
    expired: int
    crashed: int
    dropped: int
    broken: int
    retried: int
    run_mean_seconds: float | None

class _Lane(TypedDict):
    open: bool
    statistics: _LaneStatistics

class _Worker(TypedDict):
    pid: int
    state: str
    calls: int

class _Fleet(TypedDict):
    number: int
    zygote_pid: int | None
    lanes: list[_Lane]
    workers: list[_Worker]
    starting: int
    idle: int
    queued: int
    outdated: bool
    broken: str | None

class _Owner(TypedDict):
    index: int
    open: bool
    unfinished: int
    notices: int

class _Arena(TypedDict):
    bytes_in_use: int
    bytes_backed: int | None
    bytes_max: int

class _EventCounts(TypedDict):
    starts: int
    restarts: int
    start_failures: int
    kills: int
    ends: int
    crashes: int
    stalls: int

class _Snapshot(TypedDict):
    fleets: list[_Fleet]
    owners: list[_Owner]
    arena: _Arena
    lanes_opened: int
    calls: _LaneStatistics
    events: _EventCounts
    last_event: int
    failed: str | None

class _Event(TypedDict):
    number: int
    at_seconds: float
    kind: str
    fleet: int | None
    pid: int | None
    replaces: int | None
    in_call: bool | None
    exit_code: int | None
    signal: int | None
    stderr_tail: str | None
    reason: str | None
    dropped: int | None
    threads: int | None

class _Events(TypedDict):
    missed: int
    events: list[_Event]

class _FunctionStatistics(TypedDict):
    name: str
    calls: int
    run_seconds: float
    stopped: int
    crashes: int
    last_exit_code: int | None
    last_signal: int | None

class _LagFields(TypedDict):
    count: int
    total: float
    p50: float
    p90: float
    p99: float
    max: float
    buckets: tuple[tuple[float, int], ...]

class _LoopStatistics(TypedDict):
    lag: _LagFields
    timer_lag: _LagFields
    utilisation: float
    utilisation_1s: float
    utilisation_10s: float
    busy_seconds: float
    running_seconds: float
    rounds: int
    callbacks: int
    polls: int
    timers_fired: int
    wakeups: int
    connections_made: int
    bytes_received: int
    bytes_sent: int
    ready: int
    ready_max: int
    timers: int
    descriptors: int
    connections: int

@final
class LagRecorder:
    """A histogram of times, such as our loop counts in."""

    def __new__(cls) -> LagRecorder: ...
    def record(self, seconds: float) -> None: ...
    def fields(self) -> _LagFields: ...

@final
class WorkerProcess:
    """A worker process, alive or not, as ``multiprocessing.Process`` shows one to its parent."""

    @property
    def pid(self) -> int: ...
    @property
    def sentinel(self) -> int: ...
    @property
    def exitcode(self) -> int | None: ...
    def is_alive(self) -> bool: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...

@disjoint_base
class LoopCore:
    """The half of the event loop that is written in Rust."""

    slow_callback_duration: float
    _closed: bool
    _stopping: bool
    _debug: bool
    _scheduled: list[TimerHandle]
    _timer_cancelled_count: int
    _task_factory: Any
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    @property
    def gather_writes(self) -> bool: ...
    def _set_gather_writes(self, gather: bool) -> None: ...
    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle: ...
    def call_soon_threadsafe(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def create_future(self) -> AsyncioFuture[Any]: ...
    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: object = None,
        context: Context | None = None,
        **kwargs: Any,
    ) -> Task[_T]: ...
    def time(self) -> float: ...
    def stop(self) -> None: ...
    def is_closed(self) -> bool: ...
    def is_running(self) -> bool: ...
    def get_debug(self) -> bool: ...
    def _run(self) -> None: ...
    def _run_once(self) -> None: ...
    def _check_closed(self) -> None: ...
    @property
    def _ready(self) -> deque[Handle]: ...
    @_ready.setter
    def _ready(self, _ready: object) -> None: ...
    def _set_replaced(self, name: str, replaced: bool) -> None: ...
    def _rounds_are_ours(self) -> bool: ...
    def _select(self, timeout: float | None = None) -> list[tuple[int, int]]: ...
    def _process_events(self, event_list: Iterable[tuple[Any, int]]) -> None: ...
    def _arm_watch(self, armed: bool = True) -> None: ...
    def _join_watch(self) -> None: ...
    def _running_callback(self) -> tuple[int, float, object] | None: ...
    def _callback_of(self, number: int) -> tuple[object, Context | None] | None: ...
    def _forget_callbacks(self) -> None: ...
    def _blocked_time(self) -> BlockedTime | None: ...
    def _watch_tasks(
        self,
        step: type | None = None,
        ended: Callable[[Task[Any]], object] | None = None,
        idle: Callable[[Any, bool], float | None] | None = None,
    ) -> None: ...
    def _latest_timer(self) -> float | None: ...
    def _add_callback(self, handle: Handle) -> None: ...
    def _write_to_self(self) -> None: ...
    def _add_reader(
        self,
        fd: Any,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Handle: ...
    def _add_writer(
        self,
        fd: Any,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Handle: ...
    def _remove_reader(self, fd: Any) -> bool: ...
    def _remove_writer(self, fd: Any) -> bool: ...
    def _stream_at(self, fd: object) -> Any: ...
    def _streams(self) -> list[Any]: ...
    def _watched(self, fd: int) -> tuple[Any, Any]: ...
    def _clear_schedule(self) -> None: ...
    def _statistics(self) -> _LoopStatistics: ...
    def _receive(self, sock: socket, n: int, /) -> bytes | AsyncioFuture[bytes] | None: ...
    def _receive_into(self, sock: socket, buf: Any, /) -> int | AsyncioFuture[int] | None: ...
    def _send_all(self, sock: socket, data: Any, /) -> bool | AsyncioFuture[None] | None: ...
    def _stop_waiting(self, sock: socket, future: Any, /) -> None: ...

@final
class Stream:
    """The half of a stream transport that is written in Rust."""

    closing: bool
    paused: bool
    eof: bool
    lost: int
    protocol_paused: bool
    read_max: int
    high_water: int
    low_water: int
    empty_waiter: AsyncioFuture[None] | None
    context: Context | None
    listed: bool
    attached: bool
    @property
    def peername(self) -> Any: ...
    @property
    def sockname(self) -> Any: ...
    @property
    def _callback(self) -> Callable[..., object] | None: ...
    @property
    def _source_traceback(self) -> None: ...
    def __new__(cls, event_loop: LoopCore, socket: socket, transport: Any) -> Stream: ...
    def __len__(self) -> int: ...
    def size(self) -> int: ...
    def detach(self) -> None: ...
    def hand_over(self) -> list[bytes]: ...
    def clear(self) -> None: ...
    def set_protocol(self, protocol: BaseProtocol, buffered: bool) -> None: ...
    def start_reading(self) -> None: ...
    def postpone_loss(self, loss: BaseException | None) -> bool: ...
    def enter_registry(self) -> None: ...
    def keep_names(self, peername: object, sockname: object) -> None: ...

@final
class Overheard:
    """A call that a program makes, heard by a listener first."""

    @property
    def function(self) -> Callable[..., Any]: ...
    def __new__(
        cls, listener: Callable[..., object], function: Callable[..., Any]
    ) -> Overheard: ...
    def __call__(self, *args: Any) -> Any: ...

MISSING: object

@final
class Definition:
    """Something that workers remember by its number."""

    @property
    def number(self) -> int: ...
    def __new__(cls, data: bytes) -> Definition: ...
    def data(self) -> bytes: ...

AT_ONCE_MAX: int

@final
class Stage:
    """What was read of a file in advance."""

    @property
    def fd(self) -> int: ...
    @property
    def regular(self) -> bool: ...
    @property
    def at_once(self) -> bool: ...
    def __new__(cls, fd: int) -> Stage: ...
    def __len__(self) -> int: ...
    def is_linked(self) -> bool: ...
    def reach(self, need: int | None, end: bytes | None = None) -> int: ...
    def wait(self, need: int | None, end: bytes | None = None) -> int: ...
    def take_into(self, buffer: WriteableBuffer) -> int | None: ...
    def take_all(self) -> tuple[bytes, bool]: ...
    def clear(self) -> int: ...

def open_cached(path: StrOrBytesPath) -> Stage: ...
def read_cached(path: StrOrBytesPath) -> bytes | None: ...
def learn_mount(fd: int) -> None: ...
def add_stream_methods(class_: type) -> None: ...
def learn_standard_loop() -> None: ...

@final
class Child:
    """A child process, watched and signalled by a descriptor."""

    @staticmethod
    def start(arguments: dict[str, Any]) -> Child | None: ...
    @staticmethod
    def watch(pid: int) -> Child: ...
    @staticmethod
    def can_watch() -> bool: ...
    @property
    def pid(self) -> int: ...
    def fileno(self) -> int: ...
    def take_status(self) -> int | None: ...
    def send_signal(self, signal: int) -> None: ...

def add_pipe_methods(class_: type) -> None: ...

@final
class Tls:
    """The half of a TLS connection that is written in Rust."""

    app_reading_paused: bool
    app_writing_paused: bool
    ssl_reading_paused: bool
    ssl_writing_paused: bool
    incoming_high_water: int
    incoming_low_water: int
    outgoing_high_water: int
    outgoing_low_water: int
    @property
    def taken(self) -> bool: ...
    def __new__(cls) -> Tls: ...
    def connect(self, protocol: BaseProtocol, stream: Stream | None) -> None: ...
    def take_over(
        self,
        ssl_object: SSLObject,
        context: SSLContext,
        incoming: MemoryBIO,
        outgoing: MemoryBIO,
        backlog: deque[Any],
    ) -> bool: ...
    def detach(self) -> None: ...
    def set_protocol(self, protocol: BaseProtocol, buffered: bool) -> None: ...
    def set_phase(self, name: str) -> None: ...
    def read(self) -> None: ...
    def received(self) -> int: ...
    def receive(self, data: Buffer) -> None: ...
    def unsent(self) -> int: ...
    def take_unsent(self) -> bytes: ...

def add_tls_methods(class_: type) -> None: ...
def register_tls_protocol(class_: type) -> None: ...
def stop() -> None: ...
def bell() -> Bell | None: ...
def worker_pids() -> list[int]: ...
def zygote_pids() -> list[int]: ...
def snapshot() -> _Snapshot: ...
def events_after(number: int) -> _Events: ...
def note_collection(phase: str, facts: dict[str, Any]) -> None: ...
def note_thread_call(
    function: str, submitter: int, submitted: float, began: float, ended: float, raised: bool
) -> None: ...
def is_recording() -> bool: ...
def report_html(path: str) -> str: ...
def metrics_text() -> str: ...
def function_statistics() -> list[_FunctionStatistics]: ...
def name_functions_by(namer: Callable[[Callable[..., Any]], str]) -> None: ...

class _StackReading(TypedDict):
    outcome: str
    entries: list[tuple[str, str, int | None]]
    cut: int
    hidden: int
    settled: int
    reason: str | None

@final
class Tape:
    def __new__(cls, told: dict[str, Any], files: list[tuple[str, str]]) -> Self: ...
    def finish(self) -> bool: ...

@final
class Recording:
    def __new__(cls) -> Self: ...
    def after(self, number: int) -> tuple[int, list[tuple[str, str | None]], int]: ...

@final
class Heartbeat:
    def __new__(cls, event_loop: object) -> Self: ...
    def runs_here(self) -> None: ...
    def waits(self) -> None: ...
    def goes_on(self) -> None: ...
    def looks_idle(self, told: Callable[[AbstractEventLoop, bool], float | None]) -> None: ...
    def beats(self) -> None: ...
    def blocked_time(self) -> BlockedTime | None: ...

@final
class WatchedSelect:
    """``select`` of one selector, while its loop is watched."""

    def __new__(
        cls,
        heartbeat: Heartbeat,
        select: Callable[..., Any],
        look: tuple[
            Callable[[AbstractEventLoop, bool], float | None],
            Callable[[], float | None],
            Callable[[], Mapping[Any, Any]],
            CodeType,
        ]
        | None = None,
    ) -> Self: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def look_through(self, ends: TaskEnds) -> None: ...
    def stop(self) -> None: ...

def heard_create_task(
    class_: type, created: Callable[[Any, Any], TaskEnds | None], /
) -> Callable[..., Any]: ...

@final
class TaskEnds:
    """Sees which tasks of one loop that is not ours are over; the callback of those that it cannot
    see."""

    __qualname__: str
    def __new__(
        cls, failed: Callable[[list[ref[Any]]], object], ended: Callable[[Any], object]
    ) -> Self: ...
    def made(self, task: object, coroutine: object = None) -> bool: ...
    def listen(self, task: object) -> None: ...
    def are_looked_through(self) -> None: ...
    def look(self) -> None: ...
    def take_failed(self) -> list[ref[Any]]: ...
    def stop(self) -> None: ...
    def __call__(self, task: object) -> None: ...

@final
class BlockedTime:
    """For how long a loop was blocked since this was made."""

    def seconds(self) -> float: ...

def watch_on(settings: dict[str, Any], hearing: object) -> None: ...
def watched_loops() -> list[tuple[int, AbstractEventLoop]]: ...
def current_frames() -> dict[int, FrameType]: ...
def watch_settle(seconds: float) -> bool: ...
def watch_long() -> int: ...
def watch_clock() -> float: ...
def watch_hearing() -> object: ...
def watch_say(text: str) -> None: ...
def watch_ranking() -> tuple[list[dict[str, Any]], dict[str, Any]]: ...
def watch_off() -> None: ...
def watch_after_fork() -> None: ...
def loop_number(event_loop: AbstractEventLoop) -> int: ...
def numbered_loops() -> list[tuple[int, AbstractEventLoop]]: ...
def top(
    pid: int | None, *, once: bool, as_json: bool, every_seconds: float
) -> tuple[str | None, int]: ...
def views_open_socket(identity: dict[str, str], reading: object) -> str: ...
def views_close_socket() -> None: ...
def page_open(
    identity: dict[str, str], reading: object, host: str, port: int, actions: bool
) -> str: ...
def page_close() -> None: ...
def views_stop() -> None: ...
def views_path() -> str | None: ...
def views_after_fork() -> bool: ...
def views_follow_fork() -> None: ...
def remember_makers(passed: list[CodeType] | None = None) -> None: ...
def maker_of(task: Task[Any], coroutine: object) -> tuple[CodeType, int] | None: ...
def are_held(references: list[ReferenceType[Any]], outside: list[Any]) -> list[bool]: ...
def stack_of(native_thread_id: int) -> _StackReading: ...
def sample_stacks(native_thread_id: int, count: int) -> list[tuple[_StackReading, int]]: ...
def code_positions(
    line_table: bytes, first_line: int
) -> list[tuple[int | None, int | None, int | None, int | None]]: ...

class _CauseReading(TypedDict):
    cause: str
    name: str | None
    pid: int | None
    native_id: int | None
    holds_gil: bool | None
    evidence: str

def cause_of(native_thread_id: int, seconds: float) -> _CauseReading: ...
def sample_causes(native_thread_id: int, seconds: float, count: int) -> list[_CauseReading]: ...
def open_tracker_line(program: tuple[str, list[str], list[str]]) -> int: ...
def error_samples() -> list[tuple[str, BaseException]]: ...
def fork() -> int: ...
def forget_functions() -> None: ...
def serve(prepare: Callable[[bytes, list[int]], None]) -> bool: ...
def work(begin: Callable[[], None]) -> None: ...
def lifeline() -> int: ...
def on_interrupt(signal: int, frame: object) -> None: ...
def set_importing(importing: bool) -> None: ...
def set_stopper(stopper: Callable[[], bool] | None) -> None: ...

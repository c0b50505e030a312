from asyncio import Future as AsyncioFuture
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, final

__all__ = [
    "SharedBuffer",
    "Lane",
    "LoopOwner",
    "stop",
    "worker_pids",
    "zygote_pids",
    "function_statistics",
    "serve",
    "on_interrupt",
    "set_importing",
]

@final
class SharedBuffer:
    def __len__(self) -> int: ...

@final
class LoopOwner:
    def drain(self) -> None: ...

@final
class Lane:
    def __new__(
        cls,
        *,
        program: tuple[str, list[str], list[str]],
        setup: bytes,
        inherited: list[int],
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
    ) -> int | BaseException: ...
    def start(
        self,
        callable: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any] | None,
        timeout: float | None,
        run_timeout: float | None,
        retries: int,
    ) -> tuple[AsyncioFuture[Any], int]: ...
    def room(self) -> AsyncioFuture[None]: ...
    def has_room(self) -> bool: ...
    def broken(self) -> str | None: ...
    def stop(self, token: int) -> AsyncioFuture[Any] | None: ...
    def cancel(self, token: int) -> bool: ...
    def is_running(self, token: int) -> bool: ...
    def close(self, how: str) -> None: ...
    def wait_drained(self) -> None: ...
    def is_drained(self) -> bool: ...
    def statistics(
        self,
    ) -> tuple[int, int, int, int, int, int, int, int, int, int] | None: ...

def stop() -> None: ...
def worker_pids() -> list[int]: ...
def zygote_pids() -> list[int]: ...
def function_statistics() -> list[tuple[str, int, float]]: ...
def serve(prepare: Callable[[bytes, list[int]], None], begin: Callable[[], None]) -> bool: ...
def on_interrupt(_signal: int, _frame: object) -> None: ...
def set_importing(importing: bool) -> None: ...

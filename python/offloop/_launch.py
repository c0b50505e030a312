"""How workers are started: what makes them like this program, and their initializer."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable
from multiprocessing import context, process
from typing import Any

import _offloop_worker
from _offloop_worker.codec import dumps_by_value
from _offloop_worker.inheritance import InheritedFd

__all__ = ["Launch", "describe"]

Launch = dict[str, Any]

_ZYGOTE = os.path.join(os.path.dirname(os.path.abspath(_offloop_worker.__file__)), "zygote.py")


class _Collector:
    """Stands for the process that is being started while its arguments are pickled.

    ``multiprocessing.reduction.DupFd`` hands descriptors to it; see ``multiprocessing.context``.
    """

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    def duplicate_for_child(self, descriptor: int) -> int:
        self.descriptors.append(os.dup(descriptor))
        return len(self.descriptors) - 1

    DupFd = InheritedFd


def describe(
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    preload: Iterable[str],
    memory_limit: int | None,
) -> Launch:
    """The part of a lane's arguments that says how its workers start."""
    pickled, descriptors = _pickle_initializer(initializer, tuple(initargs))
    settings = {
        "path": [_absolute(entry) for entry in sys.path],
        "argv": list(sys.argv),
        "directory": _directory(),
        "preload": list(preload),
        "initializer": pickled,
        "memory_limit": memory_limit,
        "authkey": bytes(process.current_process().authkey),
    }
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    environment = [f"{name}={value}" for name, value in os.environ.items()]
    return {
        "program": (sys.executable, [sys.executable, *flags, _ZYGOTE], environment),
        "setup": pickle.dumps(settings, 5),
        "inherited": descriptors,
        "initializes": initializer is not None,
    }


def _absolute(entry: str) -> str:
    return os.path.abspath(entry) if entry else _directory()


def _directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return os.sep


def _pickle_initializer(
    initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> tuple[bytes | None, list[int]]:
    if initializer is None:
        return None, []
    collector = _Collector()
    previous = context.get_spawning_popen()
    context.set_spawning_popen(collector)  # type: ignore[arg-type]
    try:
        pickled = _pickle((initializer, initargs))
    finally:
        context.set_spawning_popen(previous)
    return pickled, collector.descriptors


def _pickle(value: object) -> bytes:
    try:
        plain = pickle.dumps(value, 5)
    except (pickle.PicklingError, AttributeError, TypeError):
        return dumps_by_value(value, None)
    by_value = b"__main__" in plain or b"multiprocessing." in plain
    return dumps_by_value(value, None) if by_value else plain

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
from _offloop_worker._offloop import Definition
from _offloop_worker.inheritance import InheritedFd
from offloop import _main

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
    pickled, definitions, descriptors = _pickle_initializer(initializer, tuple(initargs))
    settings = {
        "path": [_absolute(entry) for entry in sys.path],
        "argv": list(sys.argv),
        "directory": _directory(),
        "preload": list(preload),
        "main": _main.main_module().start,
        "initializer": pickled,
        "definitions": [(one.number, one.data()) for one in definitions],
        "memory_limit": memory_limit,
        "authkey": bytes(process.current_process().authkey),
    }
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    environment = [f"{name}={value}" for name, value in os.environ.items()]
    return {
        "program": (sys.executable, [sys.executable, *flags, _ZYGOTE], environment),
        "setup": pickle.dumps(settings, 5),
        "inherited": descriptors,
        "definitions": definitions,
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
) -> tuple[bytes | None, tuple[Definition, ...], list[int]]:
    if initializer is None:
        return None, (), []
    collector = _Collector()
    previous = context.get_spawning_popen()
    context.set_spawning_popen(collector)  # type: ignore[arg-type]
    try:
        pickled, definitions = _main.dumps_for_worker((initializer, initargs), None)
    finally:
        context.set_spawning_popen(previous)
    return pickled, definitions, collector.descriptors

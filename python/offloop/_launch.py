"""How workers are started: what makes them like this program, and their initializer."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import context, process
from typing import Any

import _offloop_worker
from _offloop_worker import surroundings
from _offloop_worker._offloop import Definition
from _offloop_worker.inheritance import InheritedFd
from offloop import _main, _tracker

__all__ = ["Launch", "describe"]

Launch = dict[str, Any]

Description = tuple[tuple[str, list[str], list[str]], bytes, int]

_ZYGOTE = os.path.join(os.path.dirname(os.path.abspath(_offloop_worker.__file__)), "zygote.py")

_PASSED_ON = (
    "cpu_count",
    "int_max_str_digits",
    "no_debug_ranges",
    "pycache_prefix",
    "context_aware_warnings",
    "thread_inherit_context",
    "perf",
    "warn_default_encoding",
)
"""Options of the interpreter that change what a worker computes, or says."""

_PREPARED = {
    "authkey",
    "dir",
    "init_main_from_name",
    "init_main_from_path",
    "log_level",
    "log_to_stderr",
    "name",
    "orig_dir",
    "start_method",
    "sys_argv",
    "sys_path",
    # Of our own: a worker belongs to its pool, and to no run.
    "offloop_run",
}
"""What the standard library itself prepares its processes with; workers get that otherwise."""


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
    initargs: tuple[Any, ...],
    preload: list[str],
    memory_limit: int | None,
) -> Launch:
    """The part of a lane's arguments that says how its workers start."""
    pickled, definitions, descriptors = _pickle_initializer(initializer, initargs)
    given = {
        "preload": preload,
        "main": _main.main_module().start,
        "initializer": pickled,
        "definitions": [(one.number, one.data()) for one in definitions],
        "memory_limit": memory_limit,
    }
    return {
        "describe": functools.partial(_describe, given),
        "inherited": descriptors,
        "definitions": definitions,
        "initializes": initializer is not None,
    }


def _describe(given: dict[str, Any]) -> Description:
    """The zygote's program and its setup, as this process is now, and the tracker's line."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    flags += _more_flags(flags)
    around = surroundings.look_around()
    environment = [f"{name}={value}" for name, value in around["environment"].items()]
    line = _tracker.descriptor(flags, environment)
    itself = process.current_process()
    settings = {
        **given,
        "around": around,
        "facts": surroundings.look(),
        "argv": list(sys.argv),
        "authkey": bytes(itself.authkey),
        "parent": (os.getpid(), itself.name),
        "tracker": os.fstat(line)[1:3],
        "stowed": _stowed_away(),
    }
    program = (sys.executable, [sys.executable, *flags, _ZYGOTE], environment)
    return program, pickle.dumps(settings, 5), line


def _stowed_away() -> bytes | None:
    """What tools send along with each process of multiprocessing, to be unpickled there.

    Tools that must know of every process (those that measure coverage) hide an object of theirs in
    the data that prepares one, by a function in the place of the standard one.
    """
    spawn = sys.modules.get("multiprocessing.spawn")
    if spawn is None or spawn.get_preparation_data.__module__ == spawn.__name__:
        return None
    prepared = spawn.get_preparation_data("offloop")
    return pickle.dumps([prepared[name] for name in prepared if name not in _PREPARED], 5)


def _more_flags(flags: list[str]) -> list[str]:
    """Options that this version of Python does not pass on by itself."""
    options = {name: value for name, value in sys._xoptions.items() if name in _PASSED_ON}
    texts = [name if value is True else f"{name}={value}" for name, value in options.items()]
    return [part for text in texts if text not in flags for part in ("-X", text)]


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

"""The program of a zygote: prepares once, then forks workers that start in a millisecond.

It is started by path, with a socket and a lifeline as its descriptors 3 and 4, and has one thread
for ever. What its workers need is imported here, before the first fork, and frozen, so that the
pages stay shared.
"""

from __future__ import annotations

import os
import sys

_directory = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if sys.path and os.path.abspath(sys.path[0]) == os.path.join(_directory, "_offloop_worker"):
    sys.path[0] = _directory
else:
    sys.path.insert(0, _directory)

from _pickle import loads  # noqa: E402

from _offloop_worker import _offloop  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_state: dict[str, Any] = {}


def _prepare(setup: bytes, descriptors: list[int]) -> None:
    """Make this process like the program: its path, its arguments, its imports."""
    import faulthandler
    import gc

    gc.disable()
    if sys.stderr is not None and not faulthandler.is_enabled():
        # Says where Python stood when a worker crashes; its last lines come with the error.
        faulthandler.enable()
    settings = loads(setup)
    _settle(settings)
    sys.argv[:] = settings["argv"]
    import _offloop_worker.codec
    import _offloop_worker.failure  # noqa: F401
    from _offloop_worker import inheritance, main_module

    # The first is the line to the program's resource tracker.
    inheritance.give_tracker(descriptors[0])
    inheritance.adopt(descriptors[1:])
    _state["main"] = sys.modules["__main__"]
    main_module.make_main()
    # What each worker imports for itself, if anything.
    _state["imports"] = None
    if settings["preload"] or settings["main"] is not None:
        _import_once(settings["preload"], settings["main"])
    _state["initializer"] = settings["initializer"]
    _state["definitions"] = settings["definitions"]
    _state["memory_limit"] = settings["memory_limit"]
    _state["facts"] = settings["facts"]
    _state["parent"] = settings["parent"]
    _state["stowed"] = settings["stowed"]
    if settings["stowed"] is not None:
        loads(settings["stowed"])
    inheritance.give_key(settings["authkey"])
    _flush()
    gc.collect()
    gc.freeze()
    gc.enable()


def _import_once(preload: list[str], start: tuple[str | None, str | None] | None) -> None:
    """Import what all workers need, unless that starts threads.

    A forked worker would lack them, and find their locks held for ever. So a twin is forked before
    the imports, which takes this process's place if there are threads after them; its workers
    import the same each for itself, as processes of the standard start methods do.
    """
    from _thread import _count

    read, write = os.pipe()
    twin = _offloop.fork()
    if twin == 0:
        os.close(write)
        is_needed = os.read(read, 1)
        os.close(read)
        if not is_needed:
            os._exit(0)
        _state["imports"] = (preload, start)
        return
    os.close(read)
    try:
        _import(preload, start)
        if _count():
            os.write(write, b"t")
    finally:
        os.close(write)
        _, status = os.waitpid(twin, 0)
    if _count():
        # The twin has served in our place, and has ended.
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _import(preload: list[str], start: tuple[str | None, str | None] | None) -> None:
    from _offloop_worker import main_module

    for name in preload:
        __import__(name)
    if start is not None:
        main_module.import_main(*start)


def _settle(settings: dict[str, Any]) -> None:
    """Take on what the program had around it when the pool was made, or first used."""
    from _offloop_worker import surroundings

    surroundings.take_on(settings["facts"])
    surroundings.begin_from(settings["around"])


def _begin() -> None:
    """Run in each worker before it takes calls."""
    from _offloop_worker import inheritance, surroundings

    surroundings.ignore_signals(_state["facts"])
    inheritance.become_worker()
    pid, name = _state["parent"]
    inheritance.give_parent(pid, name, _offloop.lifeline())
    inheritance.name_process()
    if _state["memory_limit"] is not None:
        import resource

        from _offloop_worker import failure

        resource.setrlimit(resource.RLIMIT_DATA, (_state["memory_limit"],) * 2)
        failure.memory_limit = _state["memory_limit"]
    from _offloop_worker import main_module

    if _state["imports"] is not None:
        _offloop.set_importing(True)
        _import(*_state["imports"])
        _offloop.set_importing(False)
    if _state["initializer"] is None:
        return
    try:
        main_module.run_initializer(_state["initializer"], _state["definitions"])
    except BaseException:
        import logging

        # In the words, and to the logger, of the standard pool.
        logger = logging.getLogger("concurrent.futures")
        logger.critical("Exception in initializer:", exc_info=True)
        # What was logged is out before the program learns that its pool is broken.
        _finish()
        raise


def _finish() -> None:
    """End a worker as an interpreter would: exit handlers, buffers, nothing of the zygote's."""
    import atexit

    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._exit_function()
    atexit._run_exitfuncs()
    _flush()


def _flush() -> None:
    """Empty the buffers of the standard streams; a program started without them has None."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _work() -> int:
    from _offloop_worker import inheritance

    def work() -> None:
        _offloop.work(_begin)

    if _state["stowed"] is None:
        work()
        code = 0
    else:
        code = inheritance.run_as_process(work, *_state["parent"])
    _finish()
    return code


def main() -> None:
    code = 1
    try:
        code = _work() if _offloop.serve(_prepare) else 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()

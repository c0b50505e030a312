"""Finds a script or a module and runs it as ``__main__``, as the interpreter itself would.

The program gets a module of its own in ``sys.modules["__main__"]``, which stays there to the end,
so that pickling by reference, ``multiprocessing`` and late callbacks find it.  ``sys.argv`` and
``sys.path[0]`` are what ``python SCRIPT`` and ``python -m MODULE`` would have set.

Errors: `ProgramMissing` when there is nothing to run; what the program raises is shown without
        the frames of this package, and ends in the exit status that the interpreter would use.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType, ModuleType, TracebackType
from typing import NoReturn

_NOT_THE_PROGRAMS = (os.path.dirname(os.path.abspath(__file__)) + os.sep, "<frozen ")
"""What stands above the program's own frames while it is being loaded."""

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
"""What a shell reports for a program that ended by SIGINT."""


class ProgramMissing(Exception):
    """There is no such script or module, or it cannot be run."""


@dataclass(frozen=True)
class Program:
    """A compiled main program, and the names under which it will know itself."""

    code: CodeType
    file: str
    argv0: str
    package: str | None
    spec: importlib.machinery.ModuleSpec | None


def enter_import_root(folder: str) -> None:
    """Make ``folder`` the first place for imports, in place of our own script's folder."""
    if sys.flags.safe_path:
        return
    sys.path[0:1] = [folder]


def load_script(path: str) -> Program:
    """Read and compile the script at ``path``; a folder or an archive runs its ``__main__``."""
    if os.path.isdir(path) or path.endswith((".zip", ".pyz")):
        return _load_container(path)
    absolute = os.path.abspath(path)
    try:
        with io.open_code(absolute) as stream:
            source = stream.read()
    except OSError as error:
        raise ProgramMissing(f"can't open file {absolute!r}: {error.strerror}") from None
    enter_import_root(os.path.dirname(os.path.realpath(path)))
    code = compile(source, absolute, "exec", dont_inherit=True)
    return Program(code, file=absolute, argv0=path, package=None, spec=None)


def _load_container(path: str) -> Program:
    if not os.path.exists(path):
        raise ProgramMissing(f"can't open file {os.path.abspath(path)!r}: No such file")
    enter_import_root(path)
    spec = importlib.machinery.PathFinder.find_spec("__main__", [path])
    if spec is None:
        raise ProgramMissing(f"can't find '__main__' module in {path!r}")
    return _from_spec(spec, argv0=path)


def load_module(name: str) -> Program:
    """Find and compile the module ``name``; a package runs its ``__main__`` submodule."""
    enter_import_root(os.getcwd())
    spec = _find_module(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = _find_module(f"{name}.__main__")
        if spec is None:
            raise ProgramMissing(f"{name!r} is a package and has no '__main__' module")
    if spec is None:
        raise ProgramMissing(f"no module named {name!r}")
    return _from_spec(spec, argv0=spec.origin or name)


def _find_module(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise


def _from_spec(spec: importlib.machinery.ModuleSpec, argv0: str) -> Program:
    get_code = getattr(spec.loader, "get_code", None)
    code = get_code(spec.name) if get_code is not None else None
    if code is None:
        raise ProgramMissing(f"no code object available for {spec.name!r}")
    return Program(code, spec.origin or argv0, argv0, spec.parent, spec)


def execute(program: Program, arguments: Sequence[str]) -> None:
    """Run ``program`` as ``__main__``; raises only ``SystemExit``."""
    sys.argv[:] = [program.argv0, *arguments]
    main = _install_main(program)
    try:
        exec(program.code, main.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        end_with(error, program.code)


def end_with(error: BaseException, main: CodeType | None = None) -> NoReturn:
    """Show what the program raised, from its own first frame on, and end as it would have.

    ``main`` is the code of the main program, where it had begun.
    """
    error = error.with_traceback(_program_frames(error.__traceback__, main))
    sys.excepthook(type(error), error, error.__traceback__)
    interrupted = isinstance(error, KeyboardInterrupt)
    raise SystemExit(EXIT_INTERRUPTED if interrupted else EXIT_ERROR) from None


def _install_main(program: Program) -> ModuleType:
    main = ModuleType("__main__")
    main.__file__ = program.file
    main.__package__ = program.package
    main.__spec__ = program.spec
    if program.spec is not None:
        main.__loader__ = program.spec.loader
    else:
        main.__loader__ = importlib.machinery.SourceFileLoader("__main__", program.file)
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main
    return main


def _program_frames(traceback: TracebackType | None, main: CodeType | None) -> TracebackType | None:
    """The part of ``traceback`` that begins in ``main``, or below our frames and the importer's."""
    frame = traceback
    while frame is not None:
        code = frame.tb_frame.f_code
        if code is main or (main is None and not code.co_filename.startswith(_NOT_THE_PROGRAMS)):
            return frame
        frame = frame.tb_next
    return traceback if main is not None else None

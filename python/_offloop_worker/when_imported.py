"""Something is done once the program has imported a module, and never if it does not.

Source:     PEP 451.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["when_imported"]


def when_imported(names: tuple[str, ...], then: Callable[[], None]) -> None:
    """Call ``then()`` when one of the modules has been imported; now if one is there already."""
    if any(name in sys.modules for name in names):
        then()
    else:
        sys.meta_path.insert(0, _Finder(names, then))


class _Finder:
    """Finds the modules that are waited for, and nothing else.

    The first one is imported to its end, with all that it imports itself.
    """

    def __init__(self, names: tuple[str, ...], then: Callable[[], None]) -> None:
        self._wanted = names
        self.is_busy = False
        self.then = then

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self.is_busy or name not in self._wanted:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or not _is_genuine(spec):
            return None
        spec.loader = _Loader(spec.loader, self)
        return spec


def _is_genuine(spec: ModuleSpec) -> bool:
    """Whether it is no module of the program's with the name of a standard one."""
    folder = os.path.dirname(os.__file__)
    is_standard = spec.origin is not None and spec.origin.startswith(f"{folder}/{spec.name}/")
    return is_standard or spec.name not in sys.stdlib_module_names


class _Loader(Loader):
    """Loads as the module's own loader does, and steps aside."""

    def __init__(self, own: Any, finder: _Finder) -> None:
        self._own = own
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._own.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._own
        self._finder.is_busy = True
        try:
            self._own.exec_module(module)
        finally:
            self._finder.is_busy = False
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
            self._finder.then()

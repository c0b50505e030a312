"""Something is done once the program has imported a standard module, and never if it does not.

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


def when_imported(name: str, then: Callable[[], None]) -> None:
    """Call ``then()`` when the module has been imported; now if it is there already."""
    if name in sys.modules:
        then()
    else:
        sys.meta_path.insert(0, _Finder(name, then))


def is_standard(spec: ModuleSpec) -> bool:
    """Whether a module is the standard library's."""
    folder = os.path.dirname(os.__file__)
    return spec.origin is not None and spec.origin.startswith(f"{folder}/{spec.name}")


class _Finder:
    """Finds the module that is waited for, and nothing else."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._wanted = name
        self.then = then

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == self._wanted else None
        if spec is None or not is_standard(spec):
            # A module of the program's that has the same name.
            return None
        spec.loader = _Loader(spec.loader, self)
        return spec


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
        self._own.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
            self._finder.then()

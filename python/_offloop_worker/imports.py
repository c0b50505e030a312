"""Something to do once a module has been imported, at any time and by any code.

Workers import little, and what they share with their program often belongs into a module that few
calls need. It is put there when that module is there.
"""

from __future__ import annotations

import sys

# Seen by type checkers alone: these modules are not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec

    Act = Callable[[types.ModuleType], object]

__all__ = ["when_imported"]

_acts: dict[str, list[Act]] = {}


def when_imported(name: str, act: Act) -> None:
    """Call ``act`` with the module of that name: now if it is there, or when it has been imported.

    >>> import types
    >>> when_imported("types", lambda module: print(module.__name__))
    types
    """
    module = sys.modules.get(name)
    if module is not None:
        act(module)
        return
    _acts.setdefault(name, []).append(act)
    if _observer not in sys.meta_path:
        sys.meta_path.insert(0, _observer)


class _Observer:
    """A finder that sees the awaited imports go by, and leaves when there are none."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The spec that the other finders give, with our loader around theirs."""
        if name not in _acts:
            return None
        for finder in [finder for finder in sys.meta_path if finder is not self]:
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    """Imports as the loader it stands for, which the module gets to see; then acts."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        for act in _acts.pop(module.__name__, ()):
            act(module)
        if not _acts and _observer in sys.meta_path:
            sys.meta_path.remove(_observer)


_observer = _Observer()

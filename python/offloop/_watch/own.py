"""Which code the user claims as their own, by names of packages and by folders."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from offloop._arguments import values

__all__ = ["NOTHING", "Own", "own_code"]


@dataclass(frozen=True)
class Own:
    """What is claimed."""

    folders: tuple[str, ...] = ()
    """Absolute paths."""
    packages: tuple[str, ...] = ()
    """Dotted names."""

    @property
    def package_paths(self) -> list[str]:
        """The packages as they stand in a folder of installed packages."""
        return [package.replace(".", "/") for package in self.packages]


NOTHING = Own()


def own_code(own: Iterable[str | os.PathLike[str]]) -> Own:
    """What is claimed by names of packages, and by folders; a folder has a separator in it.

    >>> own_code(["shopapp", "company.till", "/srv/shop"])
    Own(folders=('/srv/shop',), packages=('shopapp', 'company.till'))
    """
    found = () if isinstance(own, str) else values("own", own)
    are_names = all(isinstance(name, str | os.PathLike) for name in found)
    if isinstance(own, str) or not are_names:
        raise TypeError(f"own must be an iterable of packages and folders, not {own!r}")
    folders = [os.path.abspath(name) for name in found if _is_folder(name)]
    packages = [str(name) for name in found if not _is_folder(name)]
    for package in packages:
        if not all(part.isidentifier() for part in package.split(".")):
            raise ValueError(
                f"own must hold names of packages, or folders with a {os.sep} in them, "
                f"not {package!r}"
            )
    return Own(tuple(folders), tuple(packages))


def _is_folder(name: str | os.PathLike[str]) -> bool:
    return not isinstance(name, str) or os.sep in name or (os.altsep or os.sep) in name

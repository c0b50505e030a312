"""Packages that not every version of Python has yet: what needs them runs only where they are."""

import importlib.util

import pytest


def is_installed(package: str) -> bool:
    """Whether a package can be imported here."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # what it is a part of
        return False


NEEDS_UVLOOP = pytest.mark.needs("uvloop")

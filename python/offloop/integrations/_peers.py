"""The one error for a library that is not installed."""

from __future__ import annotations

__all__ = ["missing"]


def missing(module: str, package: str) -> ImportError:
    """What importing an integration raises without its library."""
    name = f"offloop.integrations.{module}"
    return ImportError(f"{name} needs {package}: pip install {package}", name=name)

"""Descriptors that pass to workers by inheritance: those inside multiprocessing's objects.

Queues, locks and connections of the multiprocessing module may only be pickled while a process is
being started. The program collects their descriptors while it pickles the initializer's
arguments; they travel with the setup, and the workers take them up by their index.
"""

from __future__ import annotations

__all__ = ["InheritedFd", "adopt"]

_descriptors = []


def adopt(descriptors):
    """Remember the descriptors that came with the setup."""
    _descriptors[:] = descriptors


class InheritedFd:
    """A descriptor by its index, as ``multiprocessing.reduction.DupFd`` is expected to make."""

    def __init__(self, index):
        self._index = index

    def detach(self):
        """The descriptor's number in this process."""
        return _descriptors[self._index]

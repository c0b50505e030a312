"""How the watch is to be, and how it was before: `with` blocks lie over each other in layers.

A call changes the layer on top, or makes the first one. A block has a layer of its own, so at its
end the watch is as it was before. Blocks may end in any order: the layer on top is in force.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from offloop._watch.hearing import Hearing
from offloop._watch.losses import Loss
from offloop._watch.own import Own

__all__ = ["Layers", "Wanted"]


@dataclass(frozen=True, eq=False)
class Wanted:
    """How the watch is to be."""

    threshold: float
    hearing: Hearing
    on_loss: Callable[[Loss], object] | None
    words: bool
    losses: bool
    native: bool
    stalls_per_minute: int
    own: Own


class Layer:
    """How the watch is to be while nothing lies above."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted


class Layers:
    """The layers of the watch; ``apply`` brings one into force, and None is off."""

    def __init__(self, apply: Callable[[Wanted | None], None]) -> None:
        self._apply = apply
        self._layers: list[Layer] = []

    @property
    def top(self) -> Wanted | None:
        """What is in force; None while the watch is off."""
        return self._layers[-1].wanted if self._layers else None

    def change(self, wanted: Wanted) -> Wanted | None:
        """Have the watch be so from now on; returns what was in force before."""
        before = self.top
        self._bring(wanted)
        if self._layers:
            self._layers[-1].wanted = wanted
        else:
            self._layers.append(Layer(wanted))
        return before

    def make_layer(self, wanted: Wanted, before: Wanted | None) -> Layer:
        """Turn what a call has changed into a layer of its own, over what was before."""
        if self.top is not wanted:
            # Something else was called meanwhile, and stays below.
            return self.add(wanted)
        if before is None:
            self._layers.pop()
        else:
            self._layers[-1].wanted = before
        layer = Layer(wanted)
        self._layers.append(layer)
        return layer

    def add(self, wanted: Wanted) -> Layer:
        """Put a layer on top."""
        self._bring(wanted)
        layer = Layer(wanted)
        self._layers.append(layer)
        return layer

    def remove(self, layer: Layer) -> None:
        """End a layer; one that has ended already is left alone."""
        if layer not in self._layers:
            return
        is_in_force = self._layers[-1] is layer
        self._layers.remove(layer)
        if is_in_force:
            self._apply(self.top)

    def clear(self) -> None:
        """End all of them."""
        self._layers.clear()
        self._apply(None)

    def _bring(self, wanted: Wanted) -> None:
        try:
            self._apply(wanted)
        except OSError:
            # It is refused: all is as before.
            self._apply(self.top)
            raise

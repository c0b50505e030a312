"""What is stopped by the end of a ``with`` block: the watch, the page, the views."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

__all__ = ["Stoppable"]


class Stoppable(ABC):
    """Is on while a ``with`` block lasts."""

    @abstractmethod
    def stop(self) -> None:
        """End it; called again, it does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

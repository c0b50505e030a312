"""The iterator behind a stream: what the call returned, as items one after the other."""

from __future__ import annotations

# Seen by type checkers alone: ``typing`` is not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["close", "items"]


def items(returned: object) -> Iterator[object]:
    """Iterate over what the function of a stream returned."""
    if hasattr(type(returned), "__aiter__"):
        # It needs asyncio, which only workers that get such a stream import.
        from _offloop_worker.async_streams import items_of

        return items_of(returned)  # type: ignore[arg-type]
    try:
        return iter(returned)  # type: ignore[call-overload, no-any-return]
    except TypeError:
        if hasattr(type(returned), "__iter__"):
            raise
        text = f"the function of a stream must return an iterator, not {returned!r}"
        raise TypeError(text) from None


def close(iterator: object, error: BaseException | None) -> None:
    """Close an iterator that is not used any more, as after ``error``."""
    try:
        closing = getattr(iterator, "close", None)
        if closing is not None:
            closing()
    except BaseException as second:
        if error is not None and second.__context__ is None:
            second.__context__ = error
        raise

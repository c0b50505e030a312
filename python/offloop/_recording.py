"""What Python adds to the recorder: the garbage collector tells of itself while anything records.

The recorder itself is Rust's (``crates/offloop/src/recorder.rs``), and is read without the GIL.
"""

from __future__ import annotations

import gc

from _offloop_worker import _offloop

__all__ = ["tell_collections"]


def tell_collections() -> None:
    """From now on collections of garbage are recorded while anything records."""
    if _offloop.note_collection not in gc.callbacks:
        gc.callbacks.append(_offloop.note_collection)

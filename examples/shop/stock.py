"""What is in stock: a table, and a thread that counts anew."""

from __future__ import annotations

import threading
import time

RECOUNT_SECONDS = 0.2

_table = {"tea": 40, "coffee": 2}
_lock = threading.Lock()


def count(name: str) -> int:
    """Return how many there are; the count is renewed on the way, by a thread."""
    begun = threading.Event()
    threading.Thread(target=_recount, args=(begun,)).start()
    begun.wait()
    with _lock:
        return _table[name]


def _recount(begun: threading.Event) -> None:
    with _lock:
        begun.set()
        time.sleep(RECOUNT_SECONDS)

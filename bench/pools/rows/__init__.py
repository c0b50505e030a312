"""The questions by name, in the order in which they are put and shown."""

from __future__ import annotations

from bench.pools.rows import (
    arrays,
    burst,
    cold,
    crash,
    floor,
    further,
    gathered,
    idle,
    memory,
    orphans,
    per_request,
    replacement,
    single_flight,
    speedup,
    stop,
)

ROWS = {
    module.ROW.name: module.ROW
    for module in (
        floor,
        single_flight,
        gathered,
        speedup,
        cold,
        further,
        replacement,
        per_request,
        arrays,
        memory,
        burst,
        stop,
        crash,
        orphans,
        idle,
    )
}

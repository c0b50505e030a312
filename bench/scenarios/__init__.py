"""The questions, in the order of the tables."""

from __future__ import annotations

from bench.results import Scenario
from bench.scenarios import (
    arrays,
    burst,
    cold,
    crash,
    gathered,
    idle,
    memory,
    orphans,
    per_request,
    single_flight,
    speedup,
    stop,
    workers,
)

SCENARIOS: dict[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (
        single_flight,
        gathered,
        speedup,
        cold,
        workers,
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

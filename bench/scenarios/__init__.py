"""The questions, in the order of the tables."""

from __future__ import annotations

from bench.results import Scenario
from bench.scenarios import (
    arrays,
    burst,
    cold,
    crash,
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

SCENARIOS: dict[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (
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

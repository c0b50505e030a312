"""Measure offloop's pools beside other pools and the bare floor: ``python -m bench.pools``."""

from bench.harness.command import main
from bench.pools.benchmark import BENCHMARK

raise SystemExit(main(BENCHMARK))

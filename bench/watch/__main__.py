"""Measure offloop's watch beside other tools that find stalls: ``python -m bench.watch``."""

from bench.harness.command import main
from bench.watch.benchmark import BENCHMARK

raise SystemExit(main(BENCHMARK))

"""Measure offloop's event loop beside its peers and a floor in C: ``python -m bench.loop``."""

from bench.harness.command import main
from bench.loop.benchmark import BENCHMARK

raise SystemExit(main(BENCHMARK))

"""What the benchmarks share: rows, goals, the runner, the report, the picture."""

"""The benchmark of process pools: see ``bench/README.md``."""

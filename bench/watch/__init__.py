"""The benchmark of the watch, which finds what blocks the loop: see ``bench/README.md``."""

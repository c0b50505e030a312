"""The benchmark of the event loop: see ``bench/README.md``."""

"""offloop measured beside its peers and beside the bare floor; start with ``bench/run.py``."""

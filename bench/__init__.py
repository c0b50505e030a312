"""offloop measured beside its peers: ``python -m bench.pools``, ``bench.loop`` and ``bench.watch``.

What they share stands in ``harness``. ``work`` and ``child`` stand beside it, for workers import
them: each import of theirs is part of what is measured, and one package is all that they pay for.
"""

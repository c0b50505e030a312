"""``python -m bench.loop``: the same as ``python bench/loop/run.py``."""

from bench.loop.run import main

raise SystemExit(main())

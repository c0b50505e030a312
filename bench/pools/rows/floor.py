"""The bare floor: what two processes without any Python can do on this machine."""

from __future__ import annotations

from bench.harness.rows import Metric, Row
from bench.pools.contenders import FLOOR

_CPU = "CPU of both processes per round trip"

ROW = Row(
    name="floor",
    title="The floor: two processes without Python",
    about="Round trips through a socket pair and through shared-memory rings, and copies.",
    metrics=(
        Metric("socketpair_us", "round trip through a socket pair, sleeping", "us"),
        Metric("socketpair_cpu_us", _CPU, "us"),
        Metric("ring_sleep_us", "round trip through rings and futexes, sleeping", "us"),
        Metric("ring_sleep_cpu_us", _CPU, "us"),
        Metric("ring_spin_us", "the same with a short spin before sleeping", "us"),
        Metric("ring_spin_cpu_us", _CPU, "us"),
        Metric(
            "copy_recycled_gb_s",
            "copy of 400 MB into recycled pages",
            "GB/s",
            higher_is_better=True,
        ),
        Metric("copy_fresh_gb_s", "copy of 400 MB into fresh pages", "GB/s", higher_is_better=True),
    ),
    contenders=(FLOOR,),
    program=("floor",),
    bound_s=120,
)

"""The rows of the table by name, in the order in which they are measured and shown."""

from bench.watch.rows import causes, cost, healthy, idle, starved, throughput, timed

_ALL = (
    *timed.ROWS,
    causes.ROW,
    starved.ROW,
    idle.ROW,
    cost.ROW,
    *throughput.ROWS,
    healthy.ROW,
)

ROWS = {row.name: row for row in _ALL}
